"""Shapley values of trees against their definition, over all sets of known inputs."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client import input_scaling
from client.evaluation import attribution
from client.evaluation.tree_attribution import TreeExplainer, attribute_true_class
from client.policy import SIMULATION_POLICY
from client.site_context import SiteContext
from common.arrays import Weights
from common.errors import ConfigError
from common.flat_trees import UNITS, find_shares, flatten_trees
from common.lightgbm_text import to_lightgbm
from common.scaling import Scaling
from experiments.tree_files import flatten_in_units, to_xgboost
from sites.cohort import Cohort
from tests import tiny
from tests.experiments.test_tree_files import draw, grow

pytest.importorskip("lightgbm")


def weigh(weights: Weights, shares: np.ndarray, tree: int, row: np.ndarray, known: set[int]) -> np.ndarray:
    """Return what a tree adds on average where only some inputs are known, by the shares of a node's people."""

    def descend(position: int, ranges: dict[int, tuple[float, float]]) -> np.ndarray:
        places = weights["feature"].shape[1]
        if position >= places:
            return weights["value"][tree, position - places].astype(float)
        column = int(weights["feature"][tree, position])
        if column < 0:
            return descend(2 * position + 1, ranges)
        low, high = ranges.get(column, (0.0, 1.0))
        edge = min(max(shares[tree, position], low), high)
        share = np.clip((edge - low) / (high - low), 0.001, 0.999) if high > low else 0.5
        if column in known:
            value = row[column]
            left = (
                weights["missing_left"][tree, position]
                if np.isnan(value)
                else value < weights["threshold"][tree, position]
            )
            share = float(left)
        sides = (
            descend(2 * position + 1, {**ranges, column: (low, edge)}),
            descend(2 * position + 2, {**ranges, column: (edge, high)}),
        )
        return share * sides[0] + (1 - share) * sides[1]

    return descend(0, {})


def compute_slowly(weights: Weights, shares: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return the Shapley values `(outputs, inputs)` by their definition."""
    inputs = len(row)
    worth = {
        known: sum(weigh(weights, shares, tree, row, set(known)) for tree in range(len(weights["feature"])))
        for size in range(inputs + 1)
        for known in combinations(range(inputs), size)
    }
    values = np.zeros((len(weights["base"]), inputs))
    for column in range(inputs):
        for known in worth:
            if column in known:
                continue
            more = tuple(sorted((*known, column)))
            factor = factorial(len(known)) * factorial(inputs - len(known) - 1) / factorial(inputs)
            values[:, column] += factor * (np.asarray(worth[more]) - np.asarray(worth[known]))
    return values


def read_weights(model: torch.nn.Module) -> Weights:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def find_margins(weights: Weights, features: np.ndarray) -> np.ndarray:
    """Return what the trees of a model add up to, `(rows, outputs)`, in double precision."""
    every = set(range(features.shape[1]))
    shares = np.full(weights["feature"].shape, 0.5)
    return np.array(
        [
            weights["base"].astype(float)
            + sum(weigh(weights, shares, tree, row, every) for tree in range(len(weights["feature"])))
            for row in features
        ]
    )


@pytest.mark.parametrize(("make", "classes"), [(grow, 2), (grow, 3), (draw, 2)], ids=["two", "three", "standardised"])
def test_values_are_those_of_the_definition_and_add_up_to_the_margin(make: Any, classes: int) -> None:
    cohort, scaling, model = make(classes)
    features = input_scaling.apply_scaling(cohort, scaling).features[:12]
    assert np.isnan(features).any() or make is draw
    weights = read_weights(model)
    values, start = TreeExplainer(model, cohort.task, scaling).explain(features)
    np.testing.assert_allclose(values.sum(2) + start, find_margins(weights, features), rtol=0, atol=1e-6)
    shares = find_shares(weights, scaling)
    expected = np.array([compute_slowly(weights, shares, row) for row in features])
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_the_shares_of_a_split_are_those_of_the_people_below_it() -> None:
    cohort, scaling, model = grow(2)
    features, weights = input_scaling.apply_scaling(cohort, scaling).features, read_weights(model)
    shares = find_shares(weights, scaling)
    splits = np.argwhere(weights["feature"] >= 0)
    assert len(splits) > 50
    for tree, place in splits:
        column = features[:, weights["feature"][tree, place]]
        below = np.mean(column[~np.isnan(column)] < weights["threshold"][tree, place])
        assert shares[tree, place] == pytest.approx(below, abs=1e-4)
    for flat in flatten_trees(weights, weights["threshold"], scaling):
        assert abs(flat.units[0] - UNITS) <= len(flat.units)


def explain(cohort: Cohort, scaling: Scaling, model: torch.nn.Module, method: str) -> Any:
    config = tiny.run_config(model={"name": "boosting"}, evaluation__explain=method)
    scaled = input_scaling.apply_scaling(cohort, scaling)
    context = SiteContext(SIMULATION_POLICY)
    return attribution.compute_attributions(context, "a", model, scaled, config, scaling.to_bytes())


def test_a_site_reports_means_of_absolute_values_over_people() -> None:
    cohort, scaling, model = grow(2)
    cohort = cohort.take(np.arange(len(cohort.y)) < 100)
    explanation = explain(cohort, scaling, model, "shap")
    features = input_scaling.apply_scaling(cohort, scaling).features
    values = TreeExplainer(model, cohort.task, scaling).explain(features)[0][:, 0]
    assert (explanation.method, explanation.patients) == ("shap", 100)
    for name, expected in zip(cohort.task.features, np.abs(values).mean(0), strict=True):
        assert explanation.features[name] == pytest.approx(expected, rel=1e-3)
    signed = attribute_true_class(TreeExplainer(model, cohort.task, scaling), features, cohort.y)
    np.testing.assert_array_equal(signed, np.where(cohort.y[:, None] == 1, values, -values))


def test_networks_have_no_shapley_values() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.explain=shap is for trees"):
        tiny.run_config(evaluation__explain="shap")


def test_the_exported_files_give_the_same_values(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    cohort, scaling, model = grow(2)
    rows, weights = cohort.features[:50], read_weights(model)
    trees = flatten_in_units(weights, scaling)
    explainer = TreeExplainer(model, cohort.task, scaling)
    values, start = explainer.explain(input_scaling.apply_scaling(cohort, scaling).features[:50])
    expected = np.column_stack([values[:, 0], np.full(50, start[0])])
    text = lightgbm.Booster(model_str=to_lightgbm(trees, cohort.task))
    np.testing.assert_allclose(text.predict(rows, pred_contrib=True), expected, rtol=0, atol=1e-6)
    (tmp_path / "model.json").write_text(to_xgboost(trees, cohort.task))
    booster = xgboost.Booster(model_file=str(tmp_path / "model.json"))
    matrix = xgboost.DMatrix(rows, feature_names=booster.feature_names)
    np.testing.assert_allclose(booster.predict(matrix, pred_contribs=True), expected, rtol=0, atol=1e-5)
