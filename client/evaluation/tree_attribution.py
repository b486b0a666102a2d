"""Exact Shapley values of trees (TreeSHAP), computed by LightGBM from the model alone.

The value of an input is what it adds to the log odds, averaged over all orders in which the inputs become known, where
an unknown input sends the share of people to each side that common/flat_trees.py states. With the value of knowing
nothing they add up to the log odds. Source: Lundberg, Erion and Lee 2018, arXiv:1802.03888, algorithm 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from common.errors import SiteError
from common.flat_trees import flatten_trees
from common.lightgbm_text import to_lightgbm
from common.scaling import Scaling
from common.task import Task

Floats = npt.NDArray[np.float64]


class TreeExplainer:
    """Computes the Shapley values of a model of trees."""

    def __init__(self, model: nn.Module, task: Task, scaling: Scaling) -> None:
        """Load the trees.

        Args:
            model: the trees.
            task: what they predict.
            scaling: how its inputs are scaled.

        Raises:
            SiteError: LightGBM is not installed.
        """
        try:
            from lightgbm import Booster
        except ImportError:
            raise SiteError("no Shapley values: LightGBM is not installed: pip install 'wardround[trees]'") from None
        weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
        trees = flatten_trees(weights, weights["threshold"], scaling)
        self._booster: Any = Booster(model_str=to_lightgbm(trees, task))
        self._outputs = len(weights["base"])

    def explain(self, features: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return the values `(rows, outputs, features)`, and what they start from, `(outputs,)`.

        Args:
            features: scaled inputs `(rows, features)`, NaN where missing.
        """
        width = features.shape[1] + 1
        if not len(features):
            return np.zeros((0, self._outputs, width - 1)), np.zeros(self._outputs)
        values = self._booster.predict(np.asarray(features, np.float64), pred_contrib=True, num_threads=1)
        values = np.asarray(values, np.float64).reshape(len(features), self._outputs, width)
        return values[:, :, :-1], values[0, :, -1]


def attribute_true_class(
    explainer: TreeExplainer, features: npt.NDArray[np.float32], y: npt.NDArray[np.int64]
) -> Floats:
    """Return the values for the log odds of the true class, or of several its logit, `(rows, features)`."""
    values, _ = explainer.explain(features)
    if values.shape[1] == 1:
        return np.asarray(values[:, 0] * np.where(y == 1, 1.0, -1.0)[:, None], np.float64)
    return np.asarray(values[np.arange(len(y)), y], np.float64)
