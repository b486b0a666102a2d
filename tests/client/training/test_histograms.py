"""Histograms of gradients against sums in a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from client.training.histograms import TrainingTable
from common.arrays import Weights
from common.trees import TreePlan, bin_inputs, empty_trees, find_nodes, list_edges


def make_plan(**values: object) -> TreePlan:
    given: dict[str, object] = {"trees": 4, "rounds": 2, "depth": 2, "bins": 8, "sample": 1.0, "columns": 1.0}
    given |= {"inputs": 3, "outputs": 1, "seed": 1}
    return TreePlan(**(given | values))  # type: ignore[arg-type]


def make_table(plan: TreePlan, rows: int = 200) -> TrainingTable:
    rng = np.random.default_rng(5)
    features = rng.uniform(-1.7, 1.7, (rows, plan.inputs)).astype(np.float32)
    features[rng.random(features.shape) < 0.1] = np.nan
    y = rng.integers(0, max(2, plan.outputs), rows)
    return TrainingTable(features, y, np.sort(rng.integers(0, 40, rows)), plan, np.ones(rows))


def split_root(plan: TreePlan) -> Weights:
    trees = empty_trees(plan)
    for tree in range(plan.trees):
        trees["feature"][tree, 0] = tree % plan.inputs
        trees["threshold"][tree, 0] = list_edges(plan.bins)[3]
        trees["missing_left"][tree, 0] = tree % 2
    return trees


def take_everyone(tree: int, people: int) -> np.ndarray:
    return np.ones(people, bool)


@pytest.mark.parametrize("outputs", [1, 3])
def test_sums_are_those_of_a_loop_over_rows(outputs: int) -> None:
    plan = make_plan(outputs=outputs)
    table, trees = make_table(plan), split_root(plan)
    first, second = table.gradients(trees, 1)
    sums = table.sum_nodes(trees, 1, 1, take_everyone)
    binned = bin_inputs(table.features, plan.bins)
    slow = np.zeros((4, 3, plan.cells, outputs))
    count = np.bincount(table.person)
    people = np.zeros((4, 3, plan.cells))
    for i, tree in enumerate((0, 1)):
        for row, values in enumerate(table.features):
            value, left = values[trees["feature"][tree, 0]], trees["missing_left"][tree, 0]
            side = int(not (left if np.isnan(value) else value < trees["threshold"][tree, 0]))
            for column in range(3):
                slow[2 * i + side, column, binned[row, column]] += first[row]
                people[2 * i + side, column, binned[row, column]] += 1 / count[table.person[row]]
    np.testing.assert_allclose(sums.gradient, slow, atol=1e-6)
    np.testing.assert_allclose(sums.people, people, atol=1e-4)
    assert (sums.hessian >= 0).all()
    chance = np.full(outputs, 1 / outputs) if outputs > 1 else np.full(1, 0.5)
    np.testing.assert_allclose(second[0], chance * (1 - chance), atol=1e-6)


def test_a_larger_sibling_is_exactly_what_is_left_of_its_parent() -> None:
    plan = make_plan()
    trees, kept, fresh = split_root(plan), make_table(plan), make_table(plan)
    roots = kept.sum_nodes(trees, 1, 0, take_everyone)
    by_difference, counted = (table.sum_nodes(trees, 1, 1, take_everyone) for table in (kept, fresh))
    assert np.array_equal(by_difference.gradient, counted.gradient)
    assert np.array_equal(by_difference.hessian, counted.hessian)
    assert np.array_equal(counted.gradient[0] + counted.gradient[1], roots.gradient[0])


def test_the_largest_part_is_one_persons() -> None:
    plan = make_plan()
    table, trees = make_table(plan), split_root(plan)
    first, _ = table.gradients(trees, 1)
    sums = table.sum_nodes(trees, 1, 1, take_everyone)
    node = find_nodes(trees, 0, table.features, 1)
    for side in (0, 1):
        parts = [np.abs(first[(node == side) & (table.person == k)]).sum() for k in range(40)]
        assert sums.largest[side, 0] == pytest.approx(max(parts))


def test_scores_follow_the_trees_that_are_done() -> None:
    plan = make_plan()
    table, trees = make_table(plan), split_root(plan)
    before, _ = table.gradients(trees, 2)
    trees["value"][0, :] = 1.0
    after, _ = table.gradients(trees, 2)
    assert (after > before).all()
    assert np.array_equal(make_table(plan).gradients(trees, 2)[0], after)


@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_of_replaced_labels_are_on_average_those_of_the_true_ones(outputs: int) -> None:
    plan = make_plan(outputs=outputs)
    true, trees, rng = make_table(plan), split_root(plan), np.random.default_rng(0)
    classes, summed = max(2, outputs), np.zeros((200, outputs))
    for _ in range(4000):
        other = (true.y + rng.integers(1, classes, 200)) % classes
        seen = np.where(rng.random(200) < 0.15, other, true.y)
        summed += TrainingTable(true.features, seen, true.person, plan, true.weights, 0.15).gradients(trees, 1)[0]
    np.testing.assert_allclose(summed / 4000, true.gradients(trees, 1)[0], atol=0.04)
