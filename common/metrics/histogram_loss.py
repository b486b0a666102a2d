"""The loss computed from score histograms, because the sum of the examples' own losses must not leave a hospital."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.metrics.calibration import bin_centres
from common.metrics.early_warning import Floats


def sum_histogram_loss(scores: npt.NDArray[np.generic], multilabel: bool) -> Floats:
    """Return the summed negative log likelihood in nats `(...)` that histograms of log odds give.

    Of one true class: each class's histogram of its own score among examples that have it. Of several labels: of all
    labels, with and without.

    Args:
        scores: `(..., classes, 2, bins)`.
        multilabel: whether each class is a separate label.
    """
    centres = bin_centres(scores.shape[-1])
    loss = np.asarray((scores[..., 1, :] * np.logaddexp(0.0, -centres)).sum((-2, -1)), dtype=np.float64)
    if multilabel:
        loss = loss + (scores[..., 0, :] * np.logaddexp(0.0, centres)).sum((-2, -1))
    return np.asarray(loss)
