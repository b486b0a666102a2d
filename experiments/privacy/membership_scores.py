"""Scores of membership: log likelihood ratios from answers, and how well they separate members from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sites.cohort import SPLITS

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
MAX_NUMBERS = 600
"""Most numbers of an answer whose covariance is estimated; of more they are taken as independent."""
FOLDS = 4
RESAMPLES = 200
CUTS = 6
"""Points at which an attacker reads each cumulative histogram; more only add noise."""


@dataclass(frozen=True)
class MembershipResult:
    """How well some answers separate members from others.

    Attributes:
        answers: which answers.
        auroc: among all people of the pool, whatever side they are on: (value, low, high).
        side_auroc: the same for those whom the answers are about against others who might be, by an attacker who knows
            on which side a patient is; None where there are too few.
        within_auroc: the same among the people of one hospital: without what its number of patients says.
        people: people of the pool.
        behind: people whom such an answer is about, mean over games.
        games: games played.
        refused: why the hospital did not answer, or empty.
    """

    answers: str
    auroc: tuple[float, float, float] | None
    side_auroc: tuple[float, float, float] | None
    within_auroc: tuple[float, float, float] | None
    people: int
    behind: float
    games: int
    refused: str = ""


def select_cuts(answers: Floats, head: int) -> npt.NDArray[np.int64]:
    """Return which numbers of an answer are used: the first `head`, and of its histograms counts at CUTS points.

    Args:
        answers: `(games, numbers)`.
        head: how many numbers come before the histograms.
    """
    varying = head + np.flatnonzero(answers[:, head:].std(0) > 0)
    every = max(1, len(varying) // (4 * CUTS))  # a task of two classes has four histograms
    return np.concatenate([np.arange(head), varying[::every]])


def compute_ratios(answers: Floats, steps: Floats, there: Truths, *, rescale: bool = False) -> Floats:
    """Return log likelihood ratios `(games, people)` that a person is behind an answer.

    Args:
        answers: `(games, numbers)`.
        steps: by how much each person moves the mean, `(people, numbers)`.
        there: who is behind it in truth, `(games, people)`; used for the scale of `steps` alone.
        rescale: whether the length of the steps is unknown: it is then fitted to the other games.
    """
    from sklearn.covariance import LedoitWolf

    ratios = np.zeros((len(answers), len(steps)))
    fold = np.arange(len(answers)) % FOLDS
    for number in range(FOLDS):
        others, here = fold != number, fold == number
        spread = answers[others].std(0)
        used = spread > 0
        centred = (answers[:, used] - answers[others][:, used].mean(0)) / spread[used]
        moved = steps[:, used] / spread[used]
        if used.sum() <= MAX_NUMBERS:
            inverse = np.linalg.pinv(LedoitWolf(assume_centered=True).fit(centred[others]).covariance_, rcond=1e-6)
        else:
            inverse = np.eye(int(used.sum()))
        weighed = moved @ inverse
        if rescale:
            score = centred[others] @ weighed.T
            belongs = there[others]
            gap = score[belongs].mean() - score[~belongs].mean() if belongs.any() and (~belongs).any() else 0.0
            size = float((weighed * moved).sum(1).mean())
            factor = gap / size if size > 0 else 0.0
            moved, weighed = moved * factor, weighed * factor
        ratios[here] = centred[here] @ weighed.T - 0.5 * (weighed * moved).sum(1)
    return ratios


def mix_sides(ratios: Mapping[int, Floats], side: npt.NDArray[np.int64]) -> Floats:
    """Return log likelihood ratios of being a patient, mixed over the sides on which a patient may be.

    Args:
        ratios: by side, `(games, people)`.
        side: where people were, from which an attacker knows how often each is on which side, `(games, people)`.
    """
    member = np.maximum((side > 0).sum(0), 1)
    mixed = np.zeros(side.shape)
    for number in range(1, len(SPLITS) + 1):
        often = (side == number).sum(0) / member
        mixed += often * np.exp(np.clip(ratios[number], -50, 50)) if number in ratios else often
    return np.log(np.maximum(mixed, 1e-300))


def measure_auroc(
    scores: Floats, positive: Truths, negative: Truths, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Return the AUROC of scores, and its 95% interval by a bootstrap over people.

    Args:
        scores: `(games, people)`.
        positive: which scores are those of members, of the same shape.
        negative: which scores are those of others.
        resamples: how many times people are drawn.
    """
    chosen = positive | negative
    scored = scores[chosen]
    order = np.argsort(scored, kind="stable")
    person = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)[chosen][order]
    belongs = positive[chosen][order]
    ties = np.flatnonzero(np.diff(scored[order], prepend=np.nan) != 0)  # where each value starts

    def compute(times: npt.NDArray[np.int64]) -> float:
        weight = times[person].astype(np.float64)
        members = np.add.reduceat(weight * belongs, ties)
        others = np.add.reduceat(weight * ~belongs, ties)
        pairs = members.sum() * others.sum()
        return float(members @ (np.cumsum(others) - others / 2) / pairs) if pairs else float("nan")

    rng = np.random.default_rng(0)
    people = scores.shape[1]
    drawn = [compute(np.bincount(rng.integers(people, size=people), minlength=people)) for _ in range(resamples)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return compute(np.ones(people, np.int64)), float(low), float(high)


def measure_auroc_within(
    scores: Floats, positive: Truths, negative: Truths, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Return the mean over games of the AUROC among the people of one game, and its 95% interval over games.

    In each game (membership.py) a random part of the people are members: the patients of a hospital. The AUROC is the
    probability that a member's score is higher than that of another person in the same game. What is the same for all
    people of a game, such as the hospital's number of patients, has no effect. A game's weight in the mean is its
    number of pairs of a member and another person.

    Args:
        scores: `(games, people)`.
        positive: which scores are those of members, of the same shape.
        negative: which scores are those of others.
        resamples: how many times games are drawn.
    """
    from sklearn.metrics import roc_auc_score

    played = np.flatnonzero(positive.any(1) & negative.any(1))
    if not len(played):
        return float("nan"), float("nan"), float("nan")
    values = np.asarray(
        [
            roc_auc_score(
                positive[game, positive[game] | negative[game]], scores[game, positive[game] | negative[game]]
            )
            for game in played
        ]
    )
    pairs = (positive.sum(1) * negative.sum(1))[played].astype(np.float64)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(played), size=(resamples, len(played)))
    means = (values[drawn] * pairs[drawn]).sum(1) / pairs[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values @ pairs / pairs.sum()), float(low), float(high)
