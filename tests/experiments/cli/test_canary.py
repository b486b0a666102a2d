"""`wardround canary`: what it prints, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.cli import main
from experiments.cli.canary import list_problems
from experiments.runs import canary
from experiments.runs.canary import is_good

SITE = {"protocol": 6, "release": "0.1.0", "device": "cpu", "load_seconds": 1.2, "step_seconds": 0.034}
GOOD: dict[str, Any] = {"sites": {"north": SITE, "va": SITE}, "missing": {}, "problems": []}
REFUSED = GOOD | {"sites": {"north": SITE, "va": SITE | {"refusals": ["policy: too few", "budget spent"]}}}
MISSING = GOOD | {"sites": {"north": SITE}, "missing": {"va": "did not connect within 120 s"}}


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (GOOD, 0, ["north     ready   0.1.0    6", "1.2 s", "0.034 s", "ready: 2 of 2 hospitals answered"]),
        (REFUSED, 1, ["would refuse", "va: policy: too few", "va: budget spent", "NOT READY: 2 of 2"]),
        (MISSING, 1, ["va: did not connect within 120 s", "NOT READY: 1 of 2 hospitals answered"]),
        (GOOD | {"problems": ["1 of 3 sites answered"]}, 1, ["1 of 3 sites answered", "NOT READY"]),
    ],
)
def test_what_stands_in_the_way_is_printed(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], code: int, says: list[str]
) -> None:
    monkeypatch.setattr(canary, "ask_all_sites", lambda config, watcher: answer)
    result = CliRunner().invoke(main.app, ["canary", "synthetic"])
    assert result.exit_code == code
    for text in says:
        assert text in result.output
    as_json = CliRunner().invoke(main.app, ["canary", "synthetic", "--json"])
    assert (json.loads(as_json.stdout), as_json.exit_code) == (answer, code)


def test_nothing_at_all_is_not_good() -> None:
    assert not is_good({"sites": {}, "missing": {}, "problems": []})
    assert list_problems(GOOD) == []


def test_a_canary_of_simulated_hospitals_leaves_no_folder(hospitals: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(
        f"data: {{path: {hospitals}}}\nmodel: {{options: {{widths: [4], hidden: 4}}}}\ntraining: {{device: cpu}}\n"
    )
    result = CliRunner().invoke(main.app, ["canary", str(path), "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert list(answer["sites"]) == ["north", "south"]
    assert all(site["step_seconds"] > 0 for site in answer["sites"].values())
    assert list(tmp_path.iterdir()) == [path]
