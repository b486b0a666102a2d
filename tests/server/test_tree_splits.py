"""Splits from merged sums against an exhaustive search, and whole models against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.training.histograms import TrainingTable
from common.arrays import Weights
from common.trees import GRAIN, TreePlan, add_trees, bin_inputs, empty_trees, list_edges
from server.tree_splits import RoundGrower, SplitRules, compute_base

RULES = SplitRules(l2=1.0, min_people=0.0, min_hessian=1e-3, min_gain=0.0, monotone={}, step=0.2)


def make_plan(**values: object) -> TreePlan:
    given: dict[str, object] = {"trees": 10, "rounds": 10, "depth": 3, "bins": 16, "sample": 1.0, "columns": 1.0}
    given |= {"inputs": 4, "outputs": 1, "seed": 1}
    return TreePlan(**(given | values))  # type: ignore[arg-type]


def make_rows(rows: int = 600, classes: int = 2, missing: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    x = rng.uniform(-1.73, 1.73, (rows, 4)).astype(np.float32)
    score = 2 * x[:, 0] + np.where(x[:, 1] > 0.3, 1.5, -0.5) * x[:, 2]
    y = np.digitize(score + rng.normal(size=rows), np.quantile(score, np.arange(1, classes) / classes))
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


def grow(
    parts: list[TrainingTable],
    plan: TreePlan,
    rules: SplitRules,
    base: np.ndarray,
    gains: dict[int, float] | None = None,
) -> Weights:
    trees = {**empty_trees(plan), "base": base.astype(np.float32)}
    for number in range(1, plan.rounds + 1):
        grower = RoundGrower(trees, plan, rules, number)
        for depth in range(plan.depth):
            each = [part.sum_nodes(trees, number, depth, lambda tree, n: np.ones(n, bool)) for part in parts]
            sums = [sum(getattr(one, name) for one in each) for name in ("gradient", "hessian", "people")]
            grower.split_nodes(depth, *sums)
        if gains is not None:
            gains |= grower.gains
    return trees


def make_table(x: np.ndarray, y: np.ndarray, plan: TreePlan) -> TrainingTable:
    return TrainingTable(x, y, np.arange(len(y)), plan, np.ones(len(y)))


def test_the_first_split_is_the_best_of_all() -> None:
    plan, (x, y) = make_plan(depth=1, trees=1, rounds=1), make_rows()
    gains: dict[int, float] = {}
    trees = grow([make_table(x, y, plan)], plan, RULES, np.zeros(1), gains)
    g, best = 0.5 - y, (-np.inf, 0, 0.0, False)
    for column in range(4):
        for edge in list_edges(plan.bins).tolist():
            for missing_left in (True, False):
                left = np.where(np.isnan(x[:, column]), missing_left, x[:, column] < np.float32(edge))
                gain = sum(g[side].sum() ** 2 / (side.sum() / 4 + 1) for side in (left, ~left))
                best = max(best, (gain, column, edge, missing_left))
    assert (trees["feature"][0, 0], trees["threshold"][0, 0]) == (best[1], np.float32(best[2]))
    assert bool(trees["missing_left"][0, 0]) == best[3]
    whole = g.sum() ** 2 / (len(g) / 4 + 1)
    assert gains == {best[1]: pytest.approx((best[0] - whole) / 2, rel=1e-6)}
    left = np.where(np.isnan(x[:, best[1]]), best[3], x[:, best[1]] < np.float32(best[2]))
    assert trees["value"][0, 0, 0] == pytest.approx(-0.2 * g[left].sum() / (left.sum() / 4 + 1), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_hospitals_together_grow_the_trees_of_all_rows_at_one_place(classes: int) -> None:
    plan, (x, y) = make_plan(outputs=1 if classes == 2 else 3, trees=6, rounds=3), make_rows(classes=classes)
    base = np.zeros(plan.outputs)
    together = grow([make_table(x, y, plan)], plan, RULES, base)
    apart = grow(
        [make_table(x[s], y[s], plan) for s in (slice(0, 100), slice(100, 350), slice(350, 600))], plan, RULES, base
    )
    assert all(np.array_equal(together[name], apart[name]) for name in together)


def test_two_classes_give_the_model_of_scikit_learn() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    plan, (x, y) = make_plan(), make_rows(missing=0.0)
    base = compute_base(np.bincount(y).tolist(), len(y), 1, 0.0, labels=False)
    trees = grow([make_table(x, y, plan)], plan, RULES, base)
    rival = HistGradientBoostingClassifier(
        learning_rate=0.2, max_iter=10, max_depth=3, max_leaf_nodes=None, min_samples_leaf=1, l2_regularization=1.0,
        max_bins=16, early_stopping=False,
    )  # fmt: skip
    binned = bin_inputs(x, plan.bins).astype(np.float32)
    own = add_trees(trees, range(10), x, np.tile(trees["base"], (len(x), 1)), 3)[:, 0]
    np.testing.assert_allclose(own, rival.fit(binned, y).decision_function(binned), atol=2e-3)


def test_a_monotone_input_never_turns() -> None:
    x, y = make_rows(missing=0.0)
    plan = make_plan(trees=30, rounds=30, depth=4)
    x[:, 0] = -x[:, 0]  # it falls
    line = np.zeros((50, 4), np.float32)
    line[:, 2] = np.linspace(-1.7, 1.7, 50)
    free = grow([make_table(x, y, plan)], plan, RULES, np.zeros(1))
    bound = grow([make_table(x, y, plan)], plan, SplitRules(1.0, 0.0, 1e-3, 0.0, {2: 1}, 0.2), np.zeros(1))

    def steps(trees: Weights) -> np.ndarray:
        grid = []
        for other in np.linspace(-1.7, 1.7, 9):
            line[:, 0] = line[:, 1] = line[:, 3] = other
            grid.append(np.diff(add_trees(trees, range(30), line, np.zeros((50, 1), np.float32), 4)[:, 0]))
        return np.asarray(grid)

    assert (steps(free) < -1e-6).any()
    assert (steps(bound) >= -1e-6).all()


def test_the_base_is_the_log_odds_of_the_weighted_classes() -> None:
    assert compute_base([90, 10], 100, 1, 0.0, labels=False) == pytest.approx(np.log(1 / 9))
    assert compute_base([90, 10], 100, 1, 1.0, labels=False) == pytest.approx(0)
    three = compute_base([50, 30, 20], 100, 3, 0.0, labels=False)
    assert torch.softmax(torch.tensor(three), 0).tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert compute_base([20, 50], 100, 2, 0.0, labels=True).tolist() == pytest.approx([np.log(0.25), 0])
    assert GRAIN < 1e-6
