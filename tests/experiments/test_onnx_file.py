"""Models as ONNX files: ONNX Runtime gives the program's probabilities for inputs in their own units."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from client import input_scaling
from client.training.local_update import copy_weights
from common import models
from common.errors import ConfigError, DataError
from common.files import write_arrays, write_bytes
from common.run_folder import RunFolder
from common.scaling import Scaling
from common.task import Task
from common.tree_plan import draw_trees, plan_run
from experiments import onnx_file
from experiments.cli.main import app
from experiments.onnx_file import export_onnx
from sites.cohort import Cohort
from tests import tiny

TABLE = replace(
    tiny.TASK, classes=("alive", "died"), class_titles=("alive", "died"), channels=0, samples=0, rate_hz=0.0,
    features=("age [years]", "lactate", "cells"), channel_names=(), missing=True, units=True,
)  # fmt: skip
HOURS = replace(tiny.TASK, channels=2, channel_names=("hr", "map"), units=True, missing=True)
FOREST = {"name": "forest", "options": {"trees": 10, "depth": 4, "bins": 16}}


def make_cohort(task: Task, rows: int, seed: int) -> Cohort:
    rng = np.random.default_rng(seed)
    features = np.stack([rng.normal(60, 9, rows), rng.gamma(1, 2, rows), rng.lognormal(9, 2, rows)], 1)
    features = np.where(rng.random(features.shape) < 0.15, np.nan, features)[:, : len(task.features)]
    x = 80 + 20 * rng.normal(size=(rows, task.channels, task.samples))
    x[rng.random(x.shape) < 0.1] = np.nan
    names, y = tuple(map(str, range(rows))), rng.integers(0, 2, (rows, 2) if task.kind == "multilabel" else rows)
    return Cohort(
        task, x.astype(np.float32), features.astype(np.float32), y, np.arange(rows), names,
        names, np.zeros(rows, np.int8),
    )  # fmt: skip


def make_run(folder: Path, task: Task, model: dict[str, Any], scaling: str) -> tuple[Scaling, torch.nn.Module]:
    """Write a run's folder with an untrained model; return its scaling and the model."""
    config = tiny.run_config(model=model, data__scaling=scaling)
    fitted = input_scaling.fit_scaling([make_cohort(task, 300, 1)], scaling)
    built = models.build_model(task, config.model, 3)
    for number, parameter in enumerate(built.parameters()):  # logistic regression begins with zeros
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    if model["name"] == "forest":
        drawn = {name: torch.from_numpy(value) for name, value in draw_trees(plan_run(config, task)).items()}
        built.load_state_dict({**drawn, "value": built.state_dict()["value"]})
    files = RunFolder(folder)
    folder.mkdir()
    files.config.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    outcome = {"status": "complete", "task": task.to_dict(), "chosen": 1, "sites": {"north": {"synthetic": True}}}
    files.outcome.write_text(json.dumps(outcome), encoding="utf-8")
    write_arrays(files.weights(), copy_weights(built))
    assert fitted is not None
    write_bytes(files.scaling(), fitted.to_bytes())
    return fitted, built.eval()


@pytest.mark.parametrize(
    ("task", "model", "scaling"),
    [
        (TABLE, {"name": "logreg"}, "standard"),
        (TABLE, {"name": "mlp", "options": {"widths": [8]}}, "quantile"),
        (
            replace(TABLE, kind="multilabel"),
            {"name": "mlp", "options": {"widths": [8]}},
            "standard",
        ),
        (TABLE, FOREST, "bins"),
        (replace(TABLE, kind="multilabel"), FOREST, "bins"),
        (HOURS, {"name": "cnn", "options": {"widths": [4], "kernel": 3, "hidden": 4}}, "standard"),
    ],
    ids=["logreg", "ranks", "labels", "trees", "labels of trees", "signal"],
)
def test_onnx_runtime_gives_the_probabilities_of_the_model(
    task: Task, model: dict[str, Any], scaling: str, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    fitted, built = make_run(tmp_path / "run", task, model, scaling)
    assert export_onnx(tmp_path / "run", tmp_path / "model.onnx") <= 1e-5
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    taken = [each.name for each in session.get_inputs()]
    assert taken == [name for name, count in (("signal", task.channels), ("features", len(task.features))) if count]
    for rows in (1, 200):  # other numbers of examples than the file was made from
        cohort = make_cohort(task, rows, 7)
        inputs = {name: x for name, x in (("signal", cohort.x), ("features", cohort.features)) if name in taken}
        (found,) = session.run(None, inputs)
        scaled = input_scaling.apply_scaling(cohort, fitted)
        logits = built(torch.from_numpy(np.ascontiguousarray(scaled.x)), torch.from_numpy(scaled.features)).detach()
        expected = torch.sigmoid(logits) if task.kind == "multilabel" else torch.softmax(logits, 1)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
        assert np.ptp(found) > 0.01  # they are not all alike
    about = session.get_modelmeta().custom_metadata_map
    assert (json.loads(about["features"]), about["synthetic"]) == (list(task.features), "true")


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    make_run(tmp_path / "run", TABLE, {"name": "logreg"}, "standard")
    build = onnx_file._build_graph

    def build_another(whole: onnx_file.ScaledModel, example: Any) -> Any:
        whole.get_buffer("centre")[0] += 0.01  # a hundredth of a year
        return build(whole, example)

    monkeypatch.setattr(onnx_file, "_build_graph", build_another)
    with pytest.raises(DataError, match="outputs of the ONNX file differ"):
        export_onnx(tmp_path / "run", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_models_that_cannot_be_exported_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    make_run(tmp_path / "own", TABLE, {"name": "logreg"}, "standard")
    files = RunFolder(tmp_path / "own")
    files.scaling().unlink()
    files.config.write_text(files.config.read_text().replace("scaling: standard", "scaling: site"))
    with pytest.raises(ConfigError, match="each hospital scales its own inputs"):
        export_onnx(tmp_path / "own", tmp_path / "model.onnx")
    result = CliRunner().invoke(app, ["export", "--run", str(tmp_path), "--out", str(tmp_path / "m"), "--for", "onnx"])
    assert result.exit_code != 0
    assert not list(tmp_path.glob("m*"))
