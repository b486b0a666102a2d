"""Calibration, decision curves and operating points, from histograms of scores.

A site's histograms (common/metrics/counts.py: 1024 bins, evenly spaced in log odds) contain all that these metrics
need, so they add up over sites like other counts. A bin's examples count with the score of the bin's centre: with 1024
bins the error of a probability is at most 0.004, in either direction.

Functions take histograms `(..., classes, 2, bins)`, or a `ScoreHistogram` that shares intermediate sums between several
of them, and return `(..., classes)`, NaN where a metric is not defined.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from common.metrics.counts import LOGIT_RANGE, bin_edges, ratio
from common.metrics.early_warning import Floats, Ints

ECE_GROUPS = 10
"""Groups of an expected calibration error, the usual number."""
RELIABILITY_CUTS = tuple(float(cut) for cut in range(-6, 7))
"""Log odds that separate the groups of a reliability diagram; the same everywhere, so that counts add up over sites."""
DECISION_THRESHOLDS = tuple(cut / 2 for cut in range(-10, 7))
"""Log odds at which a decision curve is computed: probabilities from 0.7% to 95%."""


def bin_centres(bins: int) -> Floats:
    """Return the centre of each score bin, `(bins,)`, in log odds."""
    edges = bin_edges(bins)
    return np.asarray((edges + np.append(edges[1:], LOGIT_RANGE)) / 2, dtype=np.float64)


class ScoreHistogram:
    """Score histograms with their sums, each computed once.

    Attributes:
        scores: `(..., classes, 2, bins)`, examples without and with the class.
        bins: number of bins.
        log_odds: centre of each bin, `(bins,)`.
        probability: the probability there, `(bins,)`.
    """

    def __init__(self, scores: Ints) -> None:
        self.scores = scores
        self.bins = scores.shape[-1]
        self.log_odds = bin_centres(self.bins)
        self.probability = expit(self.log_odds)

    @classmethod
    def from_scores(cls, scores: Scores) -> ScoreHistogram:
        """Return counts as a ScoreHistogram; one that is passed is returned as it is."""
        return scores if isinstance(scores, ScoreHistogram) else cls(scores)

    @cached_property
    def by_outcome(self) -> tuple[Floats, Floats]:
        """Examples without and with the class, `(..., classes, bins)` each."""
        return self.scores[..., 0, :].astype(np.float64), self.scores[..., 1, :].astype(np.float64)

    @cached_property
    def total(self) -> Floats:
        """All examples, `(..., classes, bins)`."""
        return self.by_outcome[0] + self.by_outcome[1]

    @cached_property
    def cumulative(self) -> tuple[Floats, Floats]:
        """Examples without and with the class below each bin, `(..., classes, bins + 1)` each; the last: all."""

        def cumulate(part: Floats) -> Floats:
            sums = np.zeros((*part.shape[:-1], self.bins + 1))
            np.cumsum(part, -1, out=sums[..., 1:])
            return sums

        return cumulate(self.by_outcome[0]), cumulate(self.by_outcome[1])

    @property
    def events(self) -> Floats:
        """Number of examples with the class, `(..., classes)`."""
        return self.cumulative[1][..., -1]

    @property
    def size(self) -> Floats:
        """Number of examples, `(..., classes)`."""
        return np.asarray(self.cumulative[0][..., -1] + self.cumulative[1][..., -1])


Scores = Ints | ScoreHistogram


def brier(scores: Scores) -> Floats:
    """Return the Brier score of each class: mean squared difference between predicted probability and outcome.

    Brier 1950, Mon Weather Rev 78(1):1-3. His score of several classes is their sum, as is scikit-learn's
    `brier_score_loss`.
    """
    histogram = ScoreHistogram.from_scores(scores)
    negative, positive = histogram.by_outcome
    probability = histogram.probability
    return ratio(negative @ probability**2 + positive @ (1 - probability) ** 2, histogram.size)


def expected_calibration_error(scores: Scores, mass: bool = False, groups: int = ECE_GROUPS) -> Floats:
    """Return the expected calibration error: mean distance of probability and frequency over groups of similar scores.

    Naeini et al. 2015, AAAI 29, for each class against the rest: sum over groups of n_g / n |mean probability -
    frequency|.

    Args:
        scores: histograms.
        mass: whether groups have equally many examples (quantiles of the probability), not of equal width in the
            probability; both as in scikit-learn's `calibration_curve`.
        groups: number of groups.
    """
    histogram = ScoreHistogram.from_scores(scores)
    gaps = np.zeros((*histogram.total.shape[:-1], histogram.bins + 1))
    np.cumsum(histogram.total * histogram.probability - histogram.by_outcome[1], -1, out=gaps[..., 1:])
    if mass:
        last = np.searchsorted(histogram.probability, _quantiles(histogram, groups), side="right")
        ends = np.concatenate(
            [np.zeros((*last.shape[:-1], 1), int), last, np.full((*last.shape[:-1], 1), histogram.bins)], -1
        )
        gap = np.diff(np.take_along_axis(gaps, ends, -1), axis=-1)
    else:
        first = np.searchsorted(histogram.probability, np.linspace(0, 1, groups + 1)[1:-1], side="right")
        gap = np.diff(gaps[..., [0, *first, histogram.bins]], axis=-1)
    return ratio(np.abs(gap).sum(-1), histogram.size)


def _quantiles(histogram: ScoreHistogram, groups: int) -> Floats:
    """Return the probabilities between groups of equal size, `(..., groups - 1)`, as numpy.percentile computes them."""
    cumulative = (histogram.cumulative[0] + histogram.cumulative[1])[..., 1:]
    last = np.maximum(histogram.size - 1, 0)[..., None]
    position = np.linspace(0, 1, groups + 1)[1:-1] * last
    rank = np.floor(position)

    def probability_at(rank: Floats) -> Floats:
        bins = np.stack([(cumulative <= rank[..., i, None]).sum(-1) for i in range(groups - 1)], -1)
        return np.asarray(histogram.probability[np.minimum(bins, histogram.bins - 1)])

    low, high = probability_at(rank), probability_at(np.minimum(rank + 1, last))
    return np.asarray(low + (high - low) * (position - rank))


def calibration_line(scores: Scores, start: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
    """Return slope and intercept of the logistic regression of the outcome on the log odds.

    Cox 1958, Biometrika 45(3/4):562-565: 1 and 0 for a calibrated model; a slope below 1 means that the probabilities
    are too extreme. Fitted by Newton's method on the bins. NaN where no finite fit exists: only one outcome occurs, all
    scores are in one bin, or a threshold separates the outcomes.

    Args:
        scores: histograms.
        start: slope and intercept at which the iteration starts; None: at 0.
    """
    histogram = ScoreHistogram.from_scores(scores)
    shape, x = histogram.total.shape[:-1], histogram.log_odds
    negative, positive, total = (part.reshape(-1, len(x)) for part in (*histogram.by_outcome, histogram.total))
    fits = ~_is_separable(positive, negative)
    initial = np.zeros((len(total), 2))
    if start is not None:
        initial[:] = np.stack([np.broadcast_to(part, shape).ravel() for part in start], -1)
        initial[~np.isfinite(initial).all(-1)] = 0
    line = np.full((len(total), 2), np.nan)
    line[fits] = _fit_logistic(x, positive[fits], total[fits], initial[fits], halve=start is None)
    return line[:, 0].reshape(shape), line[:, 1].reshape(shape)


def _is_separable(positive: Floats, negative: Floats) -> npt.NDArray[np.bool_]:
    """Return where no finite fit exists, `(n,)`: one class is absent, or a threshold separates the classes."""
    bins = np.arange(positive.shape[-1])

    def find_range(part: Floats) -> tuple[Ints, Ints]:
        occupied = part > 0
        return np.where(occupied, bins, len(bins)).min(-1), np.where(occupied, bins, -1).max(-1)

    (low, high), (other_low, other_high) = find_range(positive), find_range(negative)
    separable: npt.NDArray[np.bool_] = (high < 0) | (other_high < 0) | (high <= other_low) | (other_high <= low)
    return separable


def _fit_logistic(x: Floats, positive: Floats, total: Floats, line: Floats, halve: bool) -> Floats:
    """Return slope and intercept of each row's regression, `(n, 2)`, by Newton's method; NaN: no convergence.

    Args:
        x: log odds of the bins, `(bins,)`.
        positive: examples with the class, `(n, bins)`.
        total: all examples, `(n, bins)`.
        line: where to start, `(n, 2)`; changed in place.
        halve: halve steps that lower the likelihood; else such rows are fitted again from 0.
    """
    active = np.arange(len(line))
    for _ in range(60 if halve else 12):
        a, b, p, n = line[active, 1:], line[active, :1], positive[active], total[active]
        z = a + b * x
        mu = expit(z)
        rest, weight = p - n * mu, n * mu * (1 - mu)
        g0, g1 = rest.sum(-1), rest @ x
        h00, h01, h11 = weight.sum(-1), weight @ x, weight @ (x * x)
        det = h00 * h11 - h01**2
        det = np.where(det > 0, det, np.nan)
        step = np.stack([(h00 * g1 - h01 * g0) / det, (h11 * g0 - h01 * g1) / det], -1)
        if halve:
            step = _halve_steps(x, p, n, line[active], step)
        line[active] += step
        size = np.abs(step).max(-1)
        active = active[~(size < 1e-6) & np.isfinite(line[active]).all(-1)]
        if not len(active):
            break
    line[active] = np.nan
    again = np.flatnonzero(~np.isfinite(line).all(-1))
    if len(again) and not halve:
        line[again] = _fit_logistic(x, positive[again], total[again], np.zeros((len(again), 2)), halve=True)
    return line


def _halve_steps(x: Floats, positive: Floats, total: Floats, line: Floats, step: Floats) -> Floats:
    """Return Newton's steps `(n, 2)`, halved until none lowers the likelihood."""

    def log_likelihood(line: Floats) -> Floats:
        z = line[:, 1:] + line[:, :1] * x
        return np.asarray((positive * z - total * np.logaddexp(0, z)).sum(-1))

    before = log_likelihood(line)
    for _ in range(30):
        worse = log_likelihood(line + step) < before - 1e-9 * np.abs(before)
        if not worse.any():
            break
        step = np.where(worse[:, None], step / 2, step)
    return step


