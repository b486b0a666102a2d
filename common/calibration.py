"""Calibration, decision curves and operating points, from histograms of scores.

A site's histograms (common/metrics.py: 1024 bins, evenly in log odds) hold all that these need, so they add up over
sites like everything else. A bin's examples count as if their score were the bin's middle: with 1024 bins a
chance is off by 0.004 at most, and not in one direction.

All functions take `(..., classes, 2, bins)` and return `(..., classes)`, NaN where a figure is not defined.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from common.metrics import LOGIT_RANGE, Floats, Ints, edges, ratio

GROUPS = 10
CUTS = tuple(float(cut) for cut in range(-6, 7))
"""Log odds between the groups of a reliability diagram, whose counts of examples and patients add up over sites."""
THRESHOLDS = tuple(cut / 2 for cut in range(-10, 7))
"""Log odds at which a decision curve is drawn: chances from 0.7% to 95%."""


def odds(bins: int) -> Floats:
    """Return the middle of each bin, `(bins,)`, in log odds."""
    return edges(bins) + LOGIT_RANGE / bins


def _sides(scores: Ints) -> tuple[Floats, Floats]:
    return scores[..., 0, :].astype(np.float64), scores[..., 1, :].astype(np.float64)


def brier(scores: Ints) -> Floats:
    """Return the mean squared distance of the chance from what was (Brier 1950), of each class on its own.

    Over several classes Brier's own score is the sum; scikit-learn's `brier_score_loss` likewise.
    """
    negative, positive = _sides(scores)
    chance = expit(odds(scores.shape[-1]))
    top = (positive * (1 - chance) ** 2 + negative * chance**2).sum(-1)
    return ratio(top, (positive + negative).sum(-1))


def expected_error(scores: Ints, mass: bool = False, groups: int = GROUPS) -> Floats:
    """Return the expected calibration error: the mean distance of chance and share over groups of like examples.

    Naeini et al. 2015, AAAI 29, for each class against the rest: sum over groups of n_g / n |mean chance - share|.
    Groups are as scikit-learn's `calibration_curve` makes them: of equal width in the chance, or (`mass`) of equally
    many examples (quantiles of the chance).
    """
    negative, positive = _sides(scores)
    every = positive + negative
    chance = expit(odds(scores.shape[-1]))
    if mass:
        place = (_quantiles(every, chance, groups)[..., None] < chance).sum(-2)
        one = place[..., None, :] == np.arange(groups)[:, None]
        gap = np.einsum("...gb,...b->...g", one, every * chance - positive)
    else:
        inner = np.linspace(0, 1, groups + 1)[1:-1]
        first = np.searchsorted(chance, inner, side="right")
        sums = np.concatenate([np.zeros((*every.shape[:-1], 1)), np.cumsum(every * chance - positive, -1)], -1)
        gap = np.diff(sums[..., [0, *first, len(chance)]], axis=-1)
    return ratio(np.abs(gap).sum(-1), every.sum(-1))


def _quantiles(every: Floats, chance: Floats, groups: int) -> Floats:
    """Return the chances between equally large groups, `(..., groups - 1)`, as numpy.percentile gives them."""
    cumulated = np.cumsum(every, -1)
    total = cumulated[..., -1:]
    place = np.linspace(0, 1, groups + 1)[1:-1] * np.maximum(total - 1, 0)
    low, high = np.floor(place), np.minimum(np.floor(place) + 1, np.maximum(total - 1, 0))

    def value(rank: Floats) -> Floats:
        bins = (cumulated[..., None, :] <= rank[..., None]).sum(-1)
        return np.asarray(chance[np.minimum(bins, len(chance) - 1)])

    below, above = value(low), value(high)
    return np.asarray(below + (above - below) * (place - low))


def recalibration(scores: Ints, start: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
    """Return slope and intercept of the logistic regression of what was on the log odds.

    Cox 1958, Biometrika 45(3/4):562-565: 1 and 0 for a calibrated model; a slope below 1 says that the chances
    are too extreme. Found by Newton's method on the bins; none where both sides do not occur, all scores are in one
    bin, or a threshold parts the sides and the fit has no end.

    Args:
        scores: histograms.
        start: slope and intercept to begin at.
    """
    x = odds(scores.shape[-1])
    negative, positive = (side.reshape(-1, len(x)) for side in _sides(scores))
    every = positive + negative
    fits = ~_parted(positive, negative)
    begin = np.zeros((len(every), 2))
    if start is not None:
        begin[:] = np.stack([np.broadcast_to(part, scores.shape[:-2]).ravel() for part in start], -1)
        begin[~np.isfinite(begin).all(-1)] = 0
    found = np.full((len(every), 2), np.nan)
    found[fits] = _newton(x, positive[fits], every[fits], begin[fits], halve=start is None)
    return found[:, 0].reshape(scores.shape[:-2]), found[:, 1].reshape(scores.shape[:-2])


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
        open_ = open_[~(size < 1e-9) & np.isfinite(found[open_]).all(-1)]
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


def in_the_large(scores: Ints) -> Floats:
    """Return the intercept alone, with a slope of 1: above 0, the event is more frequent than foretold.

    Van Calster et al. 2019, BMC Medicine 17:230.
    """
    x = odds(scores.shape[-1])
    negative, positive = _sides(scores)
    every = positive + negative
    n, hits = every.sum(-1), positive.sum(-1)
    found = np.zeros(n.shape)
    for _ in range(60):
        mu = expit(found[..., None] + x)
        slope = (every * mu * (1 - mu)).sum(-1)
        step = ratio(hits - (every * mu).sum(-1), slope)
        found = found + np.clip(np.nan_to_num(step), -1, 1)
        if np.abs(np.nan_to_num(step)).max(initial=0) < 1e-9:
            break
    return np.where((hits > 0) & (hits < n), found, np.nan)


def groups_of(scores: Ints) -> tuple[Ints, Ints, Floats]:
    """Return of each group between CUTS, `(..., classes, groups)`: examples, events, and the sum of their chances."""
    bins = scores.shape[-1]
    first = [0, *np.searchsorted(odds(bins), CUTS).tolist(), bins]
    chance = expit(odds(bins))
    negative, positive = scores[..., 0, :], scores[..., 1, :]

    def summed(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        sums = np.concatenate([np.zeros((*values.shape[:-1], 1), values.dtype), np.cumsum(values, -1)], -1)
        return np.diff(sums[..., first], axis=-1)

    every = negative + positive
    return summed(every).astype(np.int64), summed(positive).astype(np.int64), summed(every * chance).astype(np.float64)


def people_in_groups(scores: Ints) -> Ints | None:
    """Return how many people have an example in each group between CUTS, `(classes, groups)`.

    Args:
        scores: of each person, `(people, classes, 2, bins)`.

    Returns:
        None where a bin lies across a cut.
    """
    bins = scores.shape[-1]
    if not np.isin(CUTS, edges(bins)).all():
        return None
    first = np.concatenate([[0], np.searchsorted(edges(bins), CUTS)])
    held = np.add.reduceat(scores.sum(-2), first, axis=-1)
    return np.asarray((held > 0).sum(0), dtype=np.int64)


def net_benefit(scores: Ints) -> tuple[Floats, Floats]:
    """Return the net benefit of treating from each of THRESHOLDS on, and of treating all, `(..., classes, thresholds)`.

    Vickers and Elkin 2006, Med Decis Making 26(6):565-574: true positives / n - false positives / n * p / (1 - p).
    """
    negative, positive = _sides(scores)
    n = (positive + negative).sum(-1)[..., None]
    first = np.searchsorted(edges(scores.shape[-1]), np.asarray(THRESHOLDS) - 1e-9)
    harm = np.exp(THRESHOLDS)

    def from_on(side: Floats) -> Floats:
        sums = np.concatenate([np.cumsum(side[..., ::-1], -1)[..., ::-1], np.zeros((*side.shape[:-1], 1))], -1)
        return np.asarray(sums[..., first])

    treat = ratio(from_on(positive) - from_on(negative) * harm, n)
    every = ratio(positive.sum(-1)[..., None] - negative.sum(-1)[..., None] * harm, n)
    return treat, every


def sensitivity_at(scores: Ints, specificity: float) -> Floats:
    """Return the sensitivity where the ROC curve has this specificity; straight lines between its points."""
    negative, positive = _sides(scores)
    return _at(negative, positive, 1 - specificity)


def specificity_at(scores: Ints, sensitivity: float) -> Floats:
    """Return the specificity where the ROC curve has this sensitivity; straight lines between its points."""
    negative, positive = _sides(scores)
    return _at(positive[..., ::-1], negative[..., ::-1], 1 - sensitivity)


def _at(negative: Floats, positive: Floats, false: float) -> Floats:
    zero = np.zeros((*negative.shape[:-1], 1))
    x, y = (
        np.concatenate([zero, ratio(np.cumsum(side[..., ::-1], -1), side.sum(-1)[..., None])], -1)
        for side in (negative, positive)
    )
    here = np.maximum((x <= false + 1e-12).sum(-1) - 1, 0)[..., None]
    there = np.minimum(here + 1, x.shape[-1] - 1)
    x0, x1, y0, y1 = (np.take_along_axis(a, i, -1)[..., 0] for a, i in ((x, here), (x, there), (y, here), (y, there)))
    share = np.nan_to_num(ratio(false - x0, x1 - x0))
    found = y0 + (y1 - y0) * np.clip(share, 0, 1)
    return np.where((negative.sum(-1) > 0) & (positive.sum(-1) > 0), found, np.nan)
