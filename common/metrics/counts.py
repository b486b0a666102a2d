"""Mergeable counts, and the figures computed from them.

A site never sends its AUROC for the server to average: it sends counts (a confusion matrix, histograms of
scores for and against each class), the server adds them, and the pooled figure is computed from the sum.
All functions work on any number of leading axes, so that a thousand bootstrap resamples are one call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from common.metrics import early_warning
from common.metrics.early_warning import Floats, Ints

LOGIT_RANGE = 16.0
"""Scores are binned evenly in logit over [-16, 16]; what lies beyond falls into the end bins."""


_NONE: Floats = np.zeros(0)


@dataclass(frozen=True)
class Counts:
    """What evaluation adds up.

    `confusion`: `(..., classes, classes)`, rows truth, columns prediction; multilabel: `(..., classes, 2, 2)`.
    `scores`: `(..., classes, 2, bins)`, for each class the histogram of its score among examples without it
    `[c, 0]` and with it `[c, 1]`. `loss`: `(...)`, the summed negative log likelihood in nats. Where the task
    has a utility, `utility`: `(..., 3)`, the sums of what the alarms achieved, of what silence alone would
    have, and of the best that was possible; and `gain`: `(..., bins)`, what alarms win over silence, summed by
    the event's score, from which a threshold is chosen (empty in resamples). Where examples stand for time,
    `time`: `(..., classes)`, hours of the examples of each class; where the event has a beginning, `lead`: `(...,
    warning.WIDTH)`, patients with the event and when they were first warned. Leading axes: patients or resamples.
    """

    confusion: Ints
    scores: Ints
    loss: Floats
    utility: Floats = field(default_factory=lambda: _NONE)
    gain: Floats = field(default_factory=lambda: _NONE)
    time: Floats = field(default_factory=lambda: _NONE)
    lead: Floats = field(default_factory=lambda: _NONE)

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both, as if their examples had been counted together."""
        return Counts(
            self.confusion + other.confusion,
            self.scores + other.scores,
            np.asarray(self.loss + other.loss),
            self.utility + other.utility,
            self.gain + other.gain,
            *(a + b if a.size and b.size else _NONE for a, b in ((self.time, other.time), (self.lead, other.lead))),
        )

    def total(self) -> Counts:
        """Return the sum over the first axis."""
        rest = (part.sum(0) if part.size else _NONE for part in (self.utility, self.gain, self.time, self.lead))
        return Counts(self.confusion.sum(0), self.scores.sum(0), np.asarray(self.loss.sum(0)), *rest)

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
            product(self.utility) if self.utility.size else _NONE,
            time=product(self.time) if self.time.size else _NONE,
            lead=product(self.lead) if self.lead.size else _NONE,
        )

    def coarser(self, factor: int) -> Counts:
        """Return the counts with `factor` neighbouring score bins merged into one, the last of fewer."""
        merged = np.add.reduceat(self.scores, np.arange(0, self.scores.shape[-1], factor), axis=-1)
        return replace(self, scores=merged, gain=_NONE)


def class_log_odds(logits: Floats) -> Floats:
    """Return each class's log odds against the rest, `(examples, classes)`, exact near 0 and 1 too.

    `logit(softmax(z)_c) = z_c - log(sum over k != c of exp(z_k))`.
    """
    logits = np.asarray(logits, dtype=np.float64)
    classes = logits.shape[1]
    if classes == 2:
        event = logits[:, 1] - logits[:, 0]
        return np.stack([-event, event], axis=1)
    out = np.empty_like(logits)
    for c in range(classes):
        others = np.delete(logits, c, axis=1)
        top = others.max(axis=1)
        out[:, c] = logits[:, c] - (top + np.log(np.exp(others - top[:, None]).sum(axis=1)))
    return out


def bin_edges(bins: int) -> Floats:
    """Return the lower edges of the score bins, `(bins,)`, in log odds."""
    return np.arange(bins, dtype=np.float64) * (2 * LOGIT_RANGE / bins) - LOGIT_RANGE


