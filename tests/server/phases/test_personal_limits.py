"""Personal models where a hospital's policy leaves room for one tested model: it answers for the federated one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server import app
from tests import tiny
from tests.server.test_canary import hospital, hospital_script, sites
from tests.wire import FakeGrid, Script

__all__ = ["sites"]  # a fixture
pytestmark = pytest.mark.usefixtures("waiting_clock", "sites")
DITTO: dict[str, Any] = {
    "federation__strategy": {"name": "ditto"}, "federation__choose": "last", "federation__rounds": 1,
    "evaluation__bins": 32, "evaluation__keep_resamples": False,
}  # fmt: skip
NOISY: dict[str, Any] = {
    "privacy__evaluation_epsilon": 2.0, "privacy__accountant": "rdp", "privacy__delta": 1e-5,
}  # fmt: skip
NOTE = (
    "personal model: not answered, because this site's policy leaves no second model to be tested "
    "(at most 1 in a run and 12 in 30 days)"
)


def strict_and_open(folder: Path, **policy: int) -> list[Script]:
    return [hospital_script(hospital(folder, "north", **policy)), hospital_script(hospital(folder, "south"))]


def run_federation(scripts: list[Script], out: Path, **config: Any) -> Any:
    app.run_federation(FakeGrid(scripts), tiny.run_config(**DITTO, **config), out)
    return json.loads((out / "federated.json").read_text())


@pytest.mark.parametrize("config", [{}, NOISY])
def test_a_limit_of_one_model_answers_for_the_federated_one(tmp_path: Path, config: dict[str, Any]) -> None:
    done = run_federation(strict_and_open(tmp_path, max_tested_models_per_run=1), tmp_path / "run", **config)
    assert done["lost"] == {}
    assert set(done["test"]["all"]) == {"north", "south"}
    assert set(done["test"]["personal"]) == {"south"}
    assert NOTE in done["test"]["all"]["north"]["notes"]
    assert not any("personal" in note for note in done["test"]["all"]["south"]["notes"])
    assert "without north, whose policy leaves no second model to be tested" in done["pooled"]["personal"]["notes"]


def test_where_no_hospital_has_room_there_are_no_personal_figures(tmp_path: Path) -> None:
    scripts = [hospital_script(hospital(tmp_path, name, max_tested_models_per_run=1)) for name in ("north", "south")]
    done = run_federation(scripts, tmp_path / "run")
    assert set(done["test"]["all"]) == {"north", "south"}
    assert not [name for name in (*done["test"], *done["pooled"]) if name.startswith("personal")]


def test_the_month_may_run_out_between_the_two_models(tmp_path: Path) -> None:
    """Three models in 30 days: two of the first run, one of the second, none of the third."""
    answered = []
    for number in range(3):
        scripts = strict_and_open(tmp_path, max_tested_models_per_run=2, max_tested_models_per_month=3)
        done = run_federation(scripts, tmp_path / f"run{number}")
        answered.append([name for name in ("all", "personal") if "north" in done["test"][name]])
    assert answered == [["all", "personal"], ["all"], []]
