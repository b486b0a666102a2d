"""Series of runs, on generated hospitals: what varies, what is merged, and going on where one was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError
from common.metrics.counts_file import load_tables
from experiments.cli import run_progress
from experiments.report.document import report as reports
from experiments.runs import series
from experiments.runs.series import Plan

CONFIG = """
data: {options: {hospitals: 2, patients: 6, minutes: 0.5, leads: 1}}
model: {options: {widths: [4], hidden: 4}}
training: {batch_size: 32, device: cpu}
federation: {rounds: 1, choose: last}
evaluation: {bootstrap: 20, bins: 64}
baselines: {local: false, pooled: true}
"""


def test_a_plan_is_every_combination() -> None:
    plan = Plan.from_texts(["seed=1,2", "sites.fold=0,1,2"])
    assert len(plan.runs()) == 6
    assert plan.runs()[4] == {"seed": "2", "sites.fold": "1"}
    for wrong in (["seed"], ["seed="], ["=1"], ["seed=1", "seed=2"]):
        with pytest.raises(ConfigError, match="--over"):
            Plan.from_texts(wrong)


@pytest.mark.parametrize("over", [["seed=1,2,1"], ["seed=1,+1"], ["seed=3", "training.lr=0.01,1e-2"]])
def test_a_run_does_not_count_twice(tmp_path: Path, over: list[str]) -> None:
    path = tmp_path / "cross.yaml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match="are the same run, which must not count twice"):
        series.run_series(path, [], Plan.from_texts(over), tmp_path / "out", run_progress.QuietPrinter())
    assert not (tmp_path / "out").exists()


@pytest.fixture(name="cross", scope="module")
def _cross(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("series")
    path = root / "cross.yaml"
    path.write_text(CONFIG + "sites: {split: folds, folds: 3, validation: 0}\n")
    folder = root / "out"
    folder.mkdir()
    series.run_series(path, [], Plan.from_texts(["sites.fold=0,1,2"]), folder, run_progress.QuietPrinter())
    return path, folder


@pytest.mark.slow
def test_folds_are_merged_by_their_counts(cross: tuple[Path, Path]) -> None:
    _, folder = cross
    result = json.loads((folder / "series.json").read_text())
    runs = [Path(item["folder"]) for item in result["runs"]]
    assert len(runs) == 3
    confusion = np.zeros((4, 4), int)
    patients = 0
    for run in runs:
        report = reports.from_json((run / "report.json").read_text())
        assert report.federated is not None
        assert report.federated.pooled is not None
        confusion += np.asarray(report.federated.pooled.confusion)
        patients += report.federated.pooled.patients
        assert set(load_tables(run / "counts.safetensors")) == set(report.federated.sites)
    merged = result["merged"][""]["federated"]["(pooled)"]
    assert merged["confusion"] == confusion.tolist()
    assert merged["patients"] == patients == 12
    assert merged["accuracy"]["value"] == pytest.approx(np.trace(confusion) / confusion.sum())
    assert merged["accuracy"]["low"] < merged["accuracy"]["high"]
    assert set(result["merged"][""]) == {"federated", "pooled"}
    difference = result["differences"][""]["pooled"]["accuracy"]
    values = {name: each["(pooled)"]["accuracy"] for name, each in result["merged"][""].items()}
    assert difference["value"] == pytest.approx(values["federated"]["value"] - values["pooled"]["value"])
    drawn: dict[str, list[int]] = {}
    for name, path in (("federated", "counts.safetensors"), ("pooled", "counts.pooled.safetensors")):
        right, total = np.zeros(20), np.zeros(20)
        for run in runs:
            for tables in load_tables(run / path).values():
                confusion = tables["all/resampled"].confusion
                right, total = right + np.trace(confusion, axis1=1, axis2=2), total + confusion.sum((1, 2))
        drawn[name] = (right / total).tolist()
    pairs = np.subtract(drawn["federated"], drawn["pooled"])
    assert pairs.min() - 1e-9 <= difference["low"] <= np.median(pairs) <= difference["high"] <= pairs.max() + 1e-9
    spread = result["models"]["federated"]["(pooled)"]["accuracy"]
    assert spread["min"] <= spread["mean"] <= spread["max"]
    text = (folder / "series.md").read_text()
    assert text.startswith("> SYNTHETIC")
    assert "All folds together" in text
    assert "The federated model minus each other" in text


@pytest.mark.slow
def test_a_series_goes_on_where_it_was(cross: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = cross
    before = (folder / "series.json").read_text()
    ran = []
    original = series.run.run_experiment
    monkeypatch.setattr(series.run, "run_experiment", lambda *a: ran.append(a) or original(*a))
    series.run_series(path, [], Plan.from_texts(["sites.fold=0,1,2"]), folder, run_progress.QuietPrinter())
    assert not ran
    assert (folder / "series.json").read_text() == before
    series.run_series(
        path, ["training.lr=0.005"], Plan.from_texts(["sites.fold=0"]), folder, run_progress.QuietPrinter()
    )
    assert len(ran) == 1
