"""Trees as lists of nodes with one number in each leaf, in the form in which other libraries hold them.

A node's share is that of people who reach it in the merged distributions of the inputs, taken as independent and all
measured; of a node's people at least MIN_SHARE go to either side, as where only missing values do. Attributions need
shares, and these follow from the scaling alone: no hospital counts anybody for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from common.arrays import Weights
from common.scaling import Scaling

Floats = npt.NDArray[np.float64]
MIN_SHARE = 1e-3
UNITS = 2**30
"""People that are divided among a tree's leaves by their shares, so that whole numbers can hold them."""


@dataclass
class FlatTree:
    """A tree with one number in each leaf, its nodes numbered from the root (0), parents before children.

    A right child has the number after its left sibling, as XGBoost's attributions take for granted.

    Attributes:
        column: input of each split; -1: a leaf.
        threshold: an input below it goes left.
        missing_left: whether a missing input goes left.
        left: number of the left child; -1: a leaf.
        right: likewise.
        parent: number of the parent; -1: the root.
        value: of a leaf what it adds; else 0.
        units: of UNITS people, those that reach the node, at least one at each leaf; a split has those of its children.
    """

    column: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    missing_left: list[bool] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    units: list[int] = field(default_factory=list)

    def add(self, parent: int) -> int:
        """Add a leaf of value 0, and return its number."""
        for values, start in ((self.column, -1), (self.left, -1), (self.right, -1), (self.parent, parent)):
            values.append(start)
        self.threshold.append(0.0)
        self.value.append(0.0)
        self.missing_left.append(False)
        self.units.append(1)
        return len(self.column) - 1


def flatten_trees(weights: Weights, limits: npt.NDArray[np.float32], scaling: Scaling) -> list[FlatTree]:
    """Return trees, one for each output in turn; the first ones hold the base.

    Trees behind the last one with a leaf that is not 0 are left out.

    Args:
        weights: the model's arrays.
        limits: of each split, `(trees, positions)`, the value below which an input goes left.
        scaling: how the inputs were scaled, which gives the shares.
    """
    used = np.flatnonzero((weights["value"] != 0).any((1, 2)))
    count, outputs = (int(used[-1]) + 1 if len(used) else 1), len(weights["base"])
    below = find_shares(weights, scaling)
    result = []
    for tree in range(count):
        for output in range(outputs):
            base = float(weights["base"][output]) if tree == 0 else 0.0
            result.append(_flatten(weights, limits, below, tree, output, base))
    return result


def find_shares(weights: Weights, scaling: Scaling) -> Floats:
    """Return for each split, `(trees, positions)`, the share of its input's merged distribution that is below it."""
    if not len(scaling.ranks):  # standardised
        return np.asarray(ndtr(weights["threshold"].astype(np.float64)), np.float64)
    column = np.maximum(weights["feature"].astype(np.int64), 0)
    shares = np.zeros(column.shape)
    sign = (-1.0) ** np.arange(scaling.ranks.shape[1])
    for index in np.unique(column):
        middle = scaling.ranks[index].astype(np.float64) / np.sqrt(12.0) + 0.5  # the rank in the middle of each bin
        upper = 2 * sign * np.cumsum(sign * middle)  # as it is halfway between those of the bin's ends
        upper = np.maximum.accumulate(np.clip(np.concatenate([[0.0], upper]), 0, 1))
        at = column == index
        shares[at] = upper[np.searchsorted(scaling.ranks[index], weights["threshold"][at], side="left")]
    return shares


def _flatten(
    weights: Weights, limits: npt.NDArray[np.float32], below: Floats, tree: int, output: int, base: float
) -> FlatTree:
    flat, positions = FlatTree(), weights["feature"].shape[1]

    def grow(number: int, position: int, share: float, ranges: dict[int, tuple[float, float]]) -> None:
        column = int(weights["feature"][tree, position]) if position < positions else -1
        if column < 0:
            leaf = position
            while leaf < positions:  # a node without a split sends every example to the left
                leaf = 2 * leaf + 1
            flat.value[number] = float(weights["value"][tree, leaf - positions, output]) + base
            flat.units[number] = max(round(share * UNITS), 1)
            return
        flat.column[number] = column
        flat.threshold[number] = float(limits[tree, position])
        flat.missing_left[number] = bool(weights["missing_left"][tree, position])
        low, high = ranges.get(column, (0.0, 1.0))
        edge = min(max(float(below[tree, position]), low), high)
        left = min(max((edge - low) / (high - low), MIN_SHARE), 1 - MIN_SHARE) if high > low else 0.5
        ends = flat.left[number], flat.right[number] = flat.add(number), flat.add(number)
        grow(ends[0], 2 * position + 1, share * left, {**ranges, column: (low, edge)})
        grow(ends[1], 2 * position + 2, share * (1 - left), {**ranges, column: (edge, high)})
        flat.units[number] = flat.units[ends[0]] + flat.units[ends[1]]

    grow(flat.add(-1), 0, 1.0, {})
    return flat
