"""Sums of gradients in the leaves of a round's trees, and the parts of single people in them.

The trees' splits are drawn by the run's seed (common/tree_plan.py), so each person is in one leaf of each tree for each
of their examples, and the sums of a round are one vector: of all leaves of all its trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from client.training.histograms import TrainingTable
from common.arrays import Weights
from common.trees import Floats, Ints, find_nodes


@dataclass(frozen=True)
class LeafRows:
    """A round's examples with their leaves and derivatives.

    Attributes:
        leaf_count: number of leaves of a tree.
        leaf: each example's leaf in each tree, `(trees, examples)`.
        first: first derivatives of the loss, `(examples, outputs)`.
        second: second derivatives, in the same shape.
    """

    leaf_count: int
    leaf: Ints
    first: Floats
    second: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the sums of either derivative, `(trees, leaves, outputs)`."""
        return len(self.leaf), self.leaf_count, self.first.shape[1]

    def sum_by_leaf(self, weight: Floats | None = None) -> tuple[Floats, Floats]:
        """Return the sums of first and of second derivatives in the leaves, `(trees, leaves, outputs)` each.

        Args:
            weight: of each example, `(examples,)`; None: 1.
        """
        sums = np.zeros(self.shape), np.zeros(self.shape)
        for out, values in zip(sums, (self.first, self.second), strict=True):
            weighed = values if weight is None else values * weight[:, None]
            for tree, leaf in enumerate(self.leaf):
                for column in range(values.shape[1]):
                    out[tree, :, column] = np.bincount(leaf, weighed[:, column], minlength=self.leaf_count)
        return sums

    def iterate_parts(self, unit: Ints) -> Iterator[tuple[int, Ints, Ints, Floats, Floats]]:
        """Yield each tree's index, and of each unit in each of its leaves: unit, leaf, both sums `(parts, outputs)`.

        Args:
            unit: each example's unit, such as its person, counted from 0.
        """
        for tree, leaf in enumerate(self.leaf):
            parts, inverse = np.unique(unit * self.leaf_count + leaf, return_inverse=True)
            first, second = (
                np.stack([np.bincount(inverse, column, len(parts)) for column in values.T], axis=1).astype(np.float64)
                for values in (self.first, self.second)
            )
            yield tree, parts // self.leaf_count, parts % self.leaf_count, first, second

    def measure_norms(self, unit: Ints, units: int) -> tuple[Floats, Floats]:
        """Return the norm of each unit's parts of all leaves, in first and in second derivatives, `(units,)` each."""
        first, second = np.zeros(units), np.zeros(units)
        for _, owner, _, one, other in self.iterate_parts(unit):
            first += np.bincount(owner, (one**2).sum(1), minlength=units)
            second += np.bincount(owner, (other**2).sum(1), minlength=units)
        return np.sqrt(first), np.sqrt(second)

    def count_people(self, person: Ints) -> Ints:
        """Return the number of people in each leaf, `(trees, leaves)`."""
        out = np.zeros(self.shape[:2], np.int64)
        for tree, _, leaf, _, _ in self.iterate_parts(person):
            out[tree] = np.bincount(leaf, minlength=self.leaf_count)
        return out


def find_leaf_rows(table: TrainingTable, trees: Weights, number: int) -> LeafRows:
    """Return the examples of a table with their leaves in the trees that a round fills, and their derivatives.

    Args:
        table: the training examples.
        trees: the model, with the leaves of earlier rounds.
        number: the round, counted from 1.
    """
    first, second = table.gradients(trees, number)
    depth = table.plan.depth
    which = table.plan.list_trees(number)
    leaf = [find_nodes(trees, tree, table.features, depth) for tree in which]
    return LeafRows(2**depth, np.asarray(leaf, np.int64).reshape(len(which), len(table.features)), first, second)