def count_predictions(
    logits: npt.ArrayLike,
    truth: npt.ArrayLike,
    group: npt.ArrayLike,
    groups: int,
    bins: int,
    *,
    coarse: int = 1,
    threshold: float | None = None,
    worth: npt.ArrayLike | None = None,
    hours: npt.ArrayLike | None = None,
    until: npt.ArrayLike | None = None,
    losses: npt.ArrayLike | None = None,
) -> Counts:
    """Count predictions per group (patient): the leading axis of the result has length `groups`.

    Args:
        logits: `(examples, classes)`, finite.
        truth: `(examples,)`, class indices; or `(examples, classes)` of 0 and 1, each class on its own.
        group: `(examples,)`, indices below `groups`.
        groups: the number of groups.
        bins: the number of score bins.
        coarse: so many neighbouring bins are counted as one.
        threshold: log odds from which on an example counts as the event (two classes); none: the likelier class.
        worth: `(examples, 2)`, what silence and what an alarm are worth.
        hours: `(examples,)`, the time that each example stands for (not multilabel).
        until: `(examples,)`, hours until the event begins, NaN where none does (two classes).
        losses: `(examples,)`, in the place of the negative log likelihood.

    Raises:
        ValueError: a logit is NaN or infinite.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(truth, dtype=np.int64)
    g = np.asarray(group, dtype=np.int64)
    if not np.isfinite(z).all():
        raise ValueError("a prediction is not a finite number")
    classes = z.shape[1]
    odds = z if y.ndim == 2 else class_log_odds(z)
    if y.ndim == 2:
        own = y.astype(bool)
        index = (g[:, None] * classes + np.arange(classes)) * 4 + 2 * y + (odds > 0)
        confusion: Ints = np.bincount(index.ravel(), minlength=groups * classes * 4).reshape(-1, classes, 2, 2)
        surprise = np.logaddexp(0.0, np.where(own, -odds, odds)).sum(1)
    else:
        own = y[:, None] == np.arange(classes)
        predicted = z.argmax(axis=1) if threshold is None else (odds[:, 1] >= threshold).astype(np.int64)
        index = (g * classes + y) * classes + predicted
        confusion = np.bincount(index, minlength=groups * classes * classes).reshape(-1, classes, classes)
        surprise = np.logaddexp(0.0, -odds[np.arange(len(y)), y]) if len(y) else np.zeros(0)
    place = np.clip((odds + LOGIT_RANGE) * (bins / (2 * LOGIT_RANGE)), 0, bins - 1).astype(np.int64)
    width = -(-bins // coarse)
    scores = np.zeros((groups, classes, 2, width), dtype=np.int64)
    for c in range(classes):
        index = (g * 2 + own[:, c]) * width + place[:, c] // coarse
        scores[:, c] = np.bincount(index, minlength=groups * 2 * width).reshape(groups, 2, width)
    if losses is not None:
        surprise = np.asarray(losses, dtype=np.float64)
    loss = np.bincount(g, weights=surprise, minlength=groups).astype(np.float64)
    more: dict[str, Floats] = {}
    if hours is not None and y.ndim == 1:
        more["time"] = early_warning.sum_hours_by_class(hours, y, g, groups, classes)
    if until is not None and y.ndim == 1 and classes == 2:
        more["lead"] = early_warning.count_lead_times(until, predicted == 1, g, groups)
    if worth is None:
        return Counts(confusion, scores, loss, **more)
    value = np.asarray(worth, dtype=np.float64)
    sums = (value[np.arange(len(y)), predicted], value[:, 0], value.max(1, initial=-np.inf))
    utility = np.stack([np.bincount(g, weights=part, minlength=groups) for part in sums], axis=-1).astype(np.float64)
    if coarse > 1:
        return Counts(confusion, scores, loss, utility, **more)
    gain = np.bincount(g * bins + place[:, 1], weights=value[:, 1] - value[:, 0], minlength=groups * bins)
    return Counts(confusion, scores, loss, utility, gain.reshape(groups, bins).astype(np.float64), **more)


def empty_counts(confusion_shape: tuple[int, ...], bins: int, utility: bool = False) -> Counts:
    """Return the counts of nothing."""
    return Counts(
        np.zeros(confusion_shape, np.int64),
        np.zeros((confusion_shape[0], 2, bins), np.int64),
        np.zeros((), np.float64),
        np.zeros(3) if utility else _NONE,
        np.zeros(bins) if utility else _NONE,
    )


def choose_threshold(counts: Counts, rule: str, false_alarms: float = 0.05) -> float | None:
    """Return the log odds from which on to call the event, chosen on counts of one task of two classes.

    Args:
        counts: without leading axis.
        rule: "f1" (of the event), "youden" (sensitivity + specificity), "utility", or "false_alarms".
        false_alarms: largest share of examples without the event that the rule of that name lets be called.

    Returns:
        a lower edge of a score bin, the highest of equally good ones; by false alarms the lowest that keeps to them,
        the range's end where none does. None where both classes do not occur (false alarms: nothing without the event).
    """
    negative, positive = (np.cumsum(counts.scores[1, side, ::-1])[::-1].astype(np.float64) for side in (0, 1))
    if rule == "false_alarms":
        if negative[0] == 0:
            return None
        kept = np.flatnonzero(negative <= false_alarms * negative[0])
        return float(bin_edges(len(negative))[kept[0]]) if len(kept) else LOGIT_RANGE
    if negative[0] == 0 or positive[0] == 0:
        return None
    if rule == "utility":
        value = np.cumsum(counts.gain[::-1])[::-1]
    elif rule == "f1":
        value = 2 * positive / (positive + negative + positive[0])
    else:
        value = positive / positive[0] - negative / negative[0]
    best = int(np.flatnonzero(value >= value.max() - 1e-12)[-1])
    return float(bin_edges(len(value))[best])


def apply_threshold(counts: Counts, threshold: float) -> Counts:
    """Return counts of a task of two classes as they are with another threshold, a lower edge of a bin.

    When patients were first warned is not known there: it is left out.
    """
    bins = counts.scores.shape[-1]
    first = int(np.searchsorted(bin_edges(bins), threshold - 1e-9))
    called = counts.scores[..., 1, :, first:].sum(-1)
    every = counts.scores[..., 1, :, :].sum(-1)
    confusion = np.stack([every - called, called], axis=-1)
    if not counts.utility.size:
        return replace(counts, confusion=confusion, lead=_NONE)
    sums = counts.utility.copy()
    sums[..., 0] = sums[..., 1] + counts.gain[..., first:].sum(-1)
    return replace(counts, confusion=confusion, utility=sums, lead=_NONE)


def normalised_utility(sums: Floats) -> Floats:
    """Return the normalised utility `(...)` of `Counts.utility`: 1 the best possible, 0 silence.

    Reyna et al. 2020, Crit Care Med 48(2):210-217: (achieved - silence) / (best - silence).
    """
    return ratio(sums[..., 0] - sums[..., 1], sums[..., 2] - sums[..., 1])


def class_totals(confusion: Ints, multilabel: bool = False) -> tuple[Ints, Ints, Ints]:
    """Return for each class, `(..., classes)`: right predictions of it, all predictions of it, its examples."""
    if multilabel:
        return confusion[..., 1, 1], confusion[..., 1].sum(-1), confusion[..., 1, :].sum(-1)
    return np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-2), confusion.sum(-1)


def ratio(top: npt.NDArray[np.generic], bottom: npt.NDArray[np.generic]) -> Floats:
    """Return top / bottom, NaN where bottom is 0."""
    top_, bottom_ = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    out = np.full(top_.shape, np.nan)
    np.divide(top_, bottom_, out=out, where=bottom_ != 0)
    return out


def accuracy(confusion: Ints, multilabel: bool = False) -> Floats:
    """Return the share of examples predicted right, `(...)`; NaN without examples.

    Multilabel: the share of right answers over all labels (one minus the Hamming loss).
    """
    axes = (-3, -2, -1) if multilabel else (-2, -1)
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return ratio(right.sum(-1) if multilabel else right, confusion.sum(axes))


def precision(confusion: Ints, multilabel: bool = False) -> Floats:
    """Return per-class precision `(..., classes)`; 0 where the class occurs but is never predicted."""
    hits, predicted, actual = class_totals(confusion, multilabel)
    value = ratio(hits, predicted)
    return np.where(np.isnan(value) & (actual > 0), 0.0, value)


def recall(confusion: Ints, multilabel: bool = False) -> Floats:
    """Return per-class recall (sensitivity) `(..., classes)`; NaN where the class does not occur."""
    hits, _, actual = class_totals(confusion, multilabel)
    return ratio(hits, actual)


def f1(confusion: Ints, multilabel: bool = False) -> Floats:
    """Return per-class F1 `(..., classes)`; NaN where the class does not occur in the truth."""
    hits, predicted, actual = class_totals(confusion, multilabel)
    value = ratio(2 * hits, actual + predicted)
    return np.where(actual > 0, value, np.nan)


def auroc(scores: Ints) -> Floats:
    """Return the area under the ROC curve per class, `(..., classes)`; NaN unless both sides occur.

    The Mann-Whitney form: the chance that a positive scores above a negative, ties (one bin) counting half.
    """
    negative, positive = scores[..., 0, :].astype(np.float64), scores[..., 1, :].astype(np.float64)
    below = np.cumsum(negative, axis=-1) - negative
    return ratio((positive * (below + negative / 2)).sum(-1), positive.sum(-1) * negative.sum(-1))


def auprc(scores: Ints) -> Floats:
    """Return the average precision per class, `(..., classes)`; NaN unless both sides occur.

    The step-wise sum of scikit-learn's `average_precision_score`: the mean of precision at each threshold,
    weighted by the recall won there.
    """
    negative = np.flip(scores[..., 0, :], -1).astype(np.float64)
    positive = np.flip(scores[..., 1, :], -1).astype(np.float64)
    hits, alarms = np.cumsum(positive, -1), np.cumsum(positive + negative, -1)
    value = ratio((positive * np.nan_to_num(ratio(hits, alarms))).sum(-1), positive.sum(-1))
    return np.where(negative.sum(-1) > 0, value, np.nan)


def macro_mean(per_class: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """Return the plain mean over the classes marked `present`; NaN if one is NaN or none is present."""
    if not present.any():
        return np.full(per_class.shape[:-1], np.nan)
    return np.asarray(per_class[..., present].mean(-1), dtype=np.float64)
