"""Disturbances of an ECG, against what physics says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, stats

from common.errors import ConfigError
from sites.ecg import beats
from sites.ecg.filtering import resample_and_filter
from tests.sites.shift.shift_cohorts import PAIR, SIGNAL_OPTIONS, TWELVE, chart, ecg, flat, hours, shifted, window


def amplitude(trace: np.ndarray, rate: float, hz: float) -> float:
    """The amplitude of one frequency that the length of the trace holds a whole number of times."""
    spectrum = np.abs(np.fft.rfft(trace)) * 2 / len(trace)
    at = round(hz * len(trace) / rate)
    assert spectrum.argmax() == at
    return float(spectrum[at])


def power_within(trace: np.ndarray, rate: float, low: float, high: float, window: str = "boxcar") -> float:
    hz, power = signal.periodogram(trace, rate, window, detrend=False)
    return float(power[(hz >= low) & (hz <= high)].sum() / power.sum())


def from_electrodes(rng: np.random.Generator, samples: int, crossed: bool = False) -> np.ndarray:
    """Twelve leads from nine electrode potentials, by the definitions; `crossed`: the arms' electrodes exchanged."""
    right, left, foot, *chest = rng.normal(size=(9, samples))
    if crossed:
        right, left = left, right
    centre = (right + left + foot) / 3
    limbs = [left - right, foot - right, foot - left]
    limbs += [right - (left + foot) / 2, left - (right + foot) / 2, foot - (right + left) / 2]
    return np.array(limbs + [one - centre for one in chest])


@pytest.mark.parametrize("mains", [50, 60])
def test_hum_is_one_line_at_the_mains_frequency_of_the_amplitude_asked(mains: int) -> None:
    two, _ = shifted(flat(3, leads=2, names=("MLII", "V5 of a Holter")), hum={"mv": 0.08, "mains": mains})
    phases = set()
    for recording in two.x:
        for trace in recording:
            assert amplitude(trace, 500.0, mains) == pytest.approx(0.08, rel=1e-4)
            assert power_within(trace, 500.0, mains - 0.05, mains + 0.05) > 0.9999
            phases.add(round(float(np.angle(np.fft.rfft(trace)[mains * 10])), 3))
    assert len(phases) == 6
    twelve, _ = shifted(flat(3), hum={"mv": 0.08, "mains": mains})
    for recording in twelve.x:
        square = [amplitude(trace, 500.0, mains) ** 2 for trace in recording]
        assert np.sqrt(np.mean(square)) == pytest.approx(0.08, rel=1e-4)


def test_hum_runs_on_from_one_example_of_a_recording_to_the_next() -> None:
    cohort = flat(20, leads=1, seconds=1.024, rate=250.0, names=("II",), each=20)
    result, _ = shifted(cohort, hum={"mv": 0.1}, wander={"mv": 0.3})
    whole = result.x[:, 0].ravel()
    joins = np.abs(np.diff(whole))[255::256]
    assert joins.max() <= np.abs(np.diff(whole)).max()
    assert (
        power_within(whole - signal.sosfiltfilt(signal.butter(4, 5, fs=250.0, output="sos"), whole), 250, 49, 51) > 0.99
    )


def test_hum_that_the_rate_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shift\.north\.hum: data at 100 Hz cannot hold 50 Hz"):
        shifted(flat(1, rate=100.0), hum={"mv": 0.1})
    shifted(flat(1, rate=101.0, seconds=2), hum={"mv": 0.1})


def test_wander_lies_between_a_twentieth_and_half_a_hertz() -> None:
    result, _ = shifted(flat(30, leads=2, seconds=400, rate=50.0, names=("a", "b")), wander={"mv": 0.25})
    for trace in result.x[:4].reshape(-1, result.x.shape[2]):
        assert power_within(trace, 50.0, 0.044, 0.506, "hann") > 0.9999
    square = (result.x.astype(float) ** 2).mean(2)
    assert np.sqrt(square.mean()) == pytest.approx(0.25, rel=0.03)
    slow = [power_within(trace, 50.0, 0.0, 0.275, "hann") for trace in result.x.reshape(-1, result.x.shape[2])]
    assert np.mean(slow) == pytest.approx(0.5, abs=0.12)


def test_emg_is_gaussian_and_fills_the_band_from_20_hz_up_evenly() -> None:
    result, _ = shifted(flat(3, leads=2, seconds=20, names=("a", "b")), emg={"mv": 0.05})
    for trace in result.x.reshape(6, -1):
        hz, power = signal.welch(trace, 500.0, nperseg=1000)
        assert power[hz < 19].sum() / power.sum() < 1e-4
        low, high = (power[(hz > a) & (hz < b)].mean() for a, b in ((25, 130), (140, 245)))
        assert low == pytest.approx(high, rel=0.1)
        assert trace.std() == pytest.approx(0.05, rel=0.05)
        assert abs(stats.kurtosis(trace)) < 0.2
    assert abs(np.corrcoef(result.x[0])[0, 1]) < 0.05
    twelve, _ = shifted(flat(3), emg={"mv": 0.05})
    assert np.sqrt((twelve.x.astype(float) ** 2).mean()) == pytest.approx(0.05, rel=0.05)


