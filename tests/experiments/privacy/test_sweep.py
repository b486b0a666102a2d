"""A sweep over epsilons on generated hospitals: settings alike at each point, figures as in the runs' reports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from typer.testing import CliRunner

from common.errors import ConfigError
from experiments.cli import run_progress
from experiments.cli.main import app
from experiments.privacy import sweep
from experiments.privacy.sweep_page import POOLED, format_point
from experiments.report.document import report as reports
from experiments.runs import series

CONFIG = """
name: small
data: {options: {hospitals: 2, patients: 6, minutes: 0.5, leads: 1}}
model: {options: {widths: [4], kernel: 3, hidden: 4}}
training: {batch_size: 32, device: cpu, loss: weighted}
federation: {rounds: 1}
evaluation: {bootstrap: 20, bins: 64}
privacy: {delta: 0.01, sampling: 0.5, accountant: rdp, noise: seeded}
"""


@pytest.fixture(name="swept", scope="module")
def _swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("sweep")
    path = root / "small.yaml"
    path.write_text(CONFIG)
    folder = root / "out"
    folder.mkdir()
    return path, folder, sweep.run_sweep(path, [], ("none", "4"), (1, 2), folder, run_progress.QuietPrinter())


@pytest.mark.slow
def test_every_point_is_what_its_runs_say(swept: tuple[Path, Path, dict[str, Any]]) -> None:
    _, folder, result = swept
    assert json.loads((folder / "sweep.json").read_text()) == json.loads(json.dumps(result))
    reported: dict[tuple[str, str], list[Any]] = {}
    for run in result["runs"]:
        report = reports.from_json((Path(run["folder"]) / "report.json").read_text())
        assert report.federated is not None
        epsilon = run["settings"]["epsilon"]
        assert [item.epsilon_run <= 4.0 for item in report.privacy] == ([] if epsilon == "none" else [True, True])
        for site, item in {**report.federated.sites, POOLED: report.federated.pooled}.items():
            assert item is not None
            reported.setdefault((site, epsilon), []).append(item.macro_f1)
    assert len(reported) == 6
    for (site, epsilon), figures in reported.items():
        point = result["points"][site][epsilon]
        assert point["value"] == pytest.approx(mean(figure.value for figure in figures))
        ends = [(figure.low, figure.high) for figure in figures if figure.low is not None]
        expected = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (None, None)
        assert (point["low"], point["high"]) == pytest.approx(expected)
    with (folder / "sweep.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 12
    assert {row["sigma"] for row in rows if row["epsilon"] == "none"} == {""}
    assert all(3.9 < float(row["spent"]) <= 4 for row in rows if row["epsilon"] == "4" and row["site"] != "(pooled)")


@pytest.mark.slow
def test_the_points_differ_in_privacy_and_seed_alone(swept: tuple[Path, Path, dict[str, Any]]) -> None:
    path, _, result = swept
    runs, changed = sweep.plan_runs(path, [], ("none", "4"), (1, 2))
    plain = []
    for _, config in runs:
        raw = config.model_dump(exclude={"seed"})
        raw["privacy"] |= {"level": None, "epsilon": None}
        plain.append(raw)
    assert all(item == plain[0] for item in plain)
    assert "training.loss=cross_entropy" in changed
    assert "training.patience=0" not in changed  # it was so already
    assert changed == result["settings_of_all_points"]
    for scaling, expected in (("standard", "standard"), ("quantile", "auto"), ("site", "auto")):
        assert sweep.plan_runs(path, [f"data.scaling={scaling}"], ("1",), ())[0][0][1].data.scaling == expected
    assert runs[0][1].federation.choose == "last"
    unprotected = sweep.plan_runs(path, ["privacy.validation=unprotected"], ("1", "none"), ())[0]
    assert [config.federation.choose for _, config in unprotected] == ["best", "best"]


@pytest.mark.slow
def test_page_drawing_and_table_say_synthetic_and_all_sites(swept: tuple[Path, Path, dict[str, Any]]) -> None:
    _, folder, result = swept
    page, table = (folder / "sweep.html").read_text(), (folder / "sweep.md").read_text()
    for text in (page, (folder / "sweep.svg").read_text(), table):
        assert "SYNTHETIC" in text
        assert "NOT PRIVATE" in text
        for site in result["sites"]:
            assert site in text
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons", ""
    ).replace("https://matplotlib.org", "")
    assert "training.loss=cross_entropy" in table
    assert format_point(result["points"][POOLED]["4"]) in page
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was(
    swept: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, folder, result = swept
    ran: list[Any] = []
    original = series.run.run_experiment
    monkeypatch.setattr(series.run, "run_experiment", lambda *a, **k: ran.append(a) or original(*a, **k))
    assert sweep.run_sweep(path, [], ("none", "4"), (1, 2), folder, run_progress.QuietPrinter()) == result
    assert not ran
    again = sweep.run_sweep(path, [], ("none", "4", "2"), (1,), folder, run_progress.QuietPrinter())
    assert len(ran) == 1
    assert list(again["points"][POOLED]) == ["none", "4", "2"]


def test_hospitals_of_few_patients_come_first_and_missing_figures_are_said() -> None:
    def cell(site: str, patients: int, value: float | None, epsilon: str = "1") -> sweep.Cell:
        return sweep.Cell(epsilon, 1, site, patients, 3, None, None, None, "auroc", value, None, None)

    cells = [cell("b", 9, 0.5), cell("a", 30, None), cell("c", 2, 0.75), cell(POOLED, 41, 0.6)]
    assert list(sweep.training_patients_by_site(cells).items()) == [("c", 2), ("b", 9), ("a", 30)]
    point = sweep.summarise_point(cells, "a", "1")
    assert (point.value, point.each) == (None, ())
    assert format_point({"value": None}) == "n/a"
    assert format_point({"value": 0.5, "low": None}) == "0.500"


@pytest.mark.parametrize("wrong", ["", "x", "1,1.0", "none,none"])
def test_wrong_epsilons(wrong: str) -> None:
    with pytest.raises(ConfigError, match="--epsilons"):
        sweep.parse_epsilons(wrong)


def test_what_is_asked_for_is_read(tmp_path: Path) -> None:
    assert sweep.parse_epsilons("None, 10,0.5") == ("none", "10", "0.5")
    assert sweep.parse_seeds("") == ()
    assert sweep.parse_seeds("1, 2") == (1, 2)
    for wrong in ("a", "1,1", "-1"):
        with pytest.raises(ConfigError, match="--seeds"):
            sweep.parse_seeds(wrong)
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    refused = CliRunner().invoke(app, ["privacy", "sweep", str(path), "--epsilons", "0", "--runs", str(tmp_path / "r")])
    assert isinstance(refused.exception, ConfigError)
    assert not (tmp_path / "r").exists()
