"""Noise and sampling: their distribution, their source, and what floating point would give away."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from common import noise
from common.noise import GRAIN, SecureSource, SeededSource, add_noise, draw_normal

SOURCES = {"secure": SecureSource, "seeded": lambda: SeededSource(3)}


@pytest.mark.parametrize("kind", SOURCES)
def test_noise_is_gaussian_of_the_deviation_asked_for(kind: str) -> None:
    result = add_noise(np.zeros(200_000), 2.5, SOURCES[kind]()) / 2.5
    # a p-value below 1e-9 happens by chance once in a thousand million runs
    assert stats.kstest(result, "norm").pvalue > 1e-9
    assert result.var() == pytest.approx(1.0, abs=6 * np.sqrt(2 / 200_000))
    assert abs(np.corrcoef(result[:-1], result[1:])[0, 1]) < 6 / np.sqrt(200_000)
    assert stats.kurtosis(result) == pytest.approx(0, abs=6 * np.sqrt(24 / 200_000))


@pytest.mark.parametrize("kind", SOURCES)
def test_units_are_drawn_independently(kind: str) -> None:
    source = SOURCES[kind]()
    sizes = np.asarray([len(noise.draw_units(source, 40, 0.05)) for _ in range(4000)])
    counts = np.bincount(np.minimum(sizes, 7), minlength=8)
    expected = stats.binom.pmf(np.arange(7), 40, 0.05)
    assert stats.chisquare(counts, 4000 * np.append(expected, 1 - expected.sum())).pvalue > 1e-9
    assert counts[0] > 0  # a step may draw nobody
    many = len(noise.draw_units(source, 2_000_000, 0.05))
    assert many == pytest.approx(100_000, abs=6 * np.sqrt(2e6 * 0.05 * 0.95))


def test_secure_noise_differs_each_time_and_seeded_noise_repeats() -> None:
    assert not np.array_equal(draw_normal(SecureSource(), 8), draw_normal(SecureSource(), 8))
    np.testing.assert_array_equal(draw_normal(SeededSource(1), 8), draw_normal(SeededSource(1), 8))
    assert not np.array_equal(draw_normal(SeededSource(1), 8), draw_normal(SeededSource(2), 8))
    assert (SecureSource.private, SeededSource.private) == (True, False)


def test_the_secure_stream_is_chacha20(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise.os, "urandom", bytes)  # key and nonce of zeros: RFC 8439, appendix A.1, test vector 1
    first = bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
    bits = np.frombuffer(first, np.uint64)
    np.testing.assert_array_equal(SecureSource().uniform(4), ((bits >> np.uint64(11)) + 0.5) * 2.0**-53)


def test_blocks_continue_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise.os, "urandom", bytes)
    whole = SecureSource().uniform(100)
    monkeypatch.setattr(noise, "BLOCK", 7)
    np.testing.assert_array_equal(SecureSource().uniform(100), whole)


def test_released_sums_are_whole_grains_whatever_the_data() -> None:
    rng = np.random.default_rng(1)
    for scale in (0.0, 1e-9, 1.0, 1e3):
        result = add_noise(rng.normal(size=5000) * scale, 1.7, SecureSource())
        grains = result / GRAIN  # 2**0 is the power of two below 1.7
        np.testing.assert_array_equal(grains, np.rint(grains))
    # without the grains the low bits tell whether a contribution was added
    plain = rng.normal(size=5000) * 1e3 + draw_normal(SecureSource(), 5000) * 1.7
    assert not np.array_equal(plain / GRAIN, np.rint(plain / GRAIN))
    assert (noise.compute_grain(1.7), noise.compute_grain(0.3), noise.compute_grain(4.0)) == (
        GRAIN,
        GRAIN / 4,
        4 * GRAIN,
    )


def test_adding_noise_commutes_with_shifting_the_sum() -> None:
    shift = np.full(1000, 12345 * GRAIN)
    np.testing.assert_array_equal(
        add_noise(shift, 1.0, SeededSource(4)) - add_noise(np.zeros(1000), 1.0, SeededSource(4)), shift
    )


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("inf"), float("nan")])
def test_a_deviation_of_zero_is_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        add_noise(np.zeros(3), deviation, SeededSource(1))


@pytest.mark.parametrize("value", [1e9, -1e9, float("nan"), float("-inf")])
def test_a_sum_too_large_for_its_noise_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="too large"):
        add_noise(np.asarray([0.0, value, 0.0]), 1.0, SeededSource(1))


def test_cosines_and_sines_of_one_angle_are_independent() -> None:
    for count in (200_000, 2 * noise.PAIRS, 2 * noise.PAIRS + 1, 7, 1, 0):
        assert draw_normal(SeededSource(5), count).shape == (count,)
        assert len(set(draw_normal(SeededSource(5), count).tolist())) == count
    one, other = draw_normal(SecureSource(), 13 * 2 * noise.PAIRS).reshape(13, 2, -1).swapaxes(0, 1).reshape(2, -1)
    for power in (1, 2):
        assert abs(np.corrcoef(one**power, other**power)[0, 1]) < 6 / np.sqrt(100_000)
    assert stats.kstest((one + other) / np.sqrt(2), "norm").pvalue > 1e-9
    assert stats.kstest(np.exp(-(one**2 + other**2) / 2), "uniform").pvalue > 1e-9
