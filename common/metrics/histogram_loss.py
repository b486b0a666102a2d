"""The loss computed from score histograms, because the sum of the examples' own losses must not leave a hospital."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.metrics.calibration import bin_centres
from common.metrics.early_warning import Floats


def sum_histogram_loss(scores: npt.NDArray[np.generic], multilabel: bool) -> Floats:
    """Return the summed negative log likelihood `(...)`, in nats, computed from histograms of log odds.

    If an example has one class, only the score of its true class counts. With several labels, all labels count.

    Args:
        scores: `(..., classes, 2, bins)`.
        multilabel: whether each class is a separate label.
    """
    centres = bin_centres(scores.shape[-1])
    loss = np.asarray((scores[..., 1, :] * np.logaddexp(0.0, -centres)).sum((-2, -1)), dtype=np.float64)
    if multilabel:
        loss = loss + (scores[..., 0, :] * np.logaddexp(0.0, centres)).sum((-2, -1))
    return np.asarray(loss)
