"""The leaves of a round's trees whose splits are drawn by the run's seed, from the sums of all hospitals.

A leaf's value is XGBoost's (Chen and Guestrin 2016, KDD, equation 5), times the round's step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.arrays import Weights
from common.trees import Floats, TreePlan


@dataclass(frozen=True)
class LeafRules:
    """How leaves get their values.

    Attributes:
        l2: added to the sum of second derivatives.
        step: what a leaf's value is multiplied by: the learning rate, divided by the trees of the round.
    """

    l2: float
    step: float


def set_leaf_values(
    trees: Weights, plan: TreePlan, rules: LeafRules, number: int, gradient: Floats, hessian: Floats
) -> None:
    """Set the leaves of a round's trees.

    Args:
        trees: the model's arrays; changed in place.
        plan: the trees.
        rules: how values are computed.
        number: the round, counted from 1.
        gradient: merged sums of first derivatives, `(trees of the round, leaves, outputs)`.
        hessian: of second derivatives, in the same shape; those below 0, by errors, count as 0.
    """
    which = plan.list_trees(number)
    below = np.maximum(hessian, 0.0) + rules.l2
    value = np.where(below > 0, -gradient / np.maximum(below, 1e-9), 0.0)
    trees["value"][which.start : which.stop] = (rules.step * value).astype(np.float32)
