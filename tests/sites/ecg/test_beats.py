from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest

from sites.ecg import beats
from sites.ecg.filtering import resample_and_filter
from sites.ecg.recordings import Recording


def recording(
    sample: list[int],
    symbol: str | None = None,
    *,
    rate: float = 125.0,
    leads: tuple[str, ...] = ("MLII", "V1"),
    signal: np.ndarray | None = None,
    samples: int = 4000,
) -> Recording:
    """A recording whose signal is a bump at every beat."""
    if signal is None:
        time = np.arange(samples)
        bump = sum(np.exp(-(((time - at) / (0.03 * rate)) ** 2)) for at in sample)
        signal = np.stack([bump * (lead + 1) for lead in range(len(leads))], axis=1)
    marks = list(symbol or "N" * len(sample))
    return Recording(
        "r", rate, leads, np.asarray(signal, np.float32), np.asarray(sample, np.int64), np.asarray(marks), ()
    )


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the five values around each, the first and last repeated."""
    wide = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    return np.array([wide[i : i + 5].mean() for i in range(len(values))])


CONTEXTS = [400, 500, 560, 720, 820]


def column(result: beats.Beats, name: str) -> list[float]:
    values: list[float] = result.features[:, beats.window_feature_names(result.x.shape[1]).index(name)].tolist()
    return values


def test_interval_features_of_five_beats_by_hand() -> None:
    result = beats.cut_beats(recording(CONTEXTS), "window", 1)
    # Intervals 0.80, 0.48, 1.28, 0.80 s; the first beat's previous and the last one's next are repeated.
    previous = np.array([0.80, 0.80, 0.48, 1.28, 0.80])
    following = np.array([0.80, 0.48, 1.28, 0.80, 0.80])
    local = np.array([0.80, 1.60 / 2, 2.08 / 3, 3.36 / 4, 4.16 / 5])
    for name, ratio in {
        "rr_prev/rr_local": previous / local,
        "rr_next/rr_local": following / local,
        "rr_prev/rr_next": previous / following,
        "rr_prev/rr_before": previous / np.array([0.80, 0.80, 0.80, 0.48, 1.28]),
        "rr_prev/rr_record": previous / running_mean(previous),
        "rr_next/rr_record": following / running_mean(previous),
    }.items():
        assert column(result, name) == pytest.approx(np.log(ratio) / 0.2, abs=1e-5), name


def test_the_local_interval_is_the_mean_of_the_last_ten() -> None:
    sample = np.cumsum(np.random.default_rng(1).integers(60, 140, 40)).tolist()
    result = beats.cut_beats(recording(sample, samples=6000), "window", 1)
    rr = np.diff(sample) / 125
    previous = np.concatenate([rr[:1], rr])
    local = [previous[max(0, i - 9) : i + 1].mean() for i in range(40)]
    assert column(result, "rr_prev/rr_local") == pytest.approx(np.log(previous / np.array(local)) / 0.2, abs=1e-4)


def test_intervals_count_beats_alone_and_do_not_depend_on_the_rate() -> None:
    marked = recording([100, *CONTEXTS[:2], 530, *CONTEXTS[2:]], "+NN~NNN")
    plain = beats.cut_beats(recording(CONTEXTS), "window", 1)
    np.testing.assert_allclose(beats.cut_beats(marked, "window", 1).features[:, :6], plain.features[:, :6], atol=1e-6)
    faster = beats.cut_beats(recording([4 * at for at in CONTEXTS], rate=500.0, samples=16000), "window", 1)
    np.testing.assert_allclose(faster.features[:, :6], plain.features[:, :6], atol=1e-5)


def test_a_window_has_the_r_peak_at_sample_36() -> None:
    for rate in (125, 250, 360, 500):
        result = beats.cut_beats(
            recording([at * rate // 125 for at in CONTEXTS], rate=float(rate), samples=32 * rate), "window", 2
        )
        assert result.x.shape == (5, 2, 96)
        assert set(result.x[:, 0].argmax(1).tolist()) <= {35, 36, 37}
    assert pytest.approx(0.288) == beats.BEFORE / beats.RATE
    assert pytest.approx(0.48) == (beats.SAMPLES - beats.BEFORE) / beats.RATE


def test_windows_are_the_conditioned_signal_over_the_beats_own_height() -> None:
    wave = np.random.default_rng(2).normal(size=(4000, 2))
    result = beats.cut_beats(recording(CONTEXTS, signal=wave), "window", 2)
    filtered = resample_and_filter(wave.astype(np.float32), 125.0, 125.0, (0.5, 40.0))
    windows = np.stack([filtered[at - 36 : at + 60].T for at in CONTEXTS])
    height = np.median(windows.max(2) - windows.min(2), axis=0)
    np.testing.assert_allclose(result.x, windows / height[:, None], atol=1e-5)
    np.testing.assert_allclose(result.template, np.median(windows, axis=0) / height[:, None], atol=1e-5)


def test_the_scale_of_the_amplifier_cancels() -> None:
    wave = np.random.default_rng(2).normal(size=(4000, 2))
    one = beats.cut_beats(recording(CONTEXTS, signal=wave), "window", 2)
    other = beats.cut_beats(recording(CONTEXTS, signal=wave * [3.0, 0.1] + 5), "window", 2)
    np.testing.assert_allclose(one.x, other.x, atol=1e-4)
    np.testing.assert_allclose(one.features, other.features, atol=2e-2)


def test_a_beat_at_the_edge_of_the_recording_is_kept() -> None:
    result = beats.cut_beats(recording([3, 200, 400, 3998], samples=4000), "window", 1)
    assert result.sample.tolist() == [3, 200, 400, 3998]
    assert np.isfinite(result.x).all()


def test_a_dead_lead_makes_no_infinite_feature() -> None:
    wave = np.random.default_rng(2).normal(size=(4000, 2))
    wave[:, 1] = 0
    result = beats.cut_beats(recording(CONTEXTS, signal=wave), "window", 2)
    assert np.isfinite(result.x).all()
    assert np.isfinite(result.features).all()
    assert np.abs(result.features).max() <= 10


def test_correlation_is_that_with_the_median_beat() -> None:
    wave = np.random.default_rng(7).normal(size=(4000, 1))
    result = beats.cut_beats(recording(CONTEXTS, signal=wave, leads=("MLII",)), "window", 1)
    expected = [np.corrcoef(beat[0], result.template[0])[0, 1] for beat in result.x]
    assert np.tanh(np.array(column(result, "correlation_1")) + 1.5) == pytest.approx(np.array(expected), abs=1e-4)
    assert len(beats.window_feature_names(1)) == result.features.shape[1]
    assert len(beats.window_feature_names(2)) == len(beats.window_feature_names(1)) + len(beats.LEAD_FEATURES)


@pytest.mark.parametrize(
    ("leads", "wanted", "order"),
    [
        (("V5", "MLII"), 2, [1, 0]),
        (("MLII", "V1"), 1, [0]),
        (("V5", "V2"), 2, [0, 1]),
        (("I", "II", "III"), 2, [1, 0]),
        (("II", "MLII"), 2, [1, 0]),
        (("V5",), 2, [0]),
    ],
)
def test_mlii_comes_first(leads: tuple[str, ...], wanted: int, order: list[int]) -> None:
    assert beats.choose_leads(recording(CONTEXTS, leads=leads), wanted) == order


def test_symbols_become_the_five_classes() -> None:
    table = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
    symbols = "".join(table.values())
    result = beats.cut_beats(recording(list(range(200, 200 + 150 * 15, 150)), symbols), "window", 1)
    assert "".join(result.label) == "".join(name * len(marks) for name, marks in table.items())
    others = beats.cut_beats(recording(list(range(200, 200 + 100 * 9, 100)), 'N+~|x!N"N'), "window", 1)
    assert "".join(others.label) == "NNN"


@pytest.mark.parametrize("view", ["window", "kachuee"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_beats_are_left_out_and_counted(view: Literal["window", "kachuee"], count: int) -> None:
    result = beats.cut_beats(recording(CONTEXTS[:count]) if count else recording([50], "+"), view, 2)
    assert result.excluded == {"recordings with fewer than three beats": 1}
    whole = beats.cut_beats(recording(CONTEXTS), view, 2)
    for name in ("x", "template", "features", "label", "sample"):
        empty, full = getattr(result, name), getattr(whole, name)
        assert empty.dtype == full.dtype
        assert empty.shape[1:] == full.shape[1:]


def slow_kachuee(signal: np.ndarray, positions: list[int]) -> tuple[np.ndarray, list[int]]:
    """Each beat but the last from its R peak for 1.2 median intervals of its 10 s stretch, scaled, padded."""
    out, lengths = [], []
    intervals = np.diff(positions)
    for at in positions[:-1]:
        mine = [b - a for a, b in pairwise(positions) if a // 1250 == at // 1250 == b // 1250]
        period = np.median(mine) if mine else np.median(intervals)
        length = min(int(np.rint(1.2 * period)), 187, len(signal) - at)
        part = signal[at : at + length].T
        low, high = part.min(1, keepdims=True), part.max(1, keepdims=True)
        row = np.zeros((signal.shape[1], 187))
        row[:, :length] = (part - low) / (high - low)
        out.append(row)
        lengths.append(length)
    return np.array(out), lengths


def test_kachuee_beats_equal_the_slow_cut() -> None:
    positions = np.cumsum(np.random.default_rng(3).integers(60, 220, 40)).tolist()
    wave = np.random.default_rng(4).normal(size=(positions[-1] + 20, 2)).astype(np.float32)
    result = beats.cut_beats(recording(positions, signal=wave), "kachuee", 2)
    expected, lengths = slow_kachuee(wave, positions)
    assert result.x.shape == (39, 2, 187)
    np.testing.assert_allclose(result.x, expected, atol=1e-4)
    assert len(set(lengths)) > 2
    assert result.sample.tolist() == positions[:-1]
    assert result.excluded == {"last beat of a recording": 1}
    assert result.features.shape == (39, 0)


def test_kachuee_beats_span_0_to_1_and_are_zero_behind() -> None:
    positions = list(range(200, 3000, 100))
    result = beats.cut_beats(
        recording(positions, signal=np.random.default_rng(5).normal(size=(4000, 1)), leads=("II",)), "kachuee", 1
    )
    assert result.x[:, :, :120].min(-1) == pytest.approx(0, abs=1e-5)
    assert result.x[:, :, :120].max(-1) == pytest.approx(1, abs=1e-5)
    assert (result.x[:, :, 120:] == 0).all()


@pytest.mark.parametrize("view", ["window", "kachuee"])
@pytest.mark.parametrize("samples", [72 * 20, 72 * 20 - 1, 72 * 20 + 1])
def test_a_beat_on_the_last_sample_is_no_error(view: Literal["window", "kachuee"], samples: int) -> None:
    positions = [10, 400, 800, samples - 1]
    result = beats.cut_beats(recording(positions, rate=360.0, samples=samples), view, 2)
    assert np.isfinite(result.x).all()
    assert len(result.sample) == (4 if view == "window" else 3)


def test_cutting_leaves_the_recording_as_it_was() -> None:
    item = recording(CONTEXTS)
    before = item.signal.copy()
    beats.cut_beats(item, "window", 2)
    beats.cut_beats(item, "kachuee", 2)
    np.testing.assert_array_equal(item.signal, before)
