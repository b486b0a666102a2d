"""Trees as arrays, as a model and in a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from common import models
from common.config import parse_config
from common.errors import ConfigError
from common.sections.training import ModelConfig
from common.trees import TreePlan, add_trees, bin_inputs, list_edges, list_open_nodes
from tests.common.model_checks import TASKS, build


def walk(trees: dict[str, Any], tree: int, row: np.ndarray, depth: int) -> Any:
    """Return the leaf of one example by following the splits one by one."""
    place = 0
    for _ in range(depth):
        column = trees["feature"][tree][place]
        left = True
        if column >= 0:
            value = row[column]
            left = trees["missing_left"][tree][place] if np.isnan(value) else value < trees["threshold"][tree][place]
        place = 2 * place + (1 if left else 2)
    return trees["value"][tree][place - (2**depth - 1)]


@pytest.mark.parametrize("title", ["table", "beats"])
def test_the_model_adds_the_leaves_that_each_example_reaches(title: str) -> None:
    task, rng = TASKS[title], np.random.default_rng(2)
    model = build("boosting", task, trees=7, depth=3)
    trees = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    trees["feature"][:] = rng.integers(-1, len(task.features), trees["feature"].shape)
    trees["threshold"][:] = rng.choice(list_edges(64), trees["threshold"].shape)
    trees["missing_left"][:] = rng.integers(0, 2, trees["missing_left"].shape)
    trees["value"][:] = rng.normal(size=trees["value"].shape)
    trees["base"][:] = 0.5
    model.load_state_dict({name: torch.from_numpy(value) for name, value in trees.items()})
    rows = rng.uniform(-1.7, 1.7, (40, len(task.features))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    slow = np.array([0.5 + sum(walk(trees, tree, row, 3) for tree in range(7)) for row in rows])
    logits = model(torch.zeros(40, task.channels, task.samples), torch.from_numpy(rows)).numpy()
    expected = np.hstack([np.zeros_like(slow), slow]) if task.binary else slow
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    scores = add_trees(trees, range(7), rows, np.full((40, slow.shape[1]), 0.5, np.float32), 3)
    np.testing.assert_allclose(scores, slow, atol=1e-5)


def test_a_value_is_left_of_an_edge_exactly_if_its_bin_is() -> None:
    edges = list_edges(16)
    values = np.concatenate([edges, np.nextafter(edges, -9), np.linspace(-2, 2, 200)]).astype(np.float32)[:, None]
    binned = bin_inputs(values, 16)
    for number, edge in enumerate(edges):
        assert np.array_equal(values[:, 0] < edge, binned[:, 0] <= number)
    assert bin_inputs(np.full((1, 1), np.nan, np.float32), 16)[0, 0] == 16


def test_each_tree_belongs_to_one_round_and_open_nodes_have_only_splits_above() -> None:
    plan = TreePlan(10, 4, 2, 8, 1.0, 0.5, 6, 1, 1)
    assert [tree for number in range(1, 5) for tree in plan.list_trees(number)] == list(range(10))
    assert len(plan.draw_columns(3)) == 3
    feature = np.full((1, 3), -1)
    assert list_open_nodes({"feature": feature}, 0, 1) == []
    feature[0, :2] = 0
    assert list_open_nodes({"feature": feature}, 0, 1) == [0, 1]
    assert list_open_nodes({"feature": feature}, 0, 2) == [0, 1]


def test_trees_scale_by_bins_and_refuse_what_does_not_go_with_them() -> None:
    assert parse_config({"model": {"name": "boosting"}}).data.scaling == "bins"
    for settings, said in (
        ({"privacy": {"epsilon": 2}}, "model.name=forest with privacy"),
        ({"data": {"scaling": "standard"}}, "data.scaling=bins"),
        ({"federation": {"strategy": {"name": "krum"}}}, "federation.strategy=fedavg"),
        ({"training": {"loss": "focal"}}, "training.loss"),
        ({"evaluation": {"explain": "integrated_gradients"}}, "occlusion"),
    ):
        with pytest.raises(ConfigError, match=said):
            parse_config({"model": {"name": "boosting"}, **settings})
    with pytest.raises(ConfigError, match="only trees take"):
        parse_config({"data": {"scaling": "bins"}})


@pytest.mark.parametrize(
    ("title", "options", "said"),
    [
        ("strips of 12 leads", {}, "needs a classification task with features"),
        ("table", {"monotone": {"weight": 1}}, "no input 'weight'"),
        ("table", {"monotone": {"f0": 2}}, "f0 must be 1 or -1"),
        ("beats", {"monotone": {"f0": 1}}, "two classes"),
    ],
)
def test_a_task_or_option_that_does_not_fit_is_refused(title: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        models.build_model(TASKS[title], ModelConfig(name="boosting", options=options), 1)
