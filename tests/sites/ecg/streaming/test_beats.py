from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sites.ecg import beats, features
from sites.ecg.recordings import read_recording, recording_names
from sites.ecg.rhythm import find_irregular_rhythm
from sites.ecg.streaming import context
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.recording import cut_recording
from sites.ecg.streaming.stream import BeatStream, StreamedBeat, stack_beats
from sites.ecg.streaming.whole import CausalBeats, cut_causal_beats, detect_beats


def push_all(signal: np.ndarray, rate: float, size: int) -> list[list[StreamedBeat]]:
    """Return the beats of each packet of `size` samples."""
    own = BeatStream(rate, signal.shape[1])
    every = [own.push(signal[start : start + size]) for start in range(0, len(signal), size)]
    return [beats for beats in [*every, own.finish()] if beats]


def run_stream(signal: np.ndarray, rate: float, size: int) -> list[StreamedBeat]:
    return [beat for beats in push_all(signal, rate, size) for beat in beats]


@pytest.mark.parametrize("site", ["north", "south"])
def test_the_stream_gives_what_a_whole_recording_gives(hospitals: Path, site: str) -> None:
    for name in recording_names(hospitals / site):
        recording = read_recording(hospitals / site, name, "atr")
        signal = hold_gaps(recording.signal)[0].astype(np.float64)
        shape = min(2, signal.shape[1])
        seconds = detect_beats(signal, recording.rate)
        whole = cut_causal_beats(signal, recording.rate, seconds, shape)
        for size in (37, 250, len(signal)):
            packets = push_all(signal, recording.rate, size)
            assert [beat.number for beats in packets for beat in beats] == list(range(len(seconds)))
            assert len(seconds) > 15
            parts = [stack_beats(beats, shape) for beats in packets]
            for column in CausalBeats.__annotations__:
                joined = np.concatenate([getattr(part, column) for part in parts])
                np.testing.assert_allclose(joined, getattr(whole, column), atol=2e-3, err_msg=column)


def test_beats_of_two_patients_can_be_stacked_together(hospitals: Path) -> None:
    names = recording_names(hospitals / "north")[:2]
    signals = [read_recording(hospitals / "north", name, "atr").signal for name in names]
    alone = [stack_beats(run_stream(signal, 360.0, 100), 1) for signal in signals]
    together = stack_beats([beat for signal in signals for beat in run_stream(signal, 360.0, 100)], 1)
    for column in ("features", "shape"):
        expected = np.concatenate([getattr(part, column) for part in alone])
        np.testing.assert_allclose(getattr(together, column), expected, atol=2e-3)


def test_no_input_depends_on_later_samples(hospitals: Path) -> None:
    signal = read_recording(hospitals / "north", recording_names(hospitals / "north")[0], "atr").signal
    whole = run_stream(signal, 360.0, 90)
    early = BeatStream(360.0, signal.shape[1]).push(signal[: len(signal) // 2])
    assert len(early) > 8
    assert [beat.seconds for beat in early] == [beat.seconds for beat in whole[: len(early)]]
    assert all(np.array_equal(a.window, b.window) for a, b in zip(early, whole, strict=False))
    assert len(signal) / 2 / 360 - early[-1].seconds < 3.5


def test_interval_features_by_hand() -> None:
    times = np.cumsum([0.0, 0.8, 0.8, 0.4, 1.2])
    local = (0.8 + 0.8 + 0.4) / 3
    changes = np.mean([0.0, 0.5])  # the fall from 0.8 to 0.4 s is limited
    ratios = np.log([0.4 / local, 1.2 / local, 0.4 / 1.2, 0.4 / 0.8])
    expected = np.array([*ratios, np.log(changes + 0.02) + 2, np.log(0.4 / local), np.log(1.2 / local)]) / 0.2
    np.testing.assert_allclose(context.rr_features(times, 3, 1.2), np.clip(expected, -10, 10))
    assert context.rr_features(times, 3, 9.0)[1] == pytest.approx(np.log(2.0 / local) / 0.2)
    assert np.isfinite(context.rr_features(times, 0, 1.0)).all()


def test_old_intervals_do_not_count() -> None:
    times = np.cumsum(np.random.default_rng(3).uniform(0.5, 1.0, 900))
    assert context.rr_features(times, 899, 0.8) == pytest.approx(context.rr_features(times[899 - 303 :], 303, 0.8))


def test_contexts_are_renewed_on_schedule() -> None:
    assert [context.context_number(i) for i in (0, 7, 15, 16, 31, 32, 63, 64, 100)] == [8, 8, 8, 16, 16, 32, 32, 64, 96]
    assert context.context_number(3, total=5) == 5
    windows = np.random.default_rng(4).normal(size=(300, 2, 96)).astype(np.float32)
    np.testing.assert_allclose(
        context.build_context(windows).template, np.median(windows[172:300:2], axis=0), rtol=1e-6
    )


def test_an_irregular_rhythm_is_recognised_from_earlier_beats() -> None:
    draw = np.random.default_rng(5)
    times = np.cumsum(np.concatenate([np.full(70, 0.8), draw.uniform(0.4, 1.1, 70)]))
    flags = [context.is_irregular(times, i) for i in range(140)]
    assert not any(flags[:71])
    assert all(flags[136:])
    assert find_irregular_rhythm(times)[-1]


def test_a_data_set_can_ask_for_causal_beats(hospitals: Path) -> None:
    recording = read_recording(hospitals / "north", recording_names(hospitals / "north")[0], "atr")
    cut, waves = cut_recording(recording, 2, 1, "NSVF")
    plain = beats.cut_beats(recording, "window", 2, "NSVF")
    assert np.array_equal(cut.sample, plain.sample)
    assert np.array_equal(cut.label, plain.label)
    assert cut.features.shape == plain.features.shape
    assert waves.shape == (len(cut.sample), len(features.beat_feature_names(1)))
    assert np.corrcoef(cut.x[5:-5].ravel(), plain.x[5:-5].ravel())[0, 1] > 0.95
