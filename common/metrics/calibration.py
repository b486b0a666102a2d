"""Calibration, decision curves and operating points, from histograms of scores.

A site's histograms (common/metrics/counts.py: 1024 bins, evenly in log odds) hold all that these need, so they add up
over
sites like everything else. A bin's examples count as if their score were the bin's middle: with 1024 bins a
chance is off by 0.004 at most, and not in one direction.

All functions take `(..., classes, 2, bins)`, or a `Histogram` of it that shares what several of them need, and return
`(..., classes)`, NaN where a figure is not defined.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from common.metrics.counts import LOGIT_RANGE, bin_edges, ratio
from common.metrics.early_warning import Floats, Ints

ECE_GROUPS = 10
RELIABILITY_CUTS = tuple(float(cut) for cut in range(-6, 7))
"""Log odds between the groups of a reliability diagram, whose counts of examples and patients add up over sites."""
DECISION_THRESHOLDS = tuple(cut / 2 for cut in range(-10, 7))
"""Log odds at which a decision curve is drawn: chances from 0.7% to 95%."""


def bin_centres(bins: int) -> Floats:
    """Return the middle of each bin, `(bins,)`, in log odds."""
    return bin_edges(bins) + LOGIT_RANGE / bins


class ScoreHistogram:
    """Score histograms `(..., classes, 2, bins)` with their sums, each computed once."""

    def __init__(self, scores: Ints) -> None:
        self.scores = scores
        self.bins = scores.shape[-1]
        self.x = bin_centres(self.bins)
        self.chance = expit(self.x)

    @classmethod
    def of(cls, scores: Scores) -> ScoreHistogram:
        """Return it, or the histogram of counts."""
        return scores if isinstance(scores, ScoreHistogram) else cls(scores)

    @cached_property
    def sides(self) -> tuple[Floats, Floats]:
        """Counts without and with the class, `(..., classes, bins)`."""
        return self.scores[..., 0, :].astype(np.float64), self.scores[..., 1, :].astype(np.float64)

    @cached_property
    def every(self) -> Floats:
        """All examples, `(..., classes, bins)`."""
        return self.sides[0] + self.sides[1]

    @cached_property
    def below(self) -> tuple[Floats, Floats]:
        """Counts without and with the class below each bin, `(..., classes, bins + 1)`, the last of all."""

        def summed(side: Floats) -> Floats:
            found = np.zeros((*side.shape[:-1], self.bins + 1))
            np.cumsum(side, -1, out=found[..., 1:])
            return found

        return summed(self.sides[0]), summed(self.sides[1])

    @property
    def hits(self) -> Floats:
        """Examples with the class, `(..., classes)`."""
        return self.below[1][..., -1]

    @property
    def size(self) -> Floats:
        """All examples, `(..., classes)`."""
        return np.asarray(self.below[0][..., -1] + self.below[1][..., -1])


Scores = Ints | ScoreHistogram


def brier(scores: Scores) -> Floats:
    """Return the mean squared distance of the chance from what was (Brier 1950), of each class on its own.

    Over several classes Brier's own score is the sum; scikit-learn's `brier_score_loss` likewise.
    """
    found = ScoreHistogram.of(scores)
    negative, positive = found.sides
    return ratio(negative @ found.chance**2 + positive @ (1 - found.chance) ** 2, found.size)


def expected_calibration_error(scores: Scores, mass: bool = False, groups: int = ECE_GROUPS) -> Floats:
    """Return the expected calibration error: the mean distance of chance and share over groups of like examples.

    Naeini et al. 2015, AAAI 29, for each class against the rest: sum over groups of n_g / n |mean chance - share|.
    Groups are as scikit-learn's `calibration_curve` makes them: of equal width in the chance, or (`mass`) of equally
    many examples (quantiles of the chance).
    """
    found = ScoreHistogram.of(scores)
    gaps = np.zeros((*found.every.shape[:-1], found.bins + 1))
    np.cumsum(found.every * found.chance - found.sides[1], -1, out=gaps[..., 1:])
    if mass:
        last = np.searchsorted(found.chance, _quantiles(found, groups), side="right")
        ends = np.concatenate(
            [np.zeros((*last.shape[:-1], 1), int), last, np.full((*last.shape[:-1], 1), found.bins)], -1
        )
        gap = np.diff(np.take_along_axis(gaps, ends, -1), axis=-1)
    else:
        first = np.searchsorted(found.chance, np.linspace(0, 1, groups + 1)[1:-1], side="right")
        gap = np.diff(gaps[..., [0, *first, found.bins]], axis=-1)
    return ratio(np.abs(gap).sum(-1), found.size)


def _quantiles(found: ScoreHistogram, groups: int) -> Floats:
    """Return the chances between equally large groups, `(..., groups - 1)`, as numpy.percentile gives them."""
    cumulated = (found.below[0] + found.below[1])[..., 1:]
    most = np.maximum(found.size - 1, 0)[..., None]
    place = np.linspace(0, 1, groups + 1)[1:-1] * most
    low = np.floor(place)

    def value(rank: Floats) -> Floats:
        bins = np.stack([(cumulated <= rank[..., i, None]).sum(-1) for i in range(groups - 1)], -1)
        return np.asarray(found.chance[np.minimum(bins, found.bins - 1)])

    below, above = value(low), value(np.minimum(low + 1, most))
    return np.asarray(below + (above - below) * (place - low))


def calibration_line(scores: Scores, start: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
    """Return slope and intercept of the logistic regression of what was on the log odds.

    Cox 1958, Biometrika 45(3/4):562-565: 1 and 0 for a calibrated model; a slope below 1 says that the chances
    are too extreme. Found by Newton's method on the bins; none where both sides do not occur, all scores are in one
    bin, or a threshold parts the sides and the fit has no end.

    Args:
        scores: histograms.
        start: slope and intercept to begin at.
    """
    given = ScoreHistogram.of(scores)
    shape, x = given.every.shape[:-1], given.x
    negative, positive, every = (side.reshape(-1, len(x)) for side in (*given.sides, given.every))
    fits = ~_parted(positive, negative)
    begin = np.zeros((len(every), 2))
    if start is not None:
        begin[:] = np.stack([np.broadcast_to(part, shape).ravel() for part in start], -1)
        begin[~np.isfinite(begin).all(-1)] = 0
    found = np.full((len(every), 2), np.nan)
    found[fits] = _newton(x, positive[fits], every[fits], begin[fits], halve=start is None)
    return found[:, 0].reshape(shape), found[:, 1].reshape(shape)


def _parted(positive: Floats, negative: Floats) -> npt.NDArray[np.bool_]:
    """Return where no finite fit exists, `(n,)`: one side is not there, or none of it lies beyond the other's least."""
    bins = np.arange(positive.shape[-1])

    def ends(side: Floats) -> tuple[Ints, Ints]:
        has = side > 0
        return np.where(has, bins, len(bins)).min(-1), np.where(has, bins, -1).max(-1)

    (low, high), (least, most) = ends(positive), ends(negative)
    found: npt.NDArray[np.bool_] = (high < 0) | (most < 0) | (high <= least) | (most <= low)
    return found


