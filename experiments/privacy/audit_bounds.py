"""What an attack's hits prove: lower bounds on epsilon, each with its confidence.

`one_run`: m canaries, each included by a fair coin; an attacker guesses r of the coins and gets v right. Steinke, Nasr
and Jagielski 2023 (arXiv:2305.08846, theorem 5.2) bound how likely that is under (epsilon, delta)-DP, whatever the
mechanism and however canaries depend on each other.
`pairs`: false alarms and misses of a test for one canary, bounded by Clopper and Pearson 1934, and what (epsilon,
delta)-DP allows of them (Kairouz, Oh and Viswanath 2015, arXiv:1311.0776; as Jagielski et al. 2020, arXiv:2006.07709).
It takes canaries as independent of each other, which they are where training is what it claims to be.
`deviation_at_most` and `mean_at_least`: of the noise and of one unit's weight, as they are to be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
GUESSED_SHARES = (0.02, 0.1, 0.4, 1.0)
"""Of the canaries, how many are guessed: the error is divided among these, chosen before anything is seen."""
MAX_EPSILON = 64.0
"""Epsilons above it are not told apart."""


@dataclass(frozen=True)
class OneRun:
    """Of `canaries` coins `guesses` were guessed, `correct` rightly: epsilon is at least `epsilon`."""

    epsilon: float
    canaries: int
    guesses: int
    correct: int


@dataclass(frozen=True)
class SingleCanaries:
    """Of a test of single canaries: false alarms among `absent`, misses among `present`; epsilon is at least that."""

    epsilon: float
    absent: int
    false_alarms: int
    present: int
    misses: int


def guesses_probability(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return a bound on the chance of so many right guesses, or more, under (epsilon, delta)-DP.

    Without delta it is the tail of a binomial whose chance is that of randomised response:

    >>> one_run_chance(10, 10, 10, 0.0, 0.0) == 2.0 ** -10
    True
    """
    from scipy.stats import binom

    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} right of {guesses} guesses about {canaries} canaries")
    right = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return min(tail, 1.0)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))  # P[v - i <= Binomial < v], i = 1..v
    steepest = float((below / np.arange(1, correct + 1)).max())
    return min(tail + 2 * canaries * delta * steepest, 1.0)


def guesses_epsilon(canaries: int, guesses: int, correct: int, delta: float, error: float) -> float:
    """Return the epsilon below which so many right guesses have a chance of at most `error`; 0 if none."""
    if guesses_probability(canaries, guesses, correct, 0.0, delta) > error:
        return 0.0
    low, high = 0.0, MAX_EPSILON
    while high - low > 1e-4:
        middle = (low + high) / 2
        below = guesses_probability(canaries, guesses, correct, middle, delta) <= error
        low, high = (middle, high) if below else (low, middle)
    return low


def bound_from_guesses(scores: Floats, included: npt.NDArray[np.bool_], delta: float, error: float) -> OneRun:
    """Guess that the canaries of the highest scores were included and those of the lowest were not.

    Args:
        scores: of each canary, higher for likelier included.
        included: the coins.
        delta: of the claim.
        error: the chance that the bound is too high, at most.
    """
    order = np.argsort(scores, kind="stable")
    found = []
    for share in GUESSED_SHARES:
        half = max(1, int(share * len(scores)) // 2)
        correct = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
        bound = guesses_epsilon(len(scores), 2 * half, correct, delta, error / len(GUESSED_SHARES))
        found.append(OneRun(bound, len(scores), 2 * half, correct))
    return max(found, key=lambda item: item.epsilon)


def max_rate(hits: int, trials: int, error: float) -> float:
    """Return the highest rate that so few hits allow (Clopper and Pearson, one side)."""
    from scipy.stats import beta

    return 1.0 if hits >= trials else float(beta.ppf(1 - error, hits + 1, trials - hits))


def error_rates_epsilon(false_alarms: int, absent: int, misses: int, present: int, delta: float, error: float) -> float:
    """Return a lower bound on epsilon from a test's errors: under (epsilon, delta)-DP, where a is the rate of false
    alarms and b of misses, a * exp(epsilon) + b and a + b * exp(epsilon) are at least 1 - delta.
    """
    a, b = max_rate(false_alarms, absent, error / 2), max_rate(misses, present, error / 2)
    best = max((1 - delta - b) / a, (1 - delta - a) / b)
    return min(max(0.0, math.log(best)), MAX_EPSILON) if best > 0 else 0.0


def bound_from_single_canaries(
    scores: Floats, included: npt.NDArray[np.bool_], delta: float, error: float
) -> SingleCanaries:
    """Test single canaries, at a threshold chosen on every third of them and judged on the others."""
    tuning = np.arange(len(scores)) % 3 == 0

    def at(threshold: float, part: npt.NDArray[np.bool_]) -> SingleCanaries:
        there, gone, alarm = included & part, ~included & part, scores > threshold
        counts = int((gone & alarm).sum()), int(gone.sum()), int((there & ~alarm).sum()), int(there.sum())
        if not counts[1] or not counts[3]:
            return SingleCanaries(0.0, counts[1], counts[0], counts[3], counts[2])
        return SingleCanaries(error_rates_epsilon(*counts, delta, error), counts[1], counts[0], counts[3], counts[2])

    candidates = np.unique(np.quantile(scores[tuning], np.linspace(0.01, 0.99, 99)))
    threshold = max(map(float, candidates), key=lambda value: at(value, tuning).epsilon)
    return at(threshold, ~tuning)


def max_deviation(squares: float, count: int, error: float) -> float:
    """Return the largest deviation of Gaussian noise, known to be centred, that a sum of squares allows."""
    from scipy.stats import chi2

    return math.sqrt(squares / float(chi2.ppf(error, count)))


def min_mean(values: Floats, error: float) -> float:
    """Return the least mean that values allow (Student 1908)."""
    from scipy.stats import t

    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - float(t.ppf(1 - error, len(values) - 1)) * spread
