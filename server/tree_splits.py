"""The splits of a round's trees, from the sums of all hospitals.

A split's gain and a leaf's value are those of XGBoost (Chen and Guestrin 2016, KDD, equations 5 and 7), summed over the
outputs of a leaf. Missing values go to the side that gains more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import Weights
from common.trees import Floats, Ints, TreePlan, list_edges, list_open_nodes

Range = tuple[float, float]
UNBOUNDED: Range = (-np.inf, np.inf)


@dataclass(frozen=True)
class SplitRules:
    """What a split must meet.

    Attributes:
        l2: added to the sum of second derivatives.
        min_people: smallest number of people of a side.
        min_hessian: smallest sum of second derivatives of a side.
        min_gain: smallest gain.
        monotone: the direction, 1 or -1, of inputs by their number.
        step: what a leaf's value is multiplied by: the learning rate, divided by the trees of the round.
    """

    l2: float
    min_people: float
    min_hessian: float
    min_gain: float
    monotone: Mapping[int, int]
    step: float


@dataclass(frozen=True)
class _Split:
    column: int
    edge: int
    missing_left: bool
    left: Floats
    right: Floats
    gain: float


class RoundGrower:
    """Grows a round's trees depth by depth, in the arrays of the model.

    Args:
        trees: the model's arrays; changed in place.
        plan: the trees.
        rules: what splits must meet.
        number: the round, counted from 1.

    Attributes:
        gains: by input, by how much the round's splits lower the loss, each with a full step.
    """

    def __init__(self, trees: Weights, plan: TreePlan, rules: SplitRules, number: int) -> None:
        self.trees, self._plan, self._rules = trees, plan, rules
        self._which = plan.list_trees(number)
        self._ranges: dict[tuple[int, int, int], Range] = {}
        self.gains: dict[int, float] = {}

    def count_open_nodes(self, depth: int) -> int:
        """Return how many nodes of a depth may still be split, over all trees of the round."""
        return sum(len(list_open_nodes(self.trees, tree, depth)) for tree in self._which)

    def split_nodes(self, depth: int, gradient: Floats, hessian: Floats, people: Floats) -> None:
        """Split the open nodes of a depth where that gains, and set the values of what may become leaves.

        Args:
            depth: 0 for the roots.
            gradient: merged sums `(nodes, columns, cells, outputs)`.
            hessian: in the same shape.
            people: merged numbers of people `(nodes, columns, cells)`.
        """
        index = 0
        for tree in self._which:
            columns = self._plan.draw_columns(tree)
            for node in list_open_nodes(self.trees, tree, depth):
                bounds = self._ranges.get((tree, depth, node), UNBOUNDED)
                sums = gradient[index], np.maximum(hessian[index], 0.0), np.maximum(people[index], 0.0)
                index += 1
                if depth == 0:
                    total = sums[0].sum(1).mean(0), sums[1].sum(1).mean(0)
                    self._set_value(tree, node, depth, self._value(*total, bounds))
                split = self._find_split(columns, *sums, bounds)
                if split is not None:
                    self._apply(tree, node, depth, split, bounds)

    def _value(self, gradient: Floats, hessian: Floats, bounds: Range) -> Floats:
        return np.clip(-gradient / (hessian + self._rules.l2), *bounds)

    def _set_value(self, tree: int, node: int, depth: int, value: Floats) -> None:
        first = node * 2 ** (self._plan.depth - depth)
        self.trees["value"][tree, first] = (self._rules.step * value).astype(np.float32)

    def _apply(self, tree: int, node: int, depth: int, split: _Split, bounds: Range) -> None:
        position = 2**depth - 1 + node
        self.gains[split.column] = self.gains.get(split.column, 0.0) + split.gain
        self.trees["feature"][tree, position] = split.column
        self.trees["threshold"][tree, position] = list_edges(self._plan.bins)[split.edge]
        self.trees["missing_left"][tree, position] = split.missing_left
        low, high = bounds
        outputs = self._plan.outputs
        left, right = (self._value(side[:outputs], side[outputs:], bounds) for side in (split.left, split.right))
        sign = self._rules.monotone.get(split.column, 0)
        middle = float((left[0] + right[0]) / 2)
        sides = {0: (bounds, bounds), 1: ((low, middle), (middle, high)), -1: ((middle, high), (low, middle))}[sign]
        for side, (value, own) in enumerate(zip((left, right), sides, strict=True)):
            self._set_value(tree, 2 * node + side, depth + 1, value)
            self._ranges[tree, depth + 1, 2 * node + side] = own

    def _find_split(
        self, columns: Ints, gradient: Floats, hessian: Floats, people: Floats, bounds: Range
    ) -> _Split | None:
        """Return the split of a node that gains most, or None."""
        rules, outputs = self._rules, self._plan.outputs
        sums = np.concatenate([gradient, hessian, people[..., None]], axis=2)
        total, missing = sums.sum(1, keepdims=True), sums[:, -1:]
        below = np.cumsum(sums[:, :-1], axis=1)[:, :-1]  # (columns, edges, sums)
        best: tuple[float, int, int, bool] | None = None
        for missing_left in (True, False):
            left = below + missing if missing_left else below
            right = total - left
            enough = np.minimum(left[..., -1], right[..., -1]) >= max(rules.min_people, 1e-9)
            enough &= np.minimum(*(side[..., outputs:-1].min(2) for side in (left, right))) >= rules.min_hessian
            values = [self._value(side[..., :outputs], side[..., outputs:-1], bounds) for side in (left, right)]
            for line, column in enumerate(columns.tolist()):
                if sign := rules.monotone.get(column, 0):
                    enough[line] &= sign * (values[1][line, :, 0] - values[0][line, :, 0]) >= 0
            scores = [
                self._score(side, value) for side, value in zip((left, right, total), (*values, None), strict=True)
            ]
            gain = np.where(enough, scores[0] + scores[1] - scores[2], -np.inf)
            row, edge = divmod(int(gain.argmax()), gain.shape[1])
            if gain[row, edge] > rules.min_gain + 1e-9 and (best is None or gain[row, edge] > best[0]):
                best = float(gain[row, edge]), row, edge, missing_left
        if best is None:
            return None
        highest, row, edge, missing_left = best
        left_sums = below[row, edge] + (missing[row, 0] if missing_left else 0)
        right_sums = total[row, 0] - left_sums
        column = int(columns[row])
        return _Split(column, edge, missing_left, left_sums[:-1], right_sums[:-1], highest)

    def _score(self, sums: Floats, value: Floats | None) -> Floats:
        """Return the decrease of the loss by giving a node its best value, or `value`."""
        outputs, l2 = self._plan.outputs, self._rules.l2
        gradient, hessian = sums[..., :outputs], sums[..., outputs:-1] + l2
        if value is None:
            return np.asarray((gradient**2 / hessian / 2).sum(-1), np.float64)
        return np.asarray(-(gradient * value + hessian * value**2 / 2).sum(-1), np.float64)


def compute_base(counts: Sequence[int], total: int, outputs: int, power: float, *, labels: bool) -> Floats:
    """Return the log odds before the first tree, `(outputs,)`, from the training examples of each class.

    Args:
        counts: examples of each class or label; a class without any counts as half of one.
        total: examples.
        outputs: numbers that a leaf holds.
        power: as training.weight_power; 0: equal weights.
        labels: whether the task is multilabel.
    """
    have = np.maximum(np.asarray(counts, np.float64), 0.5)
    if labels:
        rest = np.maximum(total - have, 0.5)
        return np.asarray(np.log(have / rest) + power * np.log(rest / have), np.float64)
    share = have / have.sum()
    log = (1 - power) * np.log(share)
    return np.asarray([log[1] - log[0]] if outputs == 1 else log - log.mean(), np.float64)
