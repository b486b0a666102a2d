"""Bounds from an attack's hits against sums by hand, scipy's tests, and mechanisms whose epsilon is known."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from experiments.privacy import audit_bounds as bounds


def test_the_probability_of_right_guesses_is_the_sum_by_hand() -> None:
    # 3 guesses of 4 canaries, 3 right, epsilon ln 3: each guess is right with chance 3/4
    right, delta, m = Fraction(3, 4), Fraction(1, 100), 4
    pmf = [math.comb(3, k) * right**k * (1 - right) ** (3 - k) for k in range(4)]
    tail = pmf[3]
    steepest = max((pmf[2]) / 1, (pmf[2] + pmf[1]) / 2, (pmf[2] + pmf[1] + pmf[0]) / 3)
    expected = float(tail + 2 * m * delta * steepest)
    assert bounds.bound_guess_probability(4, 3, 3, math.log(3), 0.01) == pytest.approx(expected, rel=1e-12)
    assert bounds.bound_guess_probability(4, 3, 3, math.log(3), 0.0) == pytest.approx(27 / 64, rel=1e-12)
    for wrong in ((4, 5, 3), (4, 3, 4), (4, 3, -1)):
        with pytest.raises(ValueError, match="canaries"):
            bounds.bound_guess_probability(*wrong, 1.0, 0.0)


@pytest.mark.parametrize("guesses", [20, 100, 1000])
def test_all_guesses_right_without_delta(guesses: int) -> None:
    rate = 0.05 ** (1 / guesses)  # the chance p with p ** guesses = 0.05
    result = bounds.guesses_epsilon(guesses, guesses, guesses, 0.0, 0.05)
    assert result == pytest.approx(math.log(rate / (1 - rate)), abs=2e-4)
    assert bounds.guesses_epsilon(guesses, guesses, guesses // 2, 0.0, 0.05) == 0.0
    assert bounds.guesses_epsilon(guesses, guesses, guesses, 1e-3, 0.05) < result


def test_clopper_and_pearson_are_scipys() -> None:
    for hits, trials in ((0, 40), (3, 40), (39, 40), (40, 40)):
        expected = stats.binomtest(hits, trials, alternative="less").proportion_ci(0.99, method="exact").high
        assert bounds.max_rate(hits, trials, 0.01) == pytest.approx(expected, rel=1e-9)


def test_errors_of_a_test_by_hand() -> None:
    # nothing wrong among 100 and 100: the rates are at most 1 - 0.025 ** 0.01
    rate = 1 - 0.025**0.01
    expected = math.log((1 - 0.01 - rate) / rate)
    assert bounds.bound_from_error_rates(0, 100, 0, 100, 0.01, 0.05) == pytest.approx(expected, rel=1e-9)
    assert bounds.bound_from_error_rates(50, 100, 50, 100, 0.01, 0.05) == 0.0
    assert bounds.bound_from_error_rates(100, 100, 100, 100, 0.01, 0.05) == 0.0
    # few false alarms alone suffice, whatever is missed
    low = bounds.max_rate(0, 1000, 0.025)
    missed = bounds.max_rate(500, 1000, 0.025)
    assert bounds.bound_from_error_rates(0, 1000, 500, 1000, 0.0, 0.05) == pytest.approx(math.log((1 - missed) / low))


def test_noise_and_means_are_scipys() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.9, 0.3, 200)
    assert stats.ttest_1samp(values, bounds.min_mean(values, 0.01), alternative="greater").pvalue == pytest.approx(0.01)
    drawn = rng.normal(0, 2, 500)
    high = bounds.max_deviation(float((drawn**2).sum()), 500, 0.01)
    assert stats.chi2.cdf((drawn**2).sum() / high**2, 500) == pytest.approx(0.01)
    assert 2 < high < 2.3


def gaussian(mu: float, delta: float) -> float:
    """The epsilon of a Gaussian mechanism of sensitivity mu and noise 1 (Balle and Wang 2018, theorem 8)."""
    low, high = 0.0, 100.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        spent = stats.norm.cdf(mu / 2 - middle / mu) - math.exp(middle) * stats.norm.cdf(-mu / 2 - middle / mu)
        low, high = (middle, high) if spent > delta else (low, middle)
    return high


@pytest.mark.parametrize(("mu", "share"), [(0.5, 0.2), (1.0, 0.3), (2.0, 0.3)])
def test_bounds_of_a_gaussian_mechanism_are_below_its_epsilon_and_say_something(mu: float, share: float) -> None:
    delta, canaries = 1e-5, 4000
    true = gaussian(mu, delta)
    result = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        included = rng.random(canaries) < 0.5
        scores = mu * included + rng.normal(size=canaries)
        result.append(
            (
                bounds.bound_from_guesses(scores, included, delta, 0.01),
                bounds.bound_from_single_canaries(scores, included, delta, 0.01),
            )
        )
    for one, two in result:
        assert one.epsilon <= true
        assert two.epsilon <= true
    assert np.median([max(one.epsilon, two.epsilon) for one, two in result]) > share * true


@pytest.mark.slow
def test_a_bound_is_too_high_no_oftener_than_it_says() -> None:
    # randomised response on each coin is (epsilon, 0)-DP and as bad as that allows
    epsilon, right, above = 1.0, 1 / (1 + math.exp(-1.0)), [0, 0]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        included = rng.random(300) < 0.5
        reported = np.where(rng.random(300) < right, included, ~included).astype(float) + 1e-6 * rng.normal(size=300)
        above[0] += bounds.bound_from_guesses(reported, included, 0.0, 0.1).epsilon > epsilon
        above[1] += bounds.bound_from_single_canaries(reported, included, 0.0, 0.1).epsilon > epsilon
    assert max(above) <= stats.binom.ppf(0.999, 200, 0.1)
    assert above[1] > 0  # or the test would prove nothing