def calibration_in_the_large(scores: Scores, start: Floats | None = None) -> Floats:
    """Return the calibration intercept at slope 1: above 0, the event is more frequent than predicted.

    Van Calster et al. 2019, BMC Medicine 17:230. NaN where only one outcome occurs.

    Args:
        scores: histograms.
        start: intercept at which the iteration starts; None: at 0.
    """
    histogram = ScoreHistogram.from_scores(scores)
    shape = histogram.size.shape
    n, events, total = histogram.size.ravel(), histogram.events.ravel(), histogram.total.reshape(-1, histogram.bins)
    intercept = np.zeros(len(n))
    if start is not None:
        intercept[:] = np.nan_to_num(np.broadcast_to(start, shape)).ravel()
    active = np.flatnonzero((events > 0) & (events < n))
    for _ in range(200):
        mu = expit(intercept[active, None] + histogram.log_odds)
        weighted = total[active] * mu
        step = (events[active] - weighted.sum(-1)) / np.maximum((weighted * (1 - mu)).sum(-1), 1e-300)
        intercept[active] += np.clip(step, -1, 1)
        active = active[np.abs(step) > 1e-6]  # the error is then of the order of its square
        if not len(active):
            break
    return np.where((events > 0) & (events < n), intercept, np.nan).reshape(shape)


