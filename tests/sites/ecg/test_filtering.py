"""One pass in the frequency domain against scipy's filters in the time domain."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from sites.ecg.filtering import fill_gaps, resample_and_filter

BAND = (0.5, 40.0)


def sine(frequency: float, rate: float, seconds: float = 20.0, phase: float = 0.3) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.sin(2 * np.pi * frequency * time + phase).astype(np.float32)[:, None]


@pytest.mark.parametrize("rate", [125.0, 250.0, 257.0, 360.0, 500.0, 1000.0])
@pytest.mark.parametrize("frequency", [2.0, 5.0, 10.0, 20.0])
def test_a_sine_of_the_passband_keeps_amplitude_and_phase(rate: float, frequency: float) -> None:
    out = resample_and_filter(sine(frequency, rate), rate, 125.0, BAND)
    gain = 1 / (1 + (BAND[0] / frequency) ** 4) / (1 + (frequency / BAND[1]) ** 4)
    expected = gain * sine(frequency, 125.0)
    middle = slice(250, -250)
    np.testing.assert_allclose(out[middle], expected[: len(out)][middle], atol=4e-3)


@pytest.mark.parametrize("frequency", [0.02, 0.1, 55.0])
def test_what_lies_outside_the_band_is_damped(frequency: float) -> None:
    out = resample_and_filter(sine(frequency, 360.0, 60.0), 360.0, 125.0, BAND)
    gain = 1 / (1 + (BAND[0] / frequency) ** 4) / (1 + (frequency / BAND[1]) ** 4)
    assert np.abs(out[500:-500]).max() == pytest.approx(gain, abs=0.01)


def test_the_band_is_that_of_a_butterworth_run_forwards_and_backwards() -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(1000 * 20, 2)).astype(np.float32)
    ours = resample_and_filter(signal, 1000.0, 1000.0, BAND)
    theirs = signal.astype(np.float64)
    for edge, kind in ((BAND[0], "highpass"), (BAND[1], "lowpass")):
        sections = scipy.signal.butter(2, edge, kind, fs=1000.0, output="sos")
        theirs = scipy.signal.sosfiltfilt(sections, theirs, axis=0)
    middle = slice(3000, -3000)
    difference = (ours - theirs)[middle]
    assert difference.std() < 0.02 * theirs[middle].std()


@pytest.mark.parametrize(("rate", "up", "down"), [(360.0, 25, 72), (250.0, 1, 2), (500.0, 1, 4), (100.0, 5, 4)])
def test_resampling_equals_scipys_on_a_band_limited_signal(rate: float, up: int, down: int) -> None:
    rng = np.random.default_rng(2)
    time = np.arange(round(20 * rate)) / rate
    signal = sum(rng.normal() * np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in rng.uniform(0.5, 25, 30))
    signal = np.stack([signal, signal[::-1]], axis=1).astype(np.float32)
    ours = resample_and_filter(signal, rate, 125.0, None)
    theirs = scipy.signal.resample_poly(signal.astype(np.float64), up, down, axis=0, window=("kaiser", 14.0))
    assert ours.shape == theirs.shape
    middle = slice(300, -300)
    np.testing.assert_allclose(ours[middle], theirs[middle], atol=0.02)


def test_nothing_to_do_changes_nothing() -> None:
    signal = np.random.default_rng(3).normal(size=(999, 2)).astype(np.float32)
    np.testing.assert_allclose(resample_and_filter(signal, 125.0, 125.0, None), signal, atol=1e-5)


@pytest.mark.parametrize("rate", [125.0, 360.0])
def test_a_constant_is_removed_by_the_band_and_kept_without_it(rate: float) -> None:
    signal = np.full((5000, 2), 3.0, dtype=np.float32)
    assert np.abs(resample_and_filter(signal, rate, 125.0, BAND)).max() < 1e-4
    np.testing.assert_allclose(resample_and_filter(signal, rate, 125.0, None), 3.0, atol=1e-4)
    ecg = sine(5.0, rate)
    np.testing.assert_allclose(
        resample_and_filter(ecg + 3, rate, 125.0, BAND), resample_and_filter(ecg, rate, 125.0, BAND), atol=1e-4
    )


@pytest.mark.parametrize("rate", [64.0, 100.0, 125.0, 128.0, 250.0, 257.0, 360.0, 1000 / 3, 977.5])
@pytest.mark.parametrize("samples", [1, 2, 3, 10, 999, 1000])
@pytest.mark.parametrize("band", [None, BAND])
def test_any_length_and_rate_give_the_promised_shape(
    rate: float, samples: int, band: tuple[float, float] | None
) -> None:
    signal = np.random.default_rng(4).normal(size=(samples, 3)).astype(np.float32)
    out = resample_and_filter(signal, rate, 125.0, band)
    assert out.shape == (int(np.ceil(round(samples * 125.0 / rate, 6))), 3)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert np.isfinite(out).all()


def test_leads_do_not_mix_and_the_input_stays() -> None:
    signal = np.random.default_rng(5).normal(size=(2000, 2)).astype(np.float32)
    before = signal.copy()
    both = resample_and_filter(signal, 360.0, 125.0, BAND)
    np.testing.assert_array_equal(signal, before)
    for lead in range(2):
        np.testing.assert_allclose(
            resample_and_filter(signal[:, lead : lead + 1], 360.0, 125.0, BAND)[:, 0], both[:, lead], atol=1e-6
        )


def test_an_impulse_stays_at_its_time() -> None:
    for rate in (250.0, 360.0, 500.0):
        signal = np.zeros((round(10 * rate), 1), dtype=np.float32)
        signal[round(4 * rate)] = 1
        out = resample_and_filter(signal, rate, 125.0, BAND)
        assert int(out[:, 0].argmax()) == 500
        np.testing.assert_allclose(out[500 - 40 : 500, 0][::-1], out[501:541, 0], atol=1e-6)


def test_gaps_are_interpolated_and_reported() -> None:
    signal = np.array([[0, 5], [1, np.nan], [np.nan, 7], [np.nan, 8], [4, 9], [5, np.nan]], dtype=np.float32)
    filled, lost = fill_gaps(signal)
    np.testing.assert_allclose(filled, [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9], [5, 9]])
    assert lost.tolist() == [False, True, True, True, False, True]
    assert np.isnan(signal).sum() == 4
    whole = np.ones((4, 2), dtype=np.float32)
    assert fill_gaps(whole)[0] is whole
    assert not fill_gaps(whole)[1].any()
    empty, gone = fill_gaps(np.full((3, 1), np.nan, dtype=np.float32))
    assert (empty == 0).all()
    assert gone.all()


def test_the_ends_are_mirrored_not_taken_for_periodic() -> None:
    """A slope is far from periodic: as its mirror image goes on at each end, its ends are filtered so too."""
    slope = np.linspace(-1, 1, 3600, dtype=np.float32)[:, None]
    longer = np.concatenate([slope[:0:-1], slope, slope[-2::-1]])
    ours = resample_and_filter(slope, 360.0, 360.0, BAND)
    expected = resample_and_filter(longer, 360.0, 360.0, BAND)[3599 : 3599 + 3600]
    np.testing.assert_allclose(ours, expected, atol=6e-3)
    signal = slope + 0.2 * sine(8.0, 360.0, 10.0)
    remaining = resample_and_filter(signal, 360.0, 125.0, None)
    np.testing.assert_allclose(
        remaining[[2, -3], 0], np.interp([2 / 125, 1247 / 125], np.arange(3600) / 360, signal[:, 0]), atol=0.02
    )
