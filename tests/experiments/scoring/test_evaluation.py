"""A run's model on the labelled data of another hospital: all patients count, also those without a score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from common import models
from common.config import config_to_json, parse_config
from common.errors import DataError
from common.task import Task
from experiments.cli.main import app
from experiments.scoring import evaluation
from experiments.scoring.score import ScoringModel, open_model
from sites.datasets import open_source
from sites.datasets.sepsis import simulate

RAW = {
    "title": "Early sepsis",
    "data": {"dataset": "sepsis", "scaling": "none"},
    "model": {"name": "logreg"},
    "evaluation": {"bootstrap": 40, "metric": "auroc"},
}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generated hospitals with the hours of 25 patients each."""
    folder = tmp_path_factory.mktemp("sepsis") / "new"
    simulate.generate(folder, patients=25, seed=3)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with an untrained model."""
    config, folder = parse_config(RAW), tmp_path / "run"
    task = open_source(config, folder).task()
    folder.mkdir()
    (folder / "config.yaml").write_text(config_to_json(config))
    (folder / "run.json").write_text(
        json.dumps({"id": "trial", "title": "Early sepsis", "status": "complete", "data": {}})
    )
    outcome = {"task": task.to_dict(), "threshold": 0.25, "chosen": 1, "sites": {"north": {"synthetic": True}}}
    (folder / "federated.json").write_text(json.dumps(outcome))
    save_file(models.build_model(task, config.model, 1).state_dict(), folder / "model.safetensors")
    return folder


def evaluate(*words: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def test_every_labelled_hour_counts_and_those_without_a_score_are_named(
    run: Path, hospital: Path, tmp_path: Path
) -> None:
    done = evaluate("--run", run, "--data", hospital, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    model = open_model(run)
    source = model.source(hospital)
    for name in ("A", "B"):
        ids = sorted(item.id for item in source.patients() if item.site == name)
        cohort = source.read(ids)
        unscored = evaluation.find_unscored(source, cohort)
        assert 0 < unscored.sum() < len(ids) * 3
        odds = np.diff(np.asarray(model.predict(model.scale(cohort)), np.float64))[:, 0]
        odds[unscored] = min(odds[~unscored].min(), 0.25 - 1) - 1
        figures = report["models"][0]["sites"][name]
        assert figures["patients"] == len(ids) == 25
        assert figures["examples"] == len(cohort.y)
        assert figures["classes"]["sepsis"]["auroc"]["value"] == pytest.approx(roc_auc_score(cohort.y, odds), abs=2e-3)
        silent, alarm = cohort.utility.T.astype(np.float64)
        gained, best = np.where(odds >= 0.25, alarm, silent).sum(), np.maximum(alarm, silent).sum()
        assert figures["utility"]["value"] == pytest.approx((gained - silent.sum()) / (best - silent.sum()), abs=1e-6)
        assert figures["utility"]["low"] <= figures["utility"]["value"] <= figures["utility"]["high"]
        [notice] = [item["text"] for item in report["notices"] if item["text"].startswith(f"{name}: ")]
        assert notice.startswith(f"{name}: {unscored.sum()} of {len(cohort.y):,} examples have no score")
        assert "counted in, as the lowest score and so as no alarm" in notice
    assert report["models"][0]["pooled"]["patients"] == 50
    assert report["run"]["title"] == "Early sepsis, federated model, evaluated at A, B"
    assert report["notices"][0]["level"] == "synthetic"
    assert {"report.html", "report.json", "summary.md", "sites.csv"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_a_single_hospital_has_the_name_that_is_given(run: Path, hospital: Path, tmp_path: Path) -> None:
    data = hospital / "training" / "training_setA"
    done = evaluate("--run", run, "--data", data, "--out", tmp_path / "out", "--name", "St. Mary's", "-q")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'out'}\n"), done.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["models"][0]["sites"]) == ["St. Mary's"]


def test_the_folder_of_a_run_is_not_written_over(run: Path, hospital: Path) -> None:
    (run / "events.jsonl").touch()
    with pytest.raises(DataError, match="is the folder of a run"):
        evaluation.evaluate_model(open_model(run), run, hospital, run, "x")


BINARY = Task("t", "multiclass", ("no", "yes"), ("", ""), 0, 0, 0.0, ("a",), ())
THREE = Task("t", "multiclass", ("a", "b", "c"), ("", "", ""), 0, 0, 0.0, ("a",), ())
LABELS = Task("t", "multilabel", ("a", "b"), ("", ""), 0, 0, 0.0, ("a",), ())


@pytest.mark.parametrize(
    ("task", "threshold", "logits", "expected"),
    [
        (BINARY, None, [[0, 3], [0, 1], [0, np.nan]], [0, -1]),
        (BINARY, -4.0, [[0, 3], [0, 1], [np.inf, 0]], [0, -5]),
        (BINARY, 2.0, [[0, 3], [0, -9], [np.nan, 0]], [0, -9]),
        (BINARY, None, [[np.nan, 0], [np.nan, 0], [np.nan, 0]], [0, -1]),
        (THREE, None, [[0, 3, 1], [0, 1, 1], [0, 0, np.nan]], [0, 0, 0]),
        (LABELS, None, [[2, -3], [5, -7], [np.nan, 0]], [-1, -7]),
    ],
)
def test_an_example_without_a_score_gets_the_lowest(
    task: Task, threshold: float | None, logits: list[list[float]], expected: list[float]
) -> None:
    given = np.asarray(logits, np.float32)
    unscored = ~np.isfinite(given).all(1)
    model = ScoringModel("r", "federated", parse_config({}), task, lambda _: given, threshold=threshold)
    filled = np.asarray(evaluation.fill_unscored(given, unscored, model))
    assert filled[-1].tolist() == expected
    assert np.array_equal(filled[~unscored], given[~unscored])