def _newton(x: Floats, positive: Floats, every: Floats, found: Floats, halve: bool) -> Floats:
    """Return slope and intercept `(n, 2)` of each row's regression; NaN where it does not settle."""
    open_ = np.arange(len(found))
    for _ in range(60 if halve else 12):
        a, b, p, n = found[open_, 1:], found[open_, :1], positive[open_], every[open_]
        z = a + b * x
        mu = expit(z)
        rest, weight = p - n * mu, n * mu * (1 - mu)
        g0, g1 = rest.sum(-1), rest @ x
        h00, h01, h11 = weight.sum(-1), weight @ x, weight @ (x * x)
        det = h00 * h11 - h01**2
        det = np.where(det > 0, det, np.nan)
        step = np.stack([(h00 * g1 - h01 * g0) / det, (h11 * g0 - h01 * g1) / det], -1)
        if halve:
            step = _shortened(x, p, n, found[open_], step)
        found[open_] += step
        size = np.abs(step).max(-1)
        open_ = open_[~(size < 1e-6) & np.isfinite(found[open_]).all(-1)]
        if not len(open_):
            break
    found[open_] = np.nan
    again = np.flatnonzero(~np.isfinite(found).all(-1))
    if len(again) and not halve:
        found[again] = _newton(x, positive[again], every[again], np.zeros((len(again), 2)), halve=True)
    return found


def _shortened(x: Floats, positive: Floats, every: Floats, found: Floats, step: Floats) -> Floats:
    """Return Newton's steps, halved until none lowers the likelihood."""

    def likelihood(at: Floats) -> Floats:
        z = at[:, 1:] + at[:, :1] * x
        return np.asarray((positive * z - every * np.logaddexp(0, z)).sum(-1))

    before = likelihood(found)
    for _ in range(30):
        worse = likelihood(found + step) < before - 1e-9 * np.abs(before)
        if not worse.any():
            break
        step = np.where(worse[:, None], step / 2, step)
    return step


