"""Mergeable counts, and the metrics computed from them.

A site does not send its AUROC for the server to average: it sends counts (a confusion matrix, and histograms of scores
of examples with and without each class). The server adds them and computes the pooled metric from the sum. Functions
accept any number of leading axes, so that a thousand bootstrap resamples are one call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from common.metrics import early_warning
from common.metrics.early_warning import Floats, Ints

LOGIT_RANGE = 16.0
"""Scores are binned in log odds over [-16, 16]; scores beyond fall into the end bins."""
UNEVEN, FINENESS = range(16, 64), 4.0
"""Numbers of bins that are spaced evenly in asinh(FINENESS x), because few are coarse; 64 and more are equally wide."""

_NONE: Floats = np.zeros(0)


@dataclass(frozen=True)
class Counts:
    """Counts of predictions, which add up over patients, sites and resamples. Leading axes: patients or resamples.

    Attributes:
        confusion: `(..., classes, classes)`, rows truth, columns prediction; multilabel: `(..., classes, 2, 2)`.
        scores: `(..., classes, 2, bins)`, for each class the histogram of its log odds among the examples without it
            `[c, 0]` and with it `[c, 1]`.
        loss: `(...)`, summed negative log likelihood in nats.
        utility: `(..., 3)`, summed utility of the alarms, of silence, and the best possible; empty without a utility.
        gain: `(..., bins)`, utility of an alarm minus that of silence, summed by the score of the event, from which a
            threshold is chosen; empty without a utility, and in resamples.
        time: `(..., classes)`, hours of the examples of each class; empty unless examples stand for time.
        lead: `(..., LEAD_TABLE_WIDTH)`, patients with the event and when they were first warned
            (common/metrics/early_warning.py); empty unless the event has an onset.
    """

    confusion: Ints
    scores: Ints
    loss: Floats
    utility: Floats = field(default_factory=lambda: _NONE)
    gain: Floats = field(default_factory=lambda: _NONE)
    time: Floats = field(default_factory=lambda: _NONE)
    lead: Floats = field(default_factory=lambda: _NONE)

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both sets of examples together."""
        return Counts(
            self.confusion + other.confusion,
            self.scores + other.scores,
            np.asarray(self.loss + other.loss),
            self.utility + other.utility,
            self.gain + other.gain,
            *(a + b if a.size and b.size else _NONE for a, b in ((self.time, other.time), (self.lead, other.lead))),
        )

    def total(self) -> Counts:
        """Return the sum of the counts over the first axis."""
        rest = (part.sum(0) if part.size else _NONE for part in (self.utility, self.gain, self.time, self.lead))
        return Counts(self.confusion.sum(0), self.scores.sum(0), np.asarray(self.loss.sum(0)), *rest)

    def resample(self, weights: npt.NDArray[np.float64]) -> Counts:
        """Return counts of resamples from counts by patient.

        Args:
            weights: `(resamples, patients)`, how often each patient is drawn.
        """
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
        """Return the counts with each `factor` neighbouring score bins merged into one; the last may have fewer."""
        merged = np.add.reduceat(self.scores, np.arange(0, self.scores.shape[-1], factor), axis=-1)
        return replace(self, scores=merged, gain=_NONE)


