"""Trees whose splits are drawn by the run's seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.config import parse_config
from common.errors import ConfigError
from common.tree_plan import draw_trees, plan_run
from common.trees import TreePlan, bin_inputs, list_edges
from tests.common.model_checks import TASKS, build

PLAN = TreePlan(
    trees=60, rounds=3, depth=5, bins=8, sample=1.0, columns=1.0, inputs=3, outputs=1, seed=4, drawn=True
)  # fmt: skip


def test_each_split_divides_what_the_splits_above_it_left() -> None:
    trees, edges = draw_trees(PLAN), list_edges(8).tolist()
    used = set()
    for tree in range(PLAN.trees):
        for position in range(31):
            column, edge = int(trees["feature"][tree, position]), edges.index(trees["threshold"][tree, position]) + 1
            if column < 0:
                continue
            used.add((column, edge, int(trees["missing_left"][tree, position])))
            low, high, child = 0, 8, position
            while child:
                parent = (child - 1) // 2
                if trees["feature"][tree, parent] == column:
                    at = edges.index(trees["threshold"][tree, parent]) + 1
                    low, high = (max(low, at), high) if child % 2 == 0 else (low, min(high, at))
                child = parent
            assert low < edge < high
    assert len(used) == 3 * 7 * 2  # every input, edge and side of missing values is drawn somewhere


def test_they_depend_on_the_seed_and_the_tree_alone() -> None:
    trees = draw_trees(PLAN)
    fewer = draw_trees(replace(PLAN, trees=20, rounds=1))
    assert all(np.array_equal(trees[name][:20], fewer[name]) for name in ("feature", "threshold", "missing_left"))
    other = draw_trees(replace(PLAN, seed=5))
    assert not np.array_equal(trees["feature"], other["feature"])
    trees["feature"][:] = 9
    assert draw_trees(PLAN)["feature"].max() == 2  # a copy was given


def test_a_node_without_bins_to_divide_has_no_split() -> None:
    trees = draw_trees(replace(PLAN, inputs=1, bins=4, depth=5))
    split = trees["feature"] >= 0
    assert (split.sum(1) == 3).all()  # three edges of one input
    rows = np.linspace(-1.7, 1.7, 400, dtype=np.float32)[:, None]
    assert len(np.unique(bin_inputs(rows, 4))) == 4


def test_a_forest_needs_features_and_its_inputs_are_ranks() -> None:
    config = parse_config({"model": {"name": "forest", "options": {"trees": 12, "depth": 3}}})
    assert config.data.scaling == "bins"
    plan = plan_run(config, TASKS["table"])
    assert (plan.drawn, plan.messages, plan.sample, plan.columns) == (True, 1, 1.0, 1.0)
    with pytest.raises(ConfigError, match="a forest needs a classification task with features"):
        build("forest", TASKS["strips of 12 leads"])
    with pytest.raises(ConfigError, match=r"model\.name=forest needs federation\.strategy=fedavg"):
        parse_config({"model": {"name": "forest"}, "federation": {"strategy": {"name": "fedavgm"}}})