def test_einthoven_and_goldberger_hold_after_every_disturbance() -> None:
    rng = np.random.default_rng(0)
    cohort = ecg(np.array([from_electrodes(rng, 1000) for _ in range(4)]), 250.0)
    options = {name: SIGNAL_OPTIONS[name] for name in ("wander", "hum", "emg", "gain", "lead_swap", "sampling_rate")}
    for result in (cohort, shifted(cohort, **options)[0]):
        one, two, three, right, left, foot = result.x[:, :6].transpose(1, 0, 2)
        np.testing.assert_allclose(one + three, two, atol=1e-5)
        np.testing.assert_allclose(right + left + foot, 0, atol=1e-5)
        np.testing.assert_allclose(left, one - two / 2, atol=1e-5)


def test_exchanged_arms_give_the_leads_that_the_electrodes_say() -> None:
    straight = np.array([from_electrodes(np.random.default_rng(i), 50) for i in range(300)])
    crossed = np.array([from_electrodes(np.random.default_rng(i), 50, crossed=True) for i in range(300)])
    result, notes = shifted(ecg(straight), lead_swap={"probability": 0.2})
    is_straight = np.isclose(result.x, straight, atol=1e-5).all((1, 2))
    is_crossed = np.isclose(result.x, crossed, atol=1e-5).all((1, 2))
    assert (is_straight ^ is_crossed).all()
    assert stats.binomtest(int(is_crossed.sum()), 300, 0.2).pvalue > 0.001
    assert notes["lead_swap"] == f"{is_crossed.sum()} of 300 recordings"
    twice, _ = shifted(result, lead_swap={"probability": 0.2})
    np.testing.assert_array_equal(twice.x, straight.astype(np.float32))


def test_lead_names_count_in_small_letters_and_frank_leads_stay() -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([from_electrodes(rng, 20), rng.normal(size=(3, 20))])[None]
    names = [name.lower() for name in TWELVE] + ["vx", "vy", "vz"]
    result, _ = shifted(ecg(x, names=names), lead_swap={"probability": 1.0})
    np.testing.assert_allclose(result.x[0, 1], x[0, 2], rtol=1e-6)
    np.testing.assert_array_equal(result.x[0, 6:], x[0, 6:].astype(np.float32))


def test_two_channels_are_exchanged_with_all_that_is_of_them() -> None:
    cohort = window()
    result, _ = shifted(cohort, lead_swap={"probability": 1.0})
    np.testing.assert_array_equal(result.x, cohort.x[:, [1, 0, 3, 2]])
    names = cohort.task.features
    for i, name in enumerate(names):
        stem, _, lead = name.rpartition("_")
        twin = f"{stem}_{3 - int(lead)}" if lead in ("1", "2") else name
        assert (result.features[:, i] == names.index(twin)).all(), name
    with pytest.raises(ConfigError, match="lead_swap: needs the leads I, II, III, aVR and aVL, or a record of two"):
        shifted(flat(2, leads=3), lead_swap={"probability": 1.0})


@pytest.mark.parametrize("name", ["wander", "hum", "emg", "resolution"])
def test_a_lead_and_what_is_relative_to_its_median_beat_are_disturbed_alike(name: str) -> None:
    cohort = window()
    result, _ = shifted(cohort, **{name: SIGNAL_OPTIONS[name]})
    moved = result.x[:, :2] - cohort.x[:, :2]
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_allclose(result.x[:, 2:] - cohort.x[:, 2:], moved, atol=1e-6)


def test_the_view_of_beats_is_disturbed_as_its_filter_and_its_unit_say() -> None:
    cohort = ecg(np.zeros((125, 2, beats.SAMPLES)), beats.RATE, PAIR[:2], each=125)
    result, notes = shifted(cohort, hum={"mv": 0.3, "mains": 50})
    left = 0.3 / 1.5 / (1 + (50 / 40) ** 4) / (1 + (0.5 / 50) ** 4)
    assert amplitude(result.x[:, 0].ravel(), beats.RATE, 50) == pytest.approx(left, rel=1e-4)
    assert notes["hum"] == (
        "0.3 mV at 50 Hz, then the data's filter of 0.5 to 40 Hz, one unit of the signal counted as 1.5 mV; "
        "1 recordings"
    )
    own, _ = shifted(cohort, hum={"mv": 0.3}, signal={"unit_mv": 3.0, "band": [5.0, 50.0]})
    left = 0.3 / 3 / (1 + 1) / (1 + (5 / 50) ** 4)
    assert amplitude(own.x[:, 1].ravel(), beats.RATE, 50) == pytest.approx(left, rel=1e-4)


