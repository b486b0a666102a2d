"""A private run from its configuration to its report, and what is refused before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.privacy.ledger import Ledger
from common import config
from common.errors import ConfigError
from experiments.cli import run_progress
from experiments.report.document import report as model
from experiments.runs import run as launch

pytestmark = pytest.mark.slow  # whole runs, from their configuration to their report

RAW: dict[str, Any] = {
    "name": "private",
    "data": {"options": {"hospitals": 2, "patients": 5, "minutes": 0.5}},
    "sites": {"validation": 0},
    "training": {"loss": "cross_entropy"},
    "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
    "federation": {"rounds": 2, "choose": "last"},
    "evaluation": {"bootstrap": 10},
    "baselines": {"local": False, "pooled": False},
    "privacy": {"epsilon": 5.0, "delta": 0.01, "sampling": 0.5, "accountant": "rdp"},
}


def run(root: Path, *settings: str) -> tuple[Path, model.Report]:
    folder = launch.run_experiment(config.parse_config(RAW, settings), root, run_progress.QuietPrinter())
    return folder, model.from_json((folder / "report.json").read_text())


@pytest.mark.parametrize("level", ["patient", "record"])
def test_the_report_says_what_the_ledgers_say(tmp_path: Path, level: str) -> None:
    folder, report = run(tmp_path, f"privacy.level={level}", "privacy.delta=0.001")
    assert report.run.status == "complete"
    assert len(report.privacy) == 2
    for item in report.privacy:
        rows = Ledger.read(folder / "sites" / item.site / "privacy.sqlite").rows()
        assert (item.epsilon, item.sigma, item.steps) == (rows[-1].epsilon, rows[-1].sigma, sum(r.steps for r in rows))
        assert item.level == level
        assert 4.9 < item.epsilon <= 5.0
    page = (folder / "report.html").read_text()
    assert 'id="privacy"' in page
    assert "NOT PRIVATE" not in page


@pytest.mark.parametrize(
    ("at", "says"), [("site", "the noise is added at the hospital"), ("server", "must be trusted")]
)
def test_the_report_says_what_a_hospitals_privacy_is(tmp_path: Path, at: str, says: str) -> None:
    _, report = run(tmp_path, "privacy.level=hospital", f"privacy.noise_at={at}", "privacy.weight_total=2",
                    "federation.weights=equal", "privacy.clip=0.1")  # fmt: skip
    assert report.run.status == "complete"
    assert {(item.level, item.unit, item.units, item.steps, item.noise_at) for item in report.privacy} == {
        ("hospital", "hospital", 1, 2, at)
    }
    page = next(tmp_path.glob("*/report.html")).read_text()
    assert "if the contribution of one hospital is zero" in page
    assert says in page


def test_seeded_runs_are_the_same_and_marked(tmp_path: Path) -> None:
    result = [
        run(tmp_path / name, "privacy.noise=seeded", f"federation.workers={n}") for n, name in ((1, "a"), (2, "b"))
    ]
    (_, one), (_, other) = result
    assert [line.weights for line in one.rounds] == [line.weights for line in other.rounds]
    assert one.has("not-private")
    assert "NOT PRIVATE" in (result[0][0] / "report.html").read_text()


def test_an_epsilon_that_cannot_be_kept_ends_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        run(tmp_path, "privacy.epsilon=1e-9", "privacy.delta=1e-12")
    assert not list(tmp_path.iterdir())
