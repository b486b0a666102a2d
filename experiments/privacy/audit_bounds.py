"""Lower bounds on epsilon from the successes of an attack, each with its confidence.

`bound_from_guesses`: m canaries are each included by a fair coin; an attacker guesses r of the coins and v guesses
are correct. Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846, theorem 5.2) bound the probability of that under
(epsilon, delta)-DP, whatever the mechanism and however the canaries depend on each other.
`bound_from_single_canaries`: the false alarms and misses of a test for one canary are bounded as by Clopper and
Pearson 1934, and compared with what (epsilon, delta)-DP allows (Kairouz, Oh and Viswanath 2015, arXiv:1311.0776; used
as by Jagielski et al. 2020, arXiv:2006.07709). It assumes that canaries are independent, which holds if training is
as claimed.
`max_deviation` and `min_mean`: bounds on the measured noise and on the measured weight of one unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
GUESSED_SHARES = (0.02, 0.1, 0.4, 1.0)
"""Shares of the canaries that are guessed. The error is divided among them; they are fixed in advance."""
MAX_EPSILON = 64.0
"""Largest lower bound that is computed."""


@dataclass(frozen=True)
class OneRun:
    """A lower bound from guesses about all canaries of one training.

    Attributes:
        epsilon: the lower bound.
        canaries: canaries, included or not.
        guesses: canaries that were guessed.
        correct: correct guesses.
    """

    epsilon: float
    canaries: int
    guesses: int
    correct: int


@dataclass(frozen=True)
class SingleCanaries:
    """A lower bound from a test of single canaries.

    Attributes:
        epsilon: the lower bound.
        absent: tested canaries that were not included.
        false_alarms: those of them that the test called included.
        present: tested canaries that were included.
        misses: those of them that the test called absent.
    """

    epsilon: float
    absent: int
    false_alarms: int
    present: int
    misses: int


def bound_guess_probability(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return an upper bound on the probability of at least `correct` correct guesses under (epsilon, delta)-DP.

    With a delta of 0 it is the tail of a binomial distribution with the probability of randomised response:

    >>> bound_guess_probability(10, 10, 10, 0.0, 0.0) == 2.0 ** -10
    True
    """
    from scipy.stats import binom

    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} correct of {guesses} guesses about {canaries} canaries")
    right = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return min(tail, 1.0)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))  # P[v - i <= Binomial < v], i = 1..v
    steepest = float((below / np.arange(1, correct + 1)).max())
    return min(tail + 2 * canaries * delta * steepest, 1.0)


def guesses_epsilon(canaries: int, guesses: int, correct: int, delta: float, error: float) -> float:
    """Return the epsilon below which the correct guesses have a probability of at most `error`; 0 if there is none."""
    if bound_guess_probability(canaries, guesses, correct, 0.0, delta) > error:
        return 0.0
    low, high = 0.0, MAX_EPSILON
    while high - low > 1e-4:
        middle = (low + high) / 2
        below = bound_guess_probability(canaries, guesses, correct, middle, delta) <= error
        low, high = (middle, high) if below else (low, middle)
    return low


def bound_from_guesses(scores: Floats, included: npt.NDArray[np.bool_], delta: float, error: float) -> OneRun:
    """Return the bound from guessing that the canaries with the highest scores were included, the lowest not.

    Args:
        scores: `(canaries,)`, higher for likelier included.
        included: `(canaries,)`, whether each was included.
        delta: delta of the claim.
        error: upper bound of the probability that the bound is too high.
    """
    order = np.argsort(scores, kind="stable")
    bounds = []
    for share in GUESSED_SHARES:
        half = max(1, int(share * len(scores)) // 2)
        correct = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
        bound = guesses_epsilon(len(scores), 2 * half, correct, delta, error / len(GUESSED_SHARES))
        bounds.append(OneRun(bound, len(scores), 2 * half, correct))
    return max(bounds, key=lambda item: item.epsilon)


def max_rate(hits: int, trials: int, error: float) -> float:
    """Return the one-sided upper confidence bound of a rate (Clopper and Pearson)."""
    from scipy.stats import beta

    return 1.0 if hits >= trials else float(beta.ppf(1 - error, hits + 1, trials - hits))


def bound_from_error_rates(
    false_alarms: int, absent: int, misses: int, present: int, delta: float, error: float
) -> float:
    """Return a lower bound on epsilon from a test's errors.

    Under (epsilon, delta)-DP, with a the rate of false alarms and b the rate of misses, a * exp(epsilon) + b and
    a + b * exp(epsilon) are at least 1 - delta.

    Args:
        false_alarms: number of absent canaries that were taken for present.
        absent: number of absent canaries.
        misses: number of present canaries that were taken for absent.
        present: number of present canaries.
        delta: delta of the claim.
        error: upper bound of the probability that the bound is too high.
    """
    a, b = max_rate(false_alarms, absent, error / 2), max_rate(misses, present, error / 2)
    best = max((1 - delta - b) / a, (1 - delta - a) / b)
    return min(max(0.0, math.log(best)), MAX_EPSILON) if best > 0 else 0.0


def bound_from_single_canaries(
    scores: Floats, included: npt.NDArray[np.bool_], delta: float, error: float
) -> SingleCanaries:
    """Return the bound from a test of single canaries; every third chooses the threshold, the others are tested."""
    tuning = np.arange(len(scores)) % 3 == 0

    def at(threshold: float, part: npt.NDArray[np.bool_]) -> SingleCanaries:
        there, gone, alarm = included & part, ~included & part, scores > threshold
        counts = int((gone & alarm).sum()), int(gone.sum()), int((there & ~alarm).sum()), int(there.sum())
        if not counts[1] or not counts[3]:
            return SingleCanaries(0.0, counts[1], counts[0], counts[3], counts[2])
        return SingleCanaries(bound_from_error_rates(*counts, delta, error), counts[1], counts[0], counts[3], counts[2])

    candidates = np.unique(np.quantile(scores[tuning], np.linspace(0.01, 0.99, 99)))
    threshold = max(map(float, candidates), key=lambda value: at(value, tuning).epsilon)
    return at(threshold, ~tuning)


def max_deviation(squares: float, count: int, error: float) -> float:
    """Return the upper confidence bound of the standard deviation of centred Gaussian noise from a sum of squares."""
    from scipy.stats import chi2

    return math.sqrt(squares / float(chi2.ppf(error, count)))


def min_mean(values: Floats, error: float) -> float:
    """Return the lower confidence bound of the mean of values (Student 1908)."""
    from scipy.stats import t

    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - float(t.ppf(1 - error, len(values) - 1)) * spread