def test_the_filter_that_disturbances_pass_is_the_one_the_window_view_applies() -> None:
    time = np.arange(0, 60, 1 / 500)
    tones = {0.4: 0.0, 3.0: 0.0, 50.0: 0.0}
    for hz in tones:
        out = resample_and_filter(np.sin(2 * np.pi * hz * time).astype(np.float32)[:, None], 500.0, 125.0, (0.5, 40.0))
        tones[hz] = float(np.sqrt(2 * (out[1250:-1250] ** 2).mean()))
    for hz, left in tones.items():
        assert 1 / (1 + (0.5 / hz) ** 4) / (1 + (hz / 40) ** 4) == pytest.approx(left, rel=0.02)


def test_gain_is_one_factor_for_all_of_a_recording() -> None:
    rng = np.random.default_rng(2)
    cohort = ecg(rng.normal(size=(1200, 2, 8)), names=("a", "b"), each=2)
    result, _ = shifted(cohort, gain={"factor": 1.25, "spread": 0.1})
    ratio = (result.x / cohort.x).reshape(600, -1)
    assert np.ptp(ratio, 1).max() < 1e-5
    assert stats.kstest(np.log(ratio[:, 0] / 1.25) / 0.1, "norm").pvalue > 0.001
    plain, _ = shifted(cohort, gain={"factor": 1.25})
    np.testing.assert_allclose(plain.x, 1.25 * cohort.x, rtol=1e-6)


def test_a_slower_recorder_loses_what_lies_above_half_its_rate_and_nothing_below() -> None:
    time = np.arange(1250) / 125
    slow, fast = np.sin(2 * np.pi * 11 * time), np.sin(2 * np.pi * 47 * time)
    cohort = ecg(np.array([[slow + fast, slow], [fast, 0 * time]]), 125.0, ("a", "b"))
    result, _ = shifted(cohort, sampling_rate={"hz": 80})
    inner = slice(100, -100)
    np.testing.assert_allclose(result.x[0][:, inner], np.array([slow, slow])[:, inner], atol=0.02)
    np.testing.assert_allclose(result.x[1][:, inner], 0, atol=0.02)
    truth = signal.resample_poly(signal.resample_poly(slow + fast, 16, 25), 25, 16)
    np.testing.assert_allclose(result.x[0, 0, inner], truth[inner], atol=0.05)
    with pytest.raises(ConfigError, match=r"sampling_rate: 125 Hz is not below the 125 Hz of the data"):
        shifted(cohort, sampling_rate={"hz": 125})


def test_a_coarse_converter_gives_its_steps_and_clips() -> None:
    rng = np.random.default_rng(4)
    cohort = ecg(rng.normal(0, 1.5, (5, 2, 400)), names=("a", "b"))
    result, notes = shifted(cohort, resolution={"bits": 5, "range_mv": 8.0})
    step = 8 / 32
    code = result.x / step
    np.testing.assert_allclose(code, np.rint(code), atol=1e-5)
    assert code.min() == -16
    assert code.max() == 15
    inside = np.abs(cohort.x) < 3.8
    assert np.abs(result.x - cohort.x)[inside].max() <= step / 2 + 1e-6
    clipped = int(((cohort.x < -4 - step / 2) | (cohort.x > 15.5 * step)).sum())
    assert f"steps of 250 uV, {clipped} samples clipped" in notes["resolution"]


def test_beats_scaled_from_0_to_1_are_scaled_so_again() -> None:
    rng = np.random.default_rng(6)
    length = rng.integers(60, beats.KACHUEE_SAMPLES, 12)
    raw = rng.normal(size=(12, 1, beats.KACHUEE_SAMPLES)).cumsum(2)
    valid = np.arange(beats.KACHUEE_SAMPLES) < length[:, None]
    x = np.zeros_like(raw)
    for i, n in enumerate(length):
        one = raw[i, 0, :n]
        x[i, 0, :n] = (one - one.min()) / np.ptp(one)
        x[i, 0, n - 1] = max(x[i, 0, n - 1], 1e-3)  # where the beat ends must show
    cohort = ecg(x, beats.RATE, ("lead 1",))
    result, _ = shifted(cohort, wander={"mv": 0.4}, emg={"mv": 0.05}, gain={"factor": 3.0})
    assert (result.x != cohort.x).any((1, 2)).all()
    assert (result.x[:, 0][~valid] == 0).all()
    for i, n in enumerate(length):
        assert result.x[i, 0, :n].min() == 0
        assert result.x[i, 0, :n].max() == 1
    alone, _ = shifted(cohort, gain={"factor": 3.0})
    np.testing.assert_allclose(alone.x, cohort.x, atol=1e-6)


@pytest.mark.parametrize("name", SIGNAL_OPTIONS)
def test_data_without_an_ecg_take_no_option_of_signals(name: str) -> None:
    for cohort in (chart(6), hours()[0]):
        with pytest.raises(ConfigError, match=rf"shift\.north\.{name}: needs an ECG, and chart is none"):
            shifted(cohort, **{name: SIGNAL_OPTIONS[name]})