def class_log_odds(logits: Floats) -> Floats:
    """Return the log odds of each class against the rest, `(examples, classes)`, accurate near 0 and 1 too.

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
    """Return the lower edge of each score bin, `(bins,)`, in log odds.

    Bins are equally wide, except where their number is in UNEVEN: those near 0, where most scores are, are narrower.
    """
    if bins in UNEVEN:
        position = np.arange(bins, dtype=np.float64) / (bins / 2) - 1
        return np.asarray(np.sinh(np.arcsinh(FINENESS * LOGIT_RANGE) * position) / FINENESS)
    return np.arange(bins, dtype=np.float64) * (2 * LOGIT_RANGE / bins) - LOGIT_RANGE


def locate_bins(odds: Floats, bins: int) -> Ints:
    """Return the score bin of each log odds, of their shape."""
    if bins in UNEVEN:
        return np.clip(np.searchsorted(bin_edges(bins), odds, side="right") - 1, 0, bins - 1).astype(np.int64)
    return np.clip((odds + LOGIT_RANGE) * (bins / (2 * LOGIT_RANGE)), 0, bins - 1).astype(np.int64)


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
    """Return counts of predictions by group (patient): the leading axis of the result has length `groups`.

    Args:
        logits: `(examples, classes)`, finite.
        truth: `(examples,)`, class indices; or `(examples, classes)` of 0 and 1, each class on its own.
        group: `(examples,)`, indices below `groups`.
        groups: the number of groups.
        bins: the number of score bins.
        coarse: number of neighbouring bins that are merged into one.
        threshold: log odds at or above which the event is predicted (two classes); None: the likelier class.
        worth: `(examples, 2)`, utility of silence and of an alarm.
        hours: `(examples,)`, hours that each example stands for (not multilabel).
        until: `(examples,)`, hours until the onset of the event; NaN: no event (two classes).
        losses: `(examples,)`, in place of the negative log likelihood.

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
        loss_by_example = np.logaddexp(0.0, np.where(own, -odds, odds)).sum(1)
    else:
        own = y[:, None] == np.arange(classes)
        predicted = z.argmax(axis=1) if threshold is None else (odds[:, 1] >= threshold).astype(np.int64)
        index = (g * classes + y) * classes + predicted
        confusion = np.bincount(index, minlength=groups * classes * classes).reshape(-1, classes, classes)
        loss_by_example = np.logaddexp(0.0, -odds[np.arange(len(y)), y]) if len(y) else np.zeros(0)
    bin_index = locate_bins(odds, bins)
    width = -(-bins // coarse)
    scores = np.zeros((groups, classes, 2, width), dtype=np.int64)
    for c in range(classes):
        index = (g * 2 + own[:, c]) * width + bin_index[:, c] // coarse
        scores[:, c] = np.bincount(index, minlength=groups * 2 * width).reshape(groups, 2, width)
    if losses is not None:
        loss_by_example = np.asarray(losses, dtype=np.float64)
    loss = np.bincount(g, weights=loss_by_example, minlength=groups).astype(np.float64)
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
    gain = np.bincount(g * bins + bin_index[:, 1], weights=value[:, 1] - value[:, 0], minlength=groups * bins)
    return Counts(confusion, scores, loss, utility, gain.reshape(groups, bins).astype(np.float64), **more)


def empty_counts(confusion_shape: tuple[int, ...], bins: int, utility: bool = False) -> Counts:
    """Return counts of no examples."""
    return Counts(
        np.zeros(confusion_shape, np.int64),
        np.zeros((confusion_shape[0], 2, bins), np.int64),
        np.zeros((), np.float64),
        np.zeros(3) if utility else _NONE,
        np.zeros(bins) if utility else _NONE,
    )


def choose_threshold(counts: Counts, rule: str, false_alarms: float = 0.05) -> float | None:
    """Return the decision threshold in log odds, chosen on the counts of a task of two classes.

    Args:
        counts: counts without leading axis.
        rule: what is maximised: "f1" of the event, "youden" (sensitivity + specificity), or "utility"; or
            "false_alarms": the lowest threshold that keeps to the share below.
        false_alarms: largest share of the examples without the event that are predicted as the event.

    Returns:
        the lower edge of a score bin, the highest of equally good ones; LOGIT_RANGE where every threshold gives too
        many false alarms. None where the counts lack a class that the rule needs.
    """
    negative, positive = (np.cumsum(counts.scores[1, side, ::-1])[::-1].astype(np.float64) for side in (0, 1))
    if rule == "false_alarms":
        if negative[0] == 0:
            return None
        allowed = np.flatnonzero(negative <= false_alarms * negative[0])
        return float(bin_edges(len(negative))[allowed[0]]) if len(allowed) else LOGIT_RANGE
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
    """Return the counts of a task of two classes with another threshold.

    Lead times are left out, because counts do not say when patients would have been first warned.

    Args:
        counts: with any leading axes.
        threshold: log odds at or above which the event is predicted, the lower edge of a score bin.
    """
    bins = counts.scores.shape[-1]
    first = int(np.searchsorted(bin_edges(bins), threshold - 1e-9))
    called = counts.scores[..., 1, :, first:].sum(-1)
    examples = counts.scores[..., 1, :, :].sum(-1)
    confusion = np.stack([examples - called, called], axis=-1)
    if not counts.utility.size:
        return replace(counts, confusion=confusion, lead=_NONE)
    sums = counts.utility.copy()
    sums[..., 0] = sums[..., 1] + counts.gain[..., first:].sum(-1)
    return replace(counts, confusion=confusion, utility=sums, lead=_NONE)


def normalised_utility(sums: Floats) -> Floats:
    """Return the normalised utility `(...)` from `Counts.utility`: 1 for the best possible, 0 for silence.

    Reyna et al. 2020, Crit Care Med 48(2):210-217: (achieved - silence) / (best - silence).
    """
    return ratio(sums[..., 0] - sums[..., 1], sums[..., 2] - sums[..., 1])


def class_totals(confusion: Ints, multilabel: bool = False) -> tuple[Ints, Ints, Ints]:
    """Return correct predictions, predictions and examples of each class, `(..., classes)` each."""
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
    """Return the share of correct predictions, `(...)`; NaN without examples.

    Multilabel: the share of correct labels (one minus the Hamming loss).
    """
    axes = (-3, -2, -1) if multilabel else (-2, -1)
    correct = np.trace(confusion, axis1=-2, axis2=-1)
    return ratio(correct.sum(-1) if multilabel else correct, confusion.sum(axes))


def precision(confusion: Ints, multilabel: bool = False) -> Floats:
    """Return the precision of each class `(..., classes)`; 0 where the class occurs but is never predicted."""
    hits, predicted, actual = class_totals(confusion, multilabel)
    value = ratio(hits, predicted)
    return np.where(np.isnan(value) & (actual > 0), 0.0, value)


def recall(confusion: Ints, multilabel: bool = False) -> Floats:
    """Return the recall (sensitivity) of each class `(..., classes)`; NaN where the class does not occur."""
    hits, _, actual = class_totals(confusion, multilabel)
    return ratio(hits, actual)


def f1(confusion: Ints, multilabel: bool = False) -> Floats:
    """Return the F1 of each class `(..., classes)`; NaN where the class does not occur."""
    hits, predicted, actual = class_totals(confusion, multilabel)
    value = ratio(2 * hits, actual + predicted)
    return np.where(actual > 0, value, np.nan)


def auroc(scores: Ints) -> Floats:
    """Return the area under the ROC curve of each class, `(..., classes)`; NaN unless both outcomes occur.

    In the Mann-Whitney form: the probability that a positive scores above a negative, where ties (in one bin) count
    half.
    """
    negative, positive = scores[..., 0, :].astype(np.float64), scores[..., 1, :].astype(np.float64)
    below = np.cumsum(negative, axis=-1) - negative
    return ratio((positive * (below + negative / 2)).sum(-1), positive.sum(-1) * negative.sum(-1))


def auprc(scores: Ints) -> Floats:
    """Return the average precision of each class, `(..., classes)`; NaN unless both outcomes occur.

    As scikit-learn's `average_precision_score`: the mean of the precision at each threshold, weighted by the increase
    of recall.
    """
    negative = np.flip(scores[..., 0, :], -1).astype(np.float64)
    positive = np.flip(scores[..., 1, :], -1).astype(np.float64)
    hits, alarms = np.cumsum(positive, -1), np.cumsum(positive + negative, -1)
    value = ratio((positive * np.nan_to_num(ratio(hits, alarms))).sum(-1), positive.sum(-1))
    return np.where(negative.sum(-1) > 0, value, np.nan)


def macro_mean(per_class: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """Return the mean `(...)` over the classes marked in `present`; NaN if one of them is NaN or none is marked."""
    if not present.any():
        return np.full(per_class.shape[:-1], np.nan)
    return np.asarray(per_class[..., present].mean(-1), dtype=np.float64)
