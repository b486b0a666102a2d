"""Exported trees, loaded by the libraries that they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client import input_scaling
from common import models
from common.lightgbm_text import LARGEST, to_lightgbm
from common.scaling import Scaling
from common.tree_plan import draw_trees, plan_run
from experiments.baselines.trees import grow_trees
from experiments.tree_files import find_limits, flatten_in_units, to_xgboost
from experiments.tree_onnx import build_tree_graph
from sites.cohort import Cohort
from tests import tiny


def make_cohort(classes: int) -> Cohort:
    """Return a table with missing values, ties and a column of large numbers."""
    rng = np.random.default_rng(4)
    n, labels = 500, tuple(f"c{k}" for k in range(classes))
    task = replace(
        tiny.TASK, classes=labels, class_titles=labels, channels=0, samples=0, channel_names=(), rate_hz=0.0,
        features=("age [years]", "sex", "lactate", "cells"), missing=True,
    )  # fmt: skip
    x = np.column_stack([rng.normal(60, 9, n), rng.integers(0, 2, n), rng.gamma(1, 2, n), rng.lognormal(9, 2, n)])
    y = np.digitize(x[:, 0] / 9 + x[:, 1] + rng.normal(size=n), [7.2, 8.2][: classes - 1])
    x = np.where(rng.random(x.shape) < 0.15, np.nan, x).astype(np.float32)
    names = tuple(map(str, range(n)))
    return Cohort(
        task, np.zeros((n, 0, 0), np.float32), x, y, np.arange(n), names, names, np.zeros(n, np.int8)
    )  # fmt: skip


def grow(classes: int) -> tuple[Cohort, Scaling, torch.nn.Module]:
    cohort = make_cohort(classes)
    options = {"trees": 24, "depth": 3, "bins": 32, "min_people": 3.0}
    config = tiny.run_config(model={"name": "boosting", "options": options}, federation__rounds=6)
    scaling = input_scaling.fit_scaling([cohort], "bins")
    assert scaling is not None
    model = models.build_model(cohort.task, config.model, 1)
    grow_trees(model, input_scaling.apply_scaling(cohort, scaling), config, "pooled")
    return cohort, scaling, model


def draw(classes: int) -> tuple[Cohort, Scaling, torch.nn.Module]:
    """Return a forest as private runs have it: of standardised inputs, where a missing one is the mean."""
    cohort = make_cohort(classes)
    config = tiny.run_config(model={"name": "forest", "options": {"trees": 20, "depth": 4, "bins": 16}})
    model = models.build_model(cohort.task, config.model, 1)
    leaves = np.random.default_rng(3).normal(0, 0.1, model.state_dict()["value"].shape)
    arrays = {**draw_trees(plan_run(config, cohort.task)), "value": leaves}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    scaling = input_scaling.fit_scaling([cohort], "standard")
    assert scaling is not None
    return cohort, scaling, model


def predict(cohort: Cohort, scaling: Scaling, model: torch.nn.Module) -> Any:
    scaled = input_scaling.apply_scaling(cohort, scaling)
    return torch.softmax(model(torch.from_numpy(scaled.x), torch.from_numpy(scaled.features)).double(), 1).numpy()


@pytest.mark.parametrize(("make", "classes"), [(grow, 2), (grow, 3), (draw, 2)], ids=["two", "three", "standardised"])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "onnxruntime"])
def test_the_library_gives_the_probabilities_of_the_model(
    library: str, make: Callable[[int], tuple[Cohort, Scaling, torch.nn.Module]], classes: int, tmp_path: Path
) -> None:
    loaded: Any = pytest.importorskip(library)
    cohort, scaling, model = make(classes)
    rng = np.random.default_rng(8)
    rows = np.concatenate([cohort.features, cohort.features * rng.uniform(0.5, 2, cohort.features.shape)])
    many = replace(
        cohort,
        x=np.zeros((len(rows), 0, 0), np.float32),
        features=rows.astype(np.float32),
        y=np.zeros(len(rows), np.int64),
        patient=np.zeros(len(rows), np.int64),
        split=np.zeros(len(rows), np.int8),
    )
    trees = flatten_in_units({name: value.numpy() for name, value in model.state_dict().items()}, scaling)
    path = tmp_path / "model.json"
    if library == "xgboost":
        path.write_text(to_xgboost(trees, cohort.task))
        booster = loaded.Booster(model_file=str(path))
        names = booster.feature_names
        result = booster.predict(loaded.DMatrix(many.features, feature_names=names))
    elif library == "lightgbm":
        path.write_text(to_lightgbm(trees, cohort.task))
        result = loaded.Booster(model_file=str(path)).predict(many.features)
    else:
        graph = build_tree_graph(trees, cohort.task, "features", "probabilities")
        session = loaded.InferenceSession(graph.SerializeToString())
        (result,) = session.run(["probabilities"], {"features": many.features})
        result = result[:, 1] if classes == 2 else result
    assert np.isnan(many.features).any()
    expected = predict(many, scaling, model)
    np.testing.assert_allclose(result, expected[:, 1] if classes == 2 else expected, rtol=0, atol=1e-6)
    assert expected.std(0).min() > 0.05  # the model distinguishes examples


def test_a_limit_is_the_smallest_number_that_does_not_go_left() -> None:
    _, scaling, model = grow(2)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    limits = find_limits(weights, scaling)
    split = np.argwhere(weights["feature"] >= 0)
    assert len(split) > 50
    for tree, place in split:
        column, limit = weights["feature"][tree, place], limits[tree, place]
        if abs(limit) >= LARGEST:
            continue
        pair = np.array([np.nextafter(limit, np.float32(-np.inf)), limit], np.float32)
        ranked = scaling.apply(pair[:, None], int(column))[:, 0] < weights["threshold"][tree, place]
        assert ranked.tolist() == [True, False]
