"""Runs whose model is trees, from the command to a score, an evaluation at another hospital, and the model card."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from common.errors import UsageError
from common.files import write_text
from experiments.cli.main import app
from experiments.scoring import score
from experiments.scoring.score import open_model
from sites.datasets.eicu import simulate
from sites.datasets.eicu.unlabelled import read_unlabelled

RUN = {
    "name": "tree-run",
    "seed": 1,
    "data": {
        "dataset": "eicu",
        "options": {"simulated": True, "hospitals": 4, "stays": 40, "min_patients": 8, "encoding": "raw"},
    },
    "model": {"name": "boosting", "options": {"trees": 12, "depth": 2, "min_people": 2.0}},
    "training": {"loss": "cross_entropy"},
    "federation": {"rounds": 3, "choose": "last", "workers": 1},
    "evaluation": {"metric": "auroc", "bootstrap": 20},
    "baselines": {"local": False, "pooled": False},
}


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("trees")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_text(folder / "run.yaml", yaml.safe_dump(RUN))
        return folder / call("run", "run.yaml", "-q").strip().splitlines()[-1]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated patients of another hospital."""
    folder = tmp_path_factory.mktemp("rows") / "new"
    simulate.generate(folder, hospitals=2, stays=30, seed=9)
    return folder


def walk(tree: dict[str, Any], row: np.ndarray) -> float:
    """Return the value of the leaf that a row reaches in a tree of XGBoost's JSON."""
    node = 0
    while tree["left_children"][node] >= 0:
        value = row[tree["split_indices"][node]]
        left = tree["default_left"][node] if np.isnan(value) else value < tree["split_conditions"][node]
        node = tree["left_children" if left else "right_children"][node]
    return float(tree["split_conditions"][node])


def test_scores_are_the_sums_of_the_leaves_in_the_exported_file(run: Path, hospital: Path, tmp_path: Path) -> None:
    call("export", "--run", run, "--out", tmp_path / "model.json")
    content = json.loads((tmp_path / "model.json").read_text())["learner"]["gradient_booster"]["model"]
    call("score", "--run", run, "--data", hospital, "--out", tmp_path / "scores")
    with (tmp_path / "scores" / "scores.csv").open() as lines:
        scores = {line["record"]: line for line in csv.DictReader(lines)}
    rows = {
        name: row
        for rows in read_unlabelled(open_model(run).source(hospital))
        for name, row in zip(rows.cohort.patients, rows.cohort.features, strict=True)
    }
    assert set(scores) == set(rows)
    assert len(rows) > 20
    assert any(np.isnan(row).any() for row in rows.values())
    for name, row in rows.items():
        expected = sum(walk(tree, row) for tree in content["trees"])
        assert float(scores[name]["log_odds"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_factors_are_the_inputs_of_the_largest_effects(run: Path, hospital: Path, tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    call("export", "--run", run, "--out", tmp_path / "model.txt", "--for", "lightgbm")
    booster = lightgbm.Booster(model_file=str(tmp_path / "model.txt"))
    model = open_model(run)
    rows = {
        name: row
        for rows in read_unlabelled(model.source(hospital))
        for name, row in zip(rows.cohort.patients, rows.cohort.features, strict=True)
    }
    call("score", "--run", run, "--data", hospital, "--out", tmp_path / "scores", "--factors", 3)
    with (tmp_path / "scores" / "scores.csv").open() as lines:
        scores = {line["record"]: line for line in csv.DictReader(lines)}
    effects = booster.predict(np.array(list(rows.values()), np.float64), pred_contrib=True)
    for name, effect in zip(rows, effects, strict=True):
        assert effect.sum() == pytest.approx(float(scores[name]["log_odds"]), abs=1e-5)
        largest = np.sort(np.abs(effect[:-1]))[::-1][:3]
        given = [float(scores[name][f"effect_{rank}"]) for rank in (1, 2, 3)]
        assert np.abs(given) == pytest.approx(largest, abs=1e-5)
        for rank in (1, 2, 3):
            column = model.task.features.index(scores[name][f"factor_{rank}"])
            assert given[rank - 1] == pytest.approx(effect[column], abs=1e-5)


def test_networks_have_no_factors(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "grows_trees", lambda name: False)
    with pytest.raises(UsageError, match=r"--factors: .* is no model of trees"):
        open_model(run, explained=True)


def test_another_hospital_evaluates_it_and_the_card_names_what_the_server_received(
    run: Path, hospital: Path, tmp_path: Path
) -> None:
    report = json.loads(call("evaluate", "--run", run, "--data", hospital, "--out", tmp_path / "out", "--json"))
    assert report["models"][0]["pooled"]["patients"] > 20
    assert (tmp_path / "out" / "report.html").is_file()
    card = (run / "model_card.md").read_text()
    assert "boosting: trees that regions grow together from sums over their patients" in card
    assert "sums of gradients for the bins or leaves of the trees" in card
    program = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    program = re.sub(r"folder = Path\(.*\)", f"folder = Path({str(run)!r})", program)
    assert "NaN where not measured" in program
    given: dict[str, Any] = {}
    exec(program, given)
    assert given["probabilities"].sum().item() == pytest.approx(1.0)
