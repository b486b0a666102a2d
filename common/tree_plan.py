"""The trees of a run, and the structure of those that are drawn by its seed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from common.arrays import Weights
from common.config import RunConfig
from common.models import boosting, forest
from common.seeds import rng_for
from common.task import Task
from common.trees import TreePlan, empty_trees, list_edges

MIN_BINS = 2
"""An input of fewer bins in a node is not split there."""


def plan_run(config: RunConfig, task: Task) -> TreePlan:
    """Return the trees that a run grows."""
    rounds, seed = config.federation.rounds, config.seed
    if config.model.name == "forest":
        return forest.plan_trees(task, forest.read_options(config), rounds, seed)
    return boosting.plan_trees(task, boosting.read_options(config), rounds, seed)


def draw_trees(plan: TreePlan) -> Weights:
    """Return trees with leaves of 0, whose splits are drawn by the run's seed, as a copy."""
    return {name: value.copy() for name, value in _draw_trees(plan).items()}


@lru_cache(maxsize=8)
def _draw_trees(plan: TreePlan) -> Weights:
    trees = empty_trees(plan)
    edges = list_edges(plan.bins)
    for tree in range(plan.trees):
        rng = rng_for(plan.seed, "structure", tree)
        trees["missing_left"][tree] = rng.integers(0, 2, trees["missing_left"].shape[1])
        ranges: dict[int, dict[int, tuple[int, int]]] = {0: {}}
        for position in range(2**plan.depth - 1):
            own = ranges.pop(position, None)  # none below a node without a split
            column, edge = (-1, 0) if own is None else _draw_split(plan, own, rng)
            if own is None or column < 0:
                continue
            low, high = own.get(column, (0, plan.bins))
            trees["feature"][tree, position], trees["threshold"][tree, position] = column, edges[edge - 1]
            ranges[2 * position + 1] = {**own, column: (low, edge)}
            ranges[2 * position + 2] = {**own, column: (edge, high)}
    return trees


def _draw_split(plan: TreePlan, ranges: dict[int, tuple[int, int]], rng: np.random.Generator) -> tuple[int, int]:
    """Return an input, and an edge among its bins in a node: below the first bin on the right side.

    Returns -1 and 0 if the node has no input of MIN_BINS bins.
    """
    single = {column for column, (low, high) in ranges.items() if high - low < MIN_BINS}
    free = plan.inputs - len(single)
    if not free:
        return -1, 0
    inputs = [column for column in range(plan.inputs) if column not in single] if single else range(plan.inputs)
    column = inputs[int(rng.integers(free))]
    low, high = ranges.get(column, (0, plan.bins))
    return column, int(rng.integers(low + 1, high))
