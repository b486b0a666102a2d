"""Histograms of gradients over a site's training people, for the trees that a round grows.

The gradients are those of the logistic loss (two classes, or each label) or of the softmax, with the class weights of
training.loss, at the scores of the trees of earlier rounds. They are rounded to GRAIN, so a node's histogram is exactly
its parent's less its sibling's, and only the smaller of two siblings is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from client.training.losses import compute_class_weights, compute_label_weights
from common.arrays import Weights
from common.sections.training import TrainingConfig
from common.trees import GRAIN, Floats, Ints, TreePlan, add_trees, bin_inputs, find_nodes, list_open_nodes
from sites.cohort import Cohort

BLOCK = 1 << 14
"""Rows that are counted at a time."""
DrawPeople = Callable[[int, int], npt.NDArray[np.bool_]]
"""From a tree's index and the number of people to those that it is grown on."""


@dataclass(frozen=True)
class NodeSums:
    """Sums over people, one histogram for each open node of a depth, tree by tree.

    Attributes:
        gradient: sums of first derivatives, `(nodes, columns, cells, outputs)`.
        hessian: sums of second derivatives, in the same shape.
        people: people `(nodes, columns, cells)`, each divided evenly over their examples: no more than there are.
        largest: the largest part that one person has in a node's sums, gradient and hessian, `(nodes, 2)`.
    """

    gradient: Floats
    hessian: Floats
    people: Floats
    largest: Floats


