from __future__ import annotations

import numpy as np
import pytest

from sites.ecg.filtering import resample_and_filter
from sites.ecg.streaming.filtering import StreamingFilter, design_filter, filter_signal, hold_gaps

BAND = (0.5, 40.0)


def stream(signal: np.ndarray, rate: float, size: int) -> np.ndarray:
    own = StreamingFilter(design_filter(rate, 125.0, BAND, 1.0))
    parts = [own.push(signal[start : start + size]) for start in range(0, len(signal), size)]
    return np.concatenate([*parts, own.finish()])


@pytest.mark.parametrize("rate", [125.0, 250.0, 257.0, 360.0, 1000.0])
def test_a_sine_passes_with_the_gain_of_the_formula_and_does_not_move(rate: float) -> None:
    time = np.arange(int(20 * rate)) / rate
    for frequency in (2.0, 10.0, 30.0):
        out = stream(3 + np.sin(2 * np.pi * frequency * time)[:, None], rate, 97)[:, 0]
        gain = 1 / (1 + (0.5 / frequency) ** 4) / (1 + (frequency / 40) ** 4)
        expected = gain * np.sin(2 * np.pi * frequency * np.arange(len(out)) / 125)
        assert np.abs(out[250:-250] - expected[250:-250]).max() < 0.03
        assert len(out) == int(np.ceil(len(time) * 125 / rate))


@pytest.mark.parametrize("rate", [250.0, 360.0])
def test_every_size_of_packets_gives_the_same_bits_and_the_whole_signal_the_same_values(rate: float) -> None:
    signal = np.random.default_rng(1).normal(size=(3000, 2)).cumsum(axis=0) + 1e4
    every = [stream(signal, rate, size) for size in (1, 7, 360, 10_000)]
    assert all(np.array_equal(every[0], other) for other in every[1:])
    np.testing.assert_allclose(every[0], filter_signal(signal, design_filter(rate, 125.0, BAND, 1.0)), atol=1e-7)


def test_it_agrees_with_the_filter_of_whole_recordings() -> None:
    draw = np.random.default_rng(2)
    signal = (np.sin(np.arange(7200) / 25) + 0.1 * draw.normal(size=7200))[:, None].astype(np.float32)
    ours = stream(signal, 360.0, 50)[250:-250, 0]
    theirs = resample_and_filter(signal, 360.0, 125.0, BAND)[250:-250, 0]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.995


def test_a_stream_without_samples_ends_empty() -> None:
    own = StreamingFilter(design_filter(250.0, 125.0, BAND, 1.0))
    assert own.push(np.zeros((0, 2))).shape == (0, 2)
    assert own.finish().size == 0


def test_gaps_keep_the_last_value() -> None:
    nan = np.nan
    samples = np.array([[nan, 1.0], [2.0, nan], [nan, nan], [5.0, 6.0]])
    held, missing = hold_gaps(samples, np.array([9.0, 8.0]))
    assert held.tolist() == [[9, 1], [2, 1], [2, 1], [5, 6]]
    assert missing.tolist() == [True, True, True, False]
    assert hold_gaps(samples[:1])[0].tolist() == [[0.0, 1.0]]
