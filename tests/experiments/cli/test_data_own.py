"""Own data in two commands: `wardround data init FILE`, `wardround run FILE-run.yaml`; then score and check."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from sites.datasets.table import simulate


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "data"
    simulate.generate(folder, hospitals=3, patients=60, seed=1)
    (folder / "table.yaml").unlink()
    return folder


def invoke(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_a_csv_to_a_report_without_python(table: Path, tmp_path: Path) -> None:
    said = invoke("data", "init", str(table / "hospitals.csv"))
    assert "180 rows, 9 columns" in said
    run = table / "hospitals-run.yaml"
    again = CliRunner().invoke(app, ["data", "init", str(table / "hospitals.csv")])
    assert again.exit_code != 0
    runs = tmp_path / "runs"
    invoke("run", str(run), "--runs", str(runs), "--set", "federation.rounds=5", "--set", "baselines.local=false",
           "--set", "baselines.pooled=false", "--set", "baselines.classical=[]")  # fmt: skip
    folder = next(runs.iterdir())
    report = json.loads((folder / "report.json").read_text())
    assert "SYNTHETIC" in (folder / "report.html").read_text()
    assert "hospital-2" in json.dumps(report)
    new = tmp_path / "new"
    new.mkdir()
    frame = pd.read_csv(table / "hospitals.csv").drop(columns=["died", "hospital"]).head(30)
    frame.to_csv(new / "monday.csv", index=False)
    invoke("score", "--run", str(folder), "--data", str(new), "--out", str(tmp_path / "scores.csv"))
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert len(scores) == 30
    assert "readable" in invoke("data", "check", str(table), "--contract", str(table / "table.yaml"))