@dataclass
class TrainingTable:
    """A site's training examples, prepared for growing trees.

    Attributes:
        features: scaled ranks `(examples, inputs)`, NaN where not measured.
        y: labels, as in a cohort.
        person: each example's person `(examples,)`, counted from 0.
        plan: the trees.
        weights: weight of each example, `(examples,)`, or `(examples, labels)`.
        replaced: probability with which each label was replaced by another one.
    """

    features: npt.NDArray[np.float32]
    y: Ints
    person: Ints
    plan: TreePlan
    weights: Floats
    replaced: float = 0.0
    binned: npt.NDArray[np.integer] = field(init=False)
    share: Floats = field(init=False)
    people: int = field(init=False)
    _scores: npt.NDArray[np.float32] | None = None
    _scored: int = 0
    _before: bytes = b""
    _sums: dict[tuple[int, int, int], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = np.uint8 if self.plan.bins < 256 else np.int16
        self.binned = bin_inputs(self.features, self.plan.bins).T.astype(kind, order="C")  # a row for each input
        count = np.bincount(self.person)
        self.people = len(count)
        self.share = np.floor(1 / count[self.person] / GRAIN) * GRAIN if len(count) else np.zeros(0)

    @classmethod
    def from_cohort(
        cls,
        cohort: Cohort,
        plan: TreePlan,
        training: TrainingConfig,
        counts: tuple[int, ...],
        total: int,
        replaced: float = 0.0,
    ) -> TrainingTable:
        """Return the table of a cohort whose inputs are scaled.

        Args:
            cohort: the examples.
            plan: the trees.
            training: `loss` and `weight_power` give the class weights.
            counts: training examples of each class over all sites; empty: the cohort's own.
            total: training examples over all sites; 0: the cohort's own.
            replaced: probability with which each label was replaced by one of the others, each as likely.
        """
        power = 0.0 if training.loss == "cross_entropy" else training.weight_power
        counts = counts or tuple(cohort.class_counts())
        if cohort.task.kind == "multilabel":
            present = compute_label_weights(counts, total or len(cohort.y), power).numpy().astype(np.float64)
            weights = np.where(cohort.y == 1, present, 1.0)
        else:
            weights = compute_class_weights(counts, power).numpy().astype(np.float64)[cohort.y]
        persons = np.asarray(cohort.persons, dtype=object)[cohort.patient]
        person = np.unique(persons, return_inverse=True)[1] if len(persons) else np.zeros(0, np.int64)
        return cls(cohort.features, cohort.y, person.astype(np.int64), plan, weights, replaced)

    def gradients(self, trees: Weights, number: int) -> tuple[Floats, Floats]:
        """Return first and second derivatives of the loss, `(examples, outputs)`, before a round's trees."""
        scores = self._score(trees, self.plan.list_trees(number).start).astype(np.float64)
        if self.y.ndim == 2 or self.plan.outputs == 1:
            truth: Floats = (self.y if self.y.ndim == 2 else self.y[:, None]).astype(np.float64)
        else:
            truth = np.eye(self.plan.outputs)[self.y]
        if self.replaced:  # so that its mean over what a label may have been replaced by is the true label
            other = self.replaced / max(truth.shape[1] - 1, 1) if self.y.ndim == 1 else self.replaced
            truth = (truth - other) / (1 - self.replaced - other)
        if self.y.ndim == 1 and self.plan.outputs > 1:
            probability = np.exp(scores - scores.max(1, keepdims=True))
            probability /= probability.sum(1, keepdims=True)
        else:
            probability = 1 / (1 + np.exp(-scores))
        weight = self.weights if self.weights.ndim == 2 else self.weights[:, None]
        first, second = weight * (probability - truth), weight * np.maximum(probability * (1 - probability), 1e-6)
        return np.rint(first / GRAIN) * GRAIN, np.rint(second / GRAIN) * GRAIN

    def _score(self, trees: Weights, count: int) -> npt.NDArray[np.float32]:
        """Return the scores of the first `count` trees; of trees that it has kept, from what it kept."""
        known = _content(trees, self._scored)
        if self._scores is None or self._scored > count or known != self._before:
            self._scores = np.tile(trees["base"].astype(np.float32), (len(self.features), 1))
            self._scored = 0
        self._scores = add_trees(trees, range(self._scored, count), self.features, self._scores, self.plan.depth)
        self._scored, self._before = count, _content(trees, count)
        return self._scores

    def sum_nodes(self, trees: Weights, number: int, depth: int, draw: DrawPeople, *, measure: bool = True) -> NodeSums:
        """Return the histograms of a round's open nodes at a depth.

        Args:
            trees: the model, with the splits that the round has so far.
            number: the round, counted from 1.
            depth: 0 for the roots.
            draw: draws the people of a tree.
            measure: whether the largest parts of single people are measured; else there are none.
        """
        first, second = self.gradients(trees, number)
        outputs = self.plan.outputs
        values = np.concatenate([first, second, self.share[:, None]], axis=1)
        if depth == 0:
            self._sums = {}
        held: dict[tuple[int, int, int], Floats] = {}
        sums: list[Floats] = []
        largest: list[Floats] = []
        for tree in self.plan.list_trees(number):
            nodes = list_open_nodes(trees, tree, depth)
            if not nodes:
                continue
            columns = self.plan.draw_columns(tree)
            rows = np.flatnonzero(draw(tree, self.people)[self.person]) if self.people else np.zeros(0, np.int64)
            node = find_nodes(trees, tree, self.features, depth, rows)
            size = np.bincount(node, minlength=2**depth)
            count = self._prepare_count(columns, values)
            for k in nodes:
                parent, other = self._sums.get((tree, depth - 1, k // 2)), held.get((tree, depth, k ^ 1))
                if parent is not None and other is not None:
                    held[tree, depth, k] = parent - other
                elif parent is None or k ^ 1 not in nodes or (size[k], k) <= (size[k ^ 1], k ^ 1):
                    held[tree, depth, k] = count(rows[node == k])
                else:  # the larger sibling: counted after the smaller one
                    smaller = count(rows[node == k ^ 1])
                    held[tree, depth, k ^ 1] = smaller
                    held[tree, depth, k] = parent - smaller
            sums += [held[tree, depth, k] for k in nodes]
            if measure:
                largest.append(self._measure_largest(rows, node, first, second)[nodes])
        self._sums = held
        whole = np.stack(sums) if sums else np.zeros((0, 1, self.plan.cells, 2 * outputs + 1))
        return NodeSums(
            gradient=whole[..., :outputs],
            hessian=whole[..., outputs : 2 * outputs],
            people=whole[..., -1],
            largest=np.concatenate(largest) if largest else np.zeros((0, 2)),
        )

    def _prepare_count(self, columns: Ints, values: Floats) -> Callable[[Ints], Floats]:
        """Return the function from rows to their histograms `(columns, cells, values)`: a product with ones."""
        from scipy import sparse

        wide, cells = len(columns), self.plan.cells
        used = np.ascontiguousarray(self.binned[columns].T)
        offset = (np.arange(wide) * cells).astype(np.int32)
        ones, starts = np.ones(BLOCK * wide), np.arange(0, BLOCK * wide + 1, wide, dtype=np.int32)

        def count(rows: Ints) -> Floats:
            total = np.zeros((wide * cells, values.shape[1]))
            for first in range(0, len(rows), BLOCK):
                part = rows[first : first + BLOCK]
                index = np.add(used[part], offset, dtype=np.int32).ravel()
                content = ones[: len(index)], index, starts[: len(part) + 1]
                total += np.asarray(sparse.csr_matrix(content, shape=(len(part), wide * cells)).T @ values[part])
            return total.reshape(wide, cells, -1)

        return count

    def _measure_largest(self, rows: Ints, node: Ints, first: Floats, second: Floats) -> Floats:
        """Return the largest absolute part of a person in each node's sums of first and of second derivatives."""
        nodes = int(node.max()) + 1 if len(node) else 0
        out = np.zeros((2**self.plan.depth, 2))
        for which, values in enumerate((first, second)):
            for column in range(values.shape[1] if len(rows) else 0):
                part = np.bincount(
                    node * self.people + self.person[rows], np.abs(values[rows, column]), minlength=nodes * self.people
                )
                out[:nodes, which] = np.maximum(out[:nodes, which], part.reshape(nodes, self.people).max(1))
        return out


def _content(trees: Weights, count: int) -> bytes:
    """Return what the first trees hold, as bytes."""
    import hashlib

    digest = hashlib.sha256(trees["base"].tobytes())
    for name in ("feature", "threshold", "missing_left", "value"):
        digest.update(trees[name][:count].tobytes())
    return digest.digest()
