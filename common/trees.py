"""Trees that hospitals grow together: their arrays, the bins of their inputs, and which trees a round grows.

A tree is complete: node k has the children 2k + 1 and 2k + 2, a depth of D gives 2^D - 1 places for splits and 2^D
leaves. A position without a split sends every example to the left. Inputs are ranks in the merged distribution of all
hospitals (data.scaling=bins, common/scaling.py), so the edges between bins are the same for each input: multiples of
1 / bins in rank. Missing values have a bin of their own, and each split has a side for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from common import plugins
from common.arrays import Weights
from common.seeds import rng_for
from common.task import Task

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TREE_ARRAYS = ("base", "feature", "threshold", "missing_left", "value")
"""The arrays of a model of trees: log odds before the first tree `(outputs,)`; of each tree and place for a split, the
input's number (-1: no split), the scaled value below which an example goes left, and whether one without a value does,
each `(trees, places)`; of each tree and leaf what it adds, `(trees, leaves, outputs)`."""
GRAIN = 2.0**-24
"""Gradients and weights are multiples of this, so that sums do not depend on their order and differences are exact."""


@cache
def grows_trees(model: str) -> bool:
    """Return whether a model of common/models is grown from merged histograms: its file sets `GROWS_TREES = True`."""
    return model in plugins.list_plugins("common.models", "GROWS_TREES")


@dataclass(frozen=True)
class TreePlan:
    """What server and sites must agree on about the trees of a run.

    Attributes:
        trees: number of trees.
        rounds: rounds in which they grow; each grows the same number at the same time.
        depth: splits between the root and a leaf, at most.
        bins: bins of an input, besides that of missing values.
        sample: share of the people that a tree is grown on.
        columns: share of the inputs that a tree may use.
        inputs: number of inputs.
        outputs: numbers that a leaf holds: one log odds, or one for each class or label.
        seed: the run's seed.
        drawn: whether the splits are drawn by the seed, so that a round needs one message (common/tree_plan.py).
    """

    trees: int
    rounds: int
    depth: int
    bins: int
    sample: float
    columns: float
    inputs: int
    outputs: int
    seed: int
    drawn: bool = False

    @property
    def messages(self) -> int:
        """Largest number of messages of a round."""
        return 1 if self.drawn else self.depth

    @property
    def cells(self) -> int:
        """Bins of an input in a histogram; the last one is of missing values."""
        return self.bins + 1

    def list_trees(self, number: int) -> range:
        """Return the indices of the trees that a round, counted from 1, grows."""
        each = -(-self.trees // self.rounds)
        return range(min((number - 1) * each, self.trees), min(number * each, self.trees))

    def draw_columns(self, tree: int) -> Ints:
        """Return the inputs that a tree may use, ascending; each tree uses as many."""
        count = max(1, round(self.columns * self.inputs))
        drawn = rng_for(self.seed, "columns", tree).choice(self.inputs, count, replace=False)
        return np.sort(drawn).astype(np.int64)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each of TREE_ARRAYS."""
        positions, leaf_count = 2**self.depth - 1, 2**self.depth
        at_position = dict.fromkeys(("feature", "threshold", "missing_left"), (self.trees, positions))
        return {"base": (self.outputs,), **at_position, "value": (self.trees, leaf_count, self.outputs)}


def count_outputs(task: Task) -> int:
    """Return how many numbers a leaf holds: 1 for two classes, else one for each class or label."""
    return 1 if task.binary else len(task.classes)


def list_edges(bins: int) -> npt.NDArray[np.float32]:
    """Return the `bins - 1` edges between the bins of an input, in scaled ranks, ascending.

    >>> [round(float(edge), 2) for edge in list_edges(4)]
    [-0.87, 0.0, 0.87]
    """
    return np.asarray((np.arange(1, bins) / bins - 0.5) * np.sqrt(12.0), np.float32)


def bin_inputs(features: npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.int16]:
    """Return the bin of each scaled value, in the shape of `features`; missing values are in bin number `bins`."""
    binned = np.asarray(np.searchsorted(list_edges(bins), features, side="right"), np.int16)
    binned[np.isnan(features)] = bins
    return binned


def find_nodes(
    trees: Weights, tree: int, features: npt.NDArray[np.float32], depth: int, rows: Ints | None = None
) -> Ints:
    """Return the node that each example reaches in a tree after `depth` splits, counted from 0 within that depth.

    Args:
        trees: the model.
        tree: the tree's index.
        features: scaled inputs of all examples.
        depth: the number of splits.
        rows: the examples; None: all.
    """
    rows = np.arange(len(features)) if rows is None else rows
    position = np.zeros(len(rows), np.int64)
    for _ in range(depth):
        column = trees["feature"][tree][position]
        value = features[rows, np.maximum(column, 0)]
        missing_left, threshold = (trees[name][tree][position] for name in ("missing_left", "threshold"))
        left = np.where(np.isnan(value), missing_left > 0, value < threshold)
        position = 2 * position + 2 - (left | (column < 0))
    return np.asarray(position - (2**depth - 1), np.int64)


def list_open_nodes(trees: Weights, tree: int, depth: int) -> list[int]:
    """Return the nodes of a depth whose ancestors are all splits, counted from 0 within that depth."""
    if depth == 0:
        return [0]
    feature, first = trees["feature"][tree], 2 ** (depth - 1) - 1
    parents = list_open_nodes(trees, tree, depth - 1)
    return [child for node in parents if feature[first + node] >= 0 for child in (2 * node, 2 * node + 1)]


def add_trees(
    trees: Weights, which: range, features: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], depth: int
) -> npt.NDArray[np.float32]:
    """Return scores `(examples, outputs)` with what some trees add to them."""
    out = scores.copy()
    for tree in which:
        out += trees["value"][tree][find_nodes(trees, tree, features, depth)]
    return out


def empty_trees(plan: TreePlan) -> Weights:
    """Return the arrays of trees without splits and with leaves of 0."""
    shapes = plan.shapes()
    return {
        "base": np.zeros(shapes["base"], np.float32),
        "feature": np.full(shapes["feature"], -1, np.int16),
        "threshold": np.zeros(shapes["threshold"], np.float32),
        "missing_left": np.zeros(shapes["missing_left"], np.uint8),
        "value": np.zeros(shapes["value"], np.float32),
    }
