"""A scaling from noisy sums: exact where there is no noise, the public range where there is nothing but noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.noisy_scaling import NoisyMoments, fit_noisy_scaling, inputs_with_units

LOW, HIGH = np.array([40.0, 0.0, -10.0]), np.array([140.0, 1.0, 10.0])


def sums(units: np.ndarray, deviation: float = 0.0) -> NoisyMoments:
    """Of people with one value each of the first and the last input, `(people, 2)`, NaN where not measured."""
    u = (units - [90.0, 0.0]) / [50.0, 10.0]
    here = ~np.isnan(u)
    u = np.where(here, u, 0)
    return NoisyMoments(here.sum(0).astype(float), u.sum(0), (u * u).sum(0), LOW, HIGH, deviation)


def test_without_noise_the_scaling_is_the_mean_and_deviation_of_all_people() -> None:
    rng = np.random.default_rng(1)
    units = np.stack([rng.normal(100, 12, 400), rng.normal(1, 3, 400)], 1)
    units[rng.random((400, 2)) < 0.3] = np.nan
    result = fit_noisy_scaling([sums(units[:100]), sums(units[100:])])
    np.testing.assert_allclose(result.centre[[0, 2]], np.nanmean(units, 0), rtol=1e-9)
    np.testing.assert_allclose(result.spread[[0, 2]], np.nanstd(units, 0), rtol=1e-9)
    assert (result.centre[1], result.spread[1]) == (0.5, 0.5)
    np.testing.assert_array_equal(inputs_with_units(LOW, HIGH), [True, False, True])


def test_without_people_the_scaling_is_the_range() -> None:
    for deviation in (0.0, 30.0):
        zero = np.zeros(2)
        result = fit_noisy_scaling([NoisyMoments(zero, zero, zero, LOW, HIGH, deviation)])
        np.testing.assert_allclose(result.centre, [90, 0.5, 0])
        third = np.sqrt(1 / 9 + (0.5 if deviation else 0))  # with noise, one deviation more of variance
        np.testing.assert_allclose(result.spread, [50 * third, 0.5, 10 * third])


def test_noise_neither_magnifies_inputs_nor_moves_them_far() -> None:
    rng = np.random.default_rng(2)
    units = np.stack([rng.normal(100, 12, 300), np.where(rng.random(300) < 0.02, 3.0, np.nan)], 1)
    exact = sums(units)
    worst, moved = np.inf, 0.0
    for _ in range(300):
        noise = rng.normal(0, 10, (3, 2))
        noisy = replace(exact, measured=exact.measured + 4 * noise[0], first=exact.first + noise[1],
                        second=exact.second + noise[2], deviation=10.0)  # fmt: skip
        result = fit_noisy_scaling([noisy])
        assert np.isfinite(result.centre).all()
        assert (result.centre >= LOW).all()
        assert (result.centre <= HIGH).all()
        worst = min(worst, float(result.spread[0] / 12))
        moved = max(moved, abs(float(result.centre[0] - 100)) / float(result.spread[0]))
    assert worst > 0.5
    assert moved < 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"measured": np.zeros(5)}, "do not fit"),
        ({"first": np.zeros(3)}, "do not fit"),
        ({"low": np.zeros(2)}, "do not fit"),
        ({"first": np.array([np.nan, 0])}, "impossible numbers"),
        ({"low": HIGH}, "do not fit|impossible numbers"),
    ],
)
def test_sums_that_do_not_fit_are_refused(change: dict[str, np.ndarray], says: str) -> None:
    good = sums(np.ones((3, 2)))
    assert NoisyMoments.from_arrays(good.arrays(), 0.0) is not None
    with pytest.raises(ValueError, match=says):
        NoisyMoments.from_arrays(good.arrays() | change, 0.0)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="impossible numbers"):
            NoisyMoments.from_arrays(good.arrays(), wrong)
    with pytest.raises(ValueError, match="not the sums of a private"):
        NoisyMoments.from_arrays({"count": np.zeros(2)}, 0.0)


def test_sites_must_state_the_same_ranges() -> None:
    one = sums(np.ones((3, 2)))
    with pytest.raises(ValueError, match="different ranges"):
        fit_noisy_scaling([one, replace(one, low=LOW - 1)])
    with pytest.raises(ValueError, match="no sums"):
        fit_noisy_scaling([])