def count_reliability_groups(scores: Scores) -> tuple[Ints, Ints, Floats]:
    """Return the groups of reliability diagrams, separated by RELIABILITY_CUTS.

    Returns:
        examples, events, and sums of predicted probabilities, `(..., classes, groups)` each.
    """
    histogram = ScoreHistogram.from_scores(scores)
    first = [0, *np.searchsorted(histogram.log_odds, RELIABILITY_CUTS).tolist(), histogram.bins]
    negative, positive = (np.diff(part[..., first], axis=-1) for part in histogram.cumulative)
    mass = np.zeros((*histogram.total.shape[:-1], histogram.bins + 1))
    np.cumsum(histogram.total * histogram.probability, -1, out=mass[..., 1:])
    examples, events = (np.rint(part).astype(np.int64) for part in (negative + positive, positive))
    return examples, events, np.diff(mass[..., first], axis=-1)


def count_patients_in_groups(scores: Ints) -> Ints | None:
    """Return the number of people with an example in each group of a reliability diagram, `(classes, groups)`.

    Args:
        scores: histograms of each person, `(people, classes, 2, bins)`.

    Returns:
        None where a cut of the groups lies within a bin.
    """
    bins = scores.shape[-1]
    if not np.isin(RELIABILITY_CUTS, bin_edges(bins)).all():
        return None
    first = np.concatenate([[0], np.searchsorted(bin_edges(bins), RELIABILITY_CUTS)])
    held = np.add.reduceat(scores.sum(-2), first, axis=-1)
    return np.asarray((held > 0).sum(0), dtype=np.int64)