def calibration_in_the_large(scores: Scores, start: Floats | None = None) -> Floats:
    """Return the intercept alone, with a slope of 1: above 0, the event is more frequent than foretold.

    Van Calster et al. 2019, BMC Medicine 17:230. `start`: where to begin.
    """
    given = ScoreHistogram.of(scores)
    shape = given.size.shape
    n, hits, every = given.size.ravel(), given.hits.ravel(), given.every.reshape(-1, given.bins)
    found = np.zeros(len(n))
    if start is not None:
        found[:] = np.nan_to_num(np.broadcast_to(start, shape)).ravel()
    open_ = np.flatnonzero((hits > 0) & (hits < n))
    for _ in range(200):
        mu = expit(found[open_, None] + given.x)
        weighed = every[open_] * mu
        step = (hits[open_] - weighed.sum(-1)) / np.maximum((weighed * (1 - mu)).sum(-1), 1e-300)
        found[open_] += np.clip(step, -1, 1)
        open_ = open_[np.abs(step) > 1e-6]  # the error is then of the order of its square
        if not len(open_):
            break
    return np.where((hits > 0) & (hits < n), found, np.nan).reshape(shape)


def count_reliability_groups(scores: Scores) -> tuple[Ints, Ints, Floats]:
    """Return of each group between CUTS, `(..., classes, groups)`: examples, events, and the sum of their chances."""
    given = ScoreHistogram.of(scores)
    first = [0, *np.searchsorted(given.x, RELIABILITY_CUTS).tolist(), given.bins]
    negative, positive = (np.diff(below[..., first], axis=-1) for below in given.below)
    mass = np.zeros((*given.every.shape[:-1], given.bins + 1))
    np.cumsum(given.every * given.chance, -1, out=mass[..., 1:])
    every, events = (np.rint(part).astype(np.int64) for part in (negative + positive, positive))
    return every, events, np.diff(mass[..., first], axis=-1)


def count_patients_in_groups(scores: Ints) -> Ints | None:
    """Return how many people have an example in each group between CUTS, `(classes, groups)`.

    Args:
        scores: of each person, `(people, classes, 2, bins)`.

    Returns:
        None where a bin lies across a cut.
    """
    bins = scores.shape[-1]
    if not np.isin(RELIABILITY_CUTS, bin_edges(bins)).all():
        return None
    first = np.concatenate([[0], np.searchsorted(bin_edges(bins), RELIABILITY_CUTS)])
    held = np.add.reduceat(scores.sum(-2), first, axis=-1)
    return np.asarray((held > 0).sum(0), dtype=np.int64)


def net_benefit(scores: Scores) -> tuple[Floats, Floats]:
    """Return the net benefit of treating from each of THRESHOLDS on, and of treating all, `(..., classes, thresholds)`.

    Vickers and Elkin 2006, Med Decis Making 26(6):565-574: true positives / n - false positives / n * p / (1 - p).
    """
    given = ScoreHistogram.of(scores)
    first = np.searchsorted(bin_edges(given.bins), np.asarray(DECISION_THRESHOLDS) - 1e-9)
    harm, n = np.exp(DECISION_THRESHOLDS), given.size[..., None]
    false, true = (below[..., -1:] - below[..., first] for below in given.below)
    every = ratio(given.hits[..., None] - given.below[0][..., -1:] * harm, n)
    return ratio(true - false * harm, n), every


def sensitivity_at(scores: Scores, specificity: float) -> Floats:
    """Return the sensitivity where the ROC curve has this specificity; straight lines between its points."""
    negative, positive = ScoreHistogram.of(scores).below
    # from the highest bin down: what lies above, as a share
    return _at(negative[..., -1:] - negative[..., ::-1], positive[..., -1:] - positive[..., ::-1], 1 - specificity)


def specificity_at(scores: Scores, sensitivity: float) -> Floats:
    """Return the specificity where the ROC curve has this sensitivity; straight lines between its points."""
    negative, positive = ScoreHistogram.of(scores).below
    return _at(positive, negative, 1 - sensitivity)


def _at(x: Floats, y: Floats, share: float) -> Floats:
    """Return what share of y is passed where x has passed `share` of its own; both `(..., steps)`, rising from 0."""
    most, top = x[..., -1], y[..., -1]
    goal = share * most
    here = np.maximum((x <= goal[..., None] * (1 + 1e-12) + 1e-12).sum(-1) - 1, 0)[..., None]
    there = np.minimum(here + 1, x.shape[-1] - 1)
    x0, x1, y0, y1 = (np.take_along_axis(a, i, -1)[..., 0] for a, i in ((x, here), (x, there), (y, here), (y, there)))
    part = np.clip(np.nan_to_num(ratio(goal - x0, x1 - x0)), 0, 1)
    return np.where(most > 0, ratio(y0 + (y1 - y0) * part, top), np.nan)
