"""Mergeable counts, and the figures computed from them.

A site never sends its AUROC for the server to average: it sends counts (a confusion matrix, histograms of
scores for and against each class), the server adds them, and the pooled figure is computed from the sum.
All functions work on any number of leading axes, so that a thousand bootstrap resamples are one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LOGIT_RANGE = 16.0
"""Scores are binned evenly in logit over [-16, 16]; what lies beyond falls into the end bins."""


@dataclass(frozen=True)
class Counts:
    """What evaluation adds up.

    `confusion`: `(..., classes, classes)`, rows truth, columns prediction. `scores`: `(..., classes, 2,
    bins)`, for each class the histogram of its score among examples of other classes `[c, 0]` and its own
    `[c, 1]`. `loss`: `(...)`, the summed negative log likelihood in nats. Leading axes: patients or resamples.
    """

    confusion: Ints
    scores: Ints
    loss: Floats

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both, as if their examples had been counted together."""
        return Counts(self.confusion + other.confusion, self.scores + other.scores, np.asarray(self.loss + other.loss))

    def total(self) -> Counts:
        """Return the sum over the first axis."""
        return Counts(self.confusion.sum(0), self.scores.sum(0), np.asarray(self.loss.sum(0)))

    def resample(self, weights: npt.NDArray[np.float64]) -> Counts:
        """Return `weights @ self`: `(resamples, patients)` weights turn patients into resamples."""
        patients = len(self.confusion)

        def product(values: npt.NDArray[np.float64] | Ints) -> Floats:
            flat = weights @ values.reshape(patients, -1).astype(np.float64)
            return np.asarray(flat.reshape(len(weights), *values.shape[1:]), dtype=np.float64)

        return Counts(
            np.rint(product(self.confusion)).astype(np.int64),
            np.rint(product(self.scores)).astype(np.int64),
            product(self.loss),
        )

    def coarser(self, factor: int) -> Counts:
        """Return the counts with `factor` neighbouring score bins merged into one, the last of fewer."""
        merged = np.add.reduceat(self.scores, np.arange(0, self.scores.shape[-1], factor), axis=-1)
        return Counts(self.confusion, merged, self.loss)


def margins(logits: Floats) -> Floats:
    """Return each class's log odds against the rest, `(examples, classes)`, exact near 0 and 1 too.

    `logit(softmax(z)_c) = z_c - log(sum over k != c of exp(z_k))`.
    """
    logits = np.asarray(logits, dtype=np.float64)
    classes = logits.shape[1]
    out = np.empty_like(logits)
    for c in range(classes):
        others = np.delete(logits, c, axis=1)
        top = others.max(axis=1)
        out[:, c] = logits[:, c] - (top + np.log(np.exp(others - top[:, None]).sum(axis=1)))
    return out


def count(logits: npt.ArrayLike, truth: npt.ArrayLike, group: npt.ArrayLike, groups: int, bins: int) -> Counts:
    """Count predictions per group (patient): the leading axis of the result has length `groups`.

    Args:
        logits: `(examples, classes)`, finite.
        truth: `(examples,)`, class indices.
        group: `(examples,)`, indices below `groups`.
        groups: the number of groups.
        bins: the number of score bins.

    Raises:
        ValueError: a logit is NaN or infinite.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(truth, dtype=np.int64)
    g = np.asarray(group, dtype=np.int64)
    if not np.isfinite(z).all():
        raise ValueError("a prediction is not a finite number")
    classes = z.shape[1]
    predicted = z.argmax(axis=1)
    confusion = np.bincount((g * classes + y) * classes + predicted, minlength=groups * classes * classes)
    scores = np.zeros((groups, classes, 2, bins), dtype=np.int64)
    odds = margins(z)
    place = np.clip((odds + LOGIT_RANGE) * (bins / (2 * LOGIT_RANGE)), 0, bins - 1).astype(np.int64)
    for c in range(classes):
        index = (g * 2 + (y == c)) * bins + place[:, c]
        scores[:, c] = np.bincount(index, minlength=groups * 2 * bins).reshape(groups, 2, bins)
    own = odds[np.arange(len(y)), y] if len(y) else np.zeros(0)
    loss = np.bincount(g, weights=np.logaddexp(0.0, -own), minlength=groups)
    return Counts(confusion.reshape(groups, classes, classes), scores, loss.astype(np.float64))


def zero(classes: int, bins: int) -> Counts:
    """Return the counts of nothing."""
    return Counts(
        np.zeros((classes, classes), np.int64),
        np.zeros((classes, 2, bins), np.int64),
        np.zeros((), np.float64),
    )


def _ratio(top: npt.NDArray[np.generic], bottom: npt.NDArray[np.generic]) -> Floats:
    """Return top / bottom, NaN where bottom is 0."""
    top_, bottom_ = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    out = np.full(top_.shape, np.nan)
    np.divide(top_, bottom_, out=out, where=bottom_ != 0)
    return out


def accuracy(confusion: Ints) -> Floats:
    """Return the share of examples predicted right, `(...)`; NaN without examples."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def precision(confusion: Ints) -> Floats:
    """Return per-class precision `(..., classes)`; 0 where the class occurs but is never predicted."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    value = _ratio(hits, confusion.sum(-2))
    return np.where(np.isnan(value) & (confusion.sum(-1) > 0), 0.0, value)


def recall(confusion: Ints) -> Floats:
    """Return per-class recall (sensitivity) `(..., classes)`; NaN where the class does not occur."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1))


def f1(confusion: Ints) -> Floats:
    """Return per-class F1 `(..., classes)`; NaN where the class does not occur in the truth."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    value = _ratio(2 * hits, confusion.sum(-1) + confusion.sum(-2))
    return np.where(confusion.sum(-1) > 0, value, np.nan)


def auroc(scores: Ints) -> Floats:
    """Return the area under the ROC curve per class, `(..., classes)`; NaN unless both sides occur.

    The Mann-Whitney form: the chance that a positive scores above a negative, ties (one bin) counting half.
    """
    negative, positive = scores[..., 0, :].astype(np.float64), scores[..., 1, :].astype(np.float64)
    below = np.cumsum(negative, axis=-1) - negative
    return _ratio((positive * (below + negative / 2)).sum(-1), positive.sum(-1) * negative.sum(-1))


def auprc(scores: Ints) -> Floats:
    """Return the average precision per class, `(..., classes)`; NaN unless both sides occur.

    The step-wise sum of scikit-learn's `average_precision_score`: the mean of precision at each threshold,
    weighted by the recall won there.
    """
    negative = np.flip(scores[..., 0, :], -1).astype(np.float64)
    positive = np.flip(scores[..., 1, :], -1).astype(np.float64)
    hits, alarms = np.cumsum(positive, -1), np.cumsum(positive + negative, -1)
    value = _ratio((positive * np.nan_to_num(_ratio(hits, alarms))).sum(-1), positive.sum(-1))
    return np.where(negative.sum(-1) > 0, value, np.nan)


def macro(per_class: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """Return the plain mean over the classes marked `present`; NaN if one is NaN or none is present."""
    if not present.any():
        return np.full(per_class.shape[:-1], np.nan)
    return np.asarray(per_class[..., present].mean(-1), dtype=np.float64)