def net_benefit(scores: Scores) -> tuple[Floats, Floats]:
    """Return net benefits `(..., classes, thresholds)` at DECISION_THRESHOLDS: of the model, and of treating all.

    Vickers and Elkin 2006, Med Decis Making 26(6):565-574: true positives / n - false positives / n * p / (1 - p).
    """
    histogram = ScoreHistogram.from_scores(scores)
    first = np.searchsorted(bin_edges(histogram.bins), np.asarray(DECISION_THRESHOLDS) - 1e-9)
    harm, n = np.exp(DECISION_THRESHOLDS), histogram.size[..., None]
    false, true = (part[..., -1:] - part[..., first] for part in histogram.cumulative)
    treat_all = ratio(histogram.events[..., None] - histogram.cumulative[0][..., -1:] * harm, n)
    return ratio(true - false * harm, n), treat_all


def sensitivity_at(scores: Scores, specificity: float) -> Floats:
    """Return the sensitivity where the ROC curve has this specificity, by linear interpolation."""
    negative, positive = ScoreHistogram.from_scores(scores).cumulative
    # from the highest bin down: examples above each bin
    return _interpolate(
        negative[..., -1:] - negative[..., ::-1], positive[..., -1:] - positive[..., ::-1], 1 - specificity
    )


def specificity_at(scores: Scores, sensitivity: float) -> Floats:
    """Return the specificity where the ROC curve has this sensitivity, by linear interpolation."""
    negative, positive = ScoreHistogram.from_scores(scores).cumulative
    return _interpolate(positive, negative, 1 - sensitivity)


def _interpolate(x: Floats, y: Floats, share: float) -> Floats:
    """Return y as a share of its end where x reaches a share of its end; both `(..., steps)` increase from 0."""
    x_end, y_end = x[..., -1], y[..., -1]
    goal = share * x_end
    step = np.maximum((x <= goal[..., None] * (1 + 1e-12) + 1e-12).sum(-1) - 1, 0)[..., None]
    after = np.minimum(step + 1, x.shape[-1] - 1)
    x0, x1, y0, y1 = (np.take_along_axis(a, i, -1)[..., 0] for a, i in ((x, step), (x, after), (y, step), (y, after)))
    part = np.clip(np.nan_to_num(ratio(goal - x0, x1 - x0)), 0, 1)
    return np.where(x_end > 0, ratio(y0 + (y1 - y0) * part, y_end), np.nan)
