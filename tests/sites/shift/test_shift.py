"""Simulated differences, against what physics, statistics and counting by hand say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from client import requests as work
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site import load_site
from client.site_context import SiteContext
from common import config
from common.errors import ConfigError, SiteError
from common.sections.shift import ShiftConfig
from common.settings import validate_settings
from common.task import Task
from sites import shift
from sites.cohort import SPLITS, Cohort, Windows
from sites.datasets import synthetic
from sites.ecg import beats
from sites.ecg.filtering import resample_and_filter
from sites.shift import people, tables
from tests.wire import build_request

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
PAIR = ("lead 1", "lead 2", "lead 1 minus median beat", "lead 2 minus median beat")
CLASSES = ("N", "S", "V")


def asked(**options: Any) -> ShiftConfig:
    return validate_settings(ShiftConfig, options, "shift")


def shifted(cohort: Cohort, seed: int = 1, site: str = "north", **options: Any) -> tuple[Cohort, Mapping[str, str]]:
    return shift.apply_shift(cohort, asked(**options), seed, site)


def ecg(
    x: np.ndarray, rate: float = 500.0, names: Sequence[str] = TWELVE, each: int = 1, features: tuple[str, ...] = ()
) -> Cohort:
    """A cohort of `x` `(examples, leads, samples)`, `each` examples a recording; a third in each split."""
    n = len(x)
    task = Task(
        "ecg", "multiclass", CLASSES, CLASSES, x.shape[1], x.shape[2], rate, features, tuple(names[: x.shape[1]])
    )
    owner = np.arange(n) // each
    patients = tuple(f"r{i:04d}" for i in range(owner[-1] + 1))
    values = np.tile(np.arange(len(features), dtype=np.float32), (n, 1))
    split = (owner % 3).astype(np.int8)
    return Cohort(task, x.astype(np.float32), values, np.arange(n) % 3, owner, patients, patients, split)


def flat(n: int = 6, leads: int = 12, seconds: float = 10.0, rate: float = 500.0, **more: Any) -> Cohort:
    return ecg(np.zeros((n, leads, round(seconds * rate))), rate, **more)


def window(n: int = 40, each: int = 10) -> Cohort:
    """Beats as the window view of sites/ecg/beats.py gives them, with the names of its features."""
    rng = np.random.default_rng(3)
    names = beats.window_feature_names(2)
    lead = rng.normal(0, 0.2, (n, 2, beats.SAMPLES))
    return ecg(np.concatenate([lead, lead - np.median(lead, 0)], 1), beats.RATE, PAIR, each, names)


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


# -- nothing asked, seeds, sides -------------------------------------------------------------------------------------


def test_nothing_asked_gives_the_same_cohort_back() -> None:
    cohort = flat(3)
    for options in ({}, {"signal": {"unit_mv": 2.0}}):
        same, notes = shifted(cohort, **options)
        assert same is cohort
        assert notes == {}


SIGNAL_OPTIONS: dict[str, dict[str, Any]] = {
    "lead_swap": {"probability": 1.0},
    "wander": {"mv": 0.3},
    "hum": {"mv": 0.2, "mains": 60},
    "emg": {"mv": 0.1},
    "gain": {"factor": 1.3, "spread": 0.2},
    "sampling_rate": {"hz": 90},
    "resolution": {"bits": 6},
}


@pytest.mark.parametrize("name", SIGNAL_OPTIONS)
@pytest.mark.parametrize("where", ["all", "train", "test"])
def test_each_signal_option_changes_its_side_alone_and_leaves_its_input(name: str, where: str) -> None:
    cohort = window()
    before = cohort.x.copy()
    found, notes = shifted(cohort, **{name: SIGNAL_OPTIONS[name] | {"where": where}})
    np.testing.assert_array_equal(cohort.x, before)
    changed = (found.x != before).any((1, 2))
    test = cohort.split == SPLITS.index("test")
    np.testing.assert_array_equal(changed, {"all": test | True, "train": ~test, "test": test}[where])
    assert list(notes) == [name]
    assert f"{ {'all': 4, 'train': 3, 'test': 1}[where] } recordings" in notes[name]
    assert ("only" in notes[name]) == (where != "all")
    assert found.y is cohort.y


EVERYTHING: dict[str, Any] = SIGNAL_OPTIONS | {"label_noise": {"probability": 0.3, "where": "all"}}


def test_the_same_seed_gives_the_same_bits_and_another_seed_or_site_others() -> None:
    one, _ = shifted(window(), **EVERYTHING)
    two, _ = shifted(window(), **EVERYTHING)
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.y, two.y)
    for other in ({"seed": 2}, {"site": "south"}):
        found, _ = shifted(window(), **EVERYTHING, **other)
        assert (found.x != one.x).mean() > 0.5
        assert (found.y != one.y).any()


@pytest.mark.parametrize("name", [*SIGNAL_OPTIONS, "label_noise"])
def test_a_recording_is_changed_alike_whoever_else_is_there_and_in_whatever_order(name: str) -> None:
    cohort = window()
    whole, _ = shifted(cohort, **{name: EVERYTHING[name]})
    order = np.concatenate([np.flatnonzero(cohort.patient == p) for p in (2, 0)])
    names = tuple(cohort.patients[p] for p in (2, 0))
    few = replace(
        cohort.take(order), patient=np.repeat(np.arange(2), 10).astype(np.int64), patients=names, persons=names
    )
    found, _ = shifted(few, **{name: EVERYTHING[name]})
    np.testing.assert_array_equal(found.x, whole.x[order])
    np.testing.assert_array_equal(found.y, whole.y[order])


def test_what_an_option_draws_does_not_hang_on_the_other_options() -> None:
    cohort = flat(4, rate=250.0, seconds=2)
    hum, _ = shifted(cohort, hum={"mv": 0.2})
    emg, _ = shifted(cohort, emg={"mv": 0.1})
    both, _ = shifted(cohort, hum={"mv": 0.2}, emg={"mv": 0.1})
    np.testing.assert_allclose(both.x, hum.x + emg.x, atol=1e-6)


# -- electrodes, amplifier, recorder ---------------------------------------------------------------------------------


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
    found, _ = shifted(cohort, hum={"mv": 0.1}, wander={"mv": 0.3})
    whole = found.x[:, 0].ravel()
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
    found, _ = shifted(flat(30, leads=2, seconds=400, rate=50.0, names=("a", "b")), wander={"mv": 0.25})
    for trace in found.x[:4].reshape(-1, found.x.shape[2]):
        assert power_within(trace, 50.0, 0.044, 0.506, "hann") > 0.9999
    square = (found.x.astype(float) ** 2).mean(2)
    assert np.sqrt(square.mean()) == pytest.approx(0.25, rel=0.03)
    slow = [power_within(trace, 50.0, 0.0, 0.275, "hann") for trace in found.x.reshape(-1, found.x.shape[2])]
    assert np.mean(slow) == pytest.approx(0.5, abs=0.12)


def test_emg_is_gaussian_and_fills_the_band_from_20_hz_up_evenly() -> None:
    found, _ = shifted(flat(3, leads=2, seconds=20, names=("a", "b")), emg={"mv": 0.05})
    for trace in found.x.reshape(6, -1):
        hz, power = signal.welch(trace, 500.0, nperseg=1000)
        assert power[hz < 19].sum() / power.sum() < 1e-4
        low, high = (power[(hz > a) & (hz < b)].mean() for a, b in ((25, 130), (140, 245)))
        assert low == pytest.approx(high, rel=0.1)
        assert trace.std() == pytest.approx(0.05, rel=0.05)
        assert abs(stats.kurtosis(trace)) < 0.2
    assert abs(np.corrcoef(found.x[0])[0, 1]) < 0.05
    twelve, _ = shifted(flat(3), emg={"mv": 0.05})
    assert np.sqrt((twelve.x.astype(float) ** 2).mean()) == pytest.approx(0.05, rel=0.05)


def test_einthoven_and_goldberger_hold_after_every_disturbance() -> None:
    rng = np.random.default_rng(0)
    cohort = ecg(np.array([from_electrodes(rng, 1000) for _ in range(4)]), 250.0)
    options = {name: SIGNAL_OPTIONS[name] for name in ("wander", "hum", "emg", "gain", "lead_swap", "sampling_rate")}
    for found in (cohort, shifted(cohort, **options)[0]):
        one, two, three, right, left, foot = found.x[:, :6].transpose(1, 0, 2)
        np.testing.assert_allclose(one + three, two, atol=1e-5)
        np.testing.assert_allclose(right + left + foot, 0, atol=1e-5)
        np.testing.assert_allclose(left, one - two / 2, atol=1e-5)


def test_exchanged_arms_give_the_leads_that_the_electrodes_say() -> None:
    straight = np.array([from_electrodes(np.random.default_rng(i), 50) for i in range(300)])
    crossed = np.array([from_electrodes(np.random.default_rng(i), 50, crossed=True) for i in range(300)])
    found, notes = shifted(ecg(straight), lead_swap={"probability": 0.2})
    is_straight = np.isclose(found.x, straight, atol=1e-5).all((1, 2))
    is_crossed = np.isclose(found.x, crossed, atol=1e-5).all((1, 2))
    assert (is_straight ^ is_crossed).all()
    assert stats.binomtest(int(is_crossed.sum()), 300, 0.2).pvalue > 0.001
    assert notes["lead_swap"] == f"{is_crossed.sum()} of 300 recordings"
    twice, _ = shifted(found, lead_swap={"probability": 0.2})
    np.testing.assert_array_equal(twice.x, straight.astype(np.float32))


def test_lead_names_count_in_small_letters_and_frank_leads_stay() -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([from_electrodes(rng, 20), rng.normal(size=(3, 20))])[None]
    names = [name.lower() for name in TWELVE] + ["vx", "vy", "vz"]
    found, _ = shifted(ecg(x, names=names), lead_swap={"probability": 1.0})
    np.testing.assert_allclose(found.x[0, 1], x[0, 2], rtol=1e-6)
    np.testing.assert_array_equal(found.x[0, 6:], x[0, 6:].astype(np.float32))


def test_two_channels_are_exchanged_with_all_that_is_of_them() -> None:
    cohort = window()
    found, _ = shifted(cohort, lead_swap={"probability": 1.0})
    np.testing.assert_array_equal(found.x, cohort.x[:, [1, 0, 3, 2]])
    names = cohort.task.features
    for i, name in enumerate(names):
        stem, _, lead = name.rpartition("_")
        twin = f"{stem}_{3 - int(lead)}" if lead in ("1", "2") else name
        assert (found.features[:, i] == names.index(twin)).all(), name
    with pytest.raises(ConfigError, match="lead_swap: needs the leads I, II, III, aVR and aVL, or a record of two"):
        shifted(flat(2, leads=3), lead_swap={"probability": 1.0})


@pytest.mark.parametrize("name", ["wander", "hum", "emg", "resolution"])
def test_a_lead_and_what_is_relative_to_its_median_beat_are_disturbed_alike(name: str) -> None:
    cohort = window()
    found, _ = shifted(cohort, **{name: SIGNAL_OPTIONS[name]})
    moved = found.x[:, :2] - cohort.x[:, :2]
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_allclose(found.x[:, 2:] - cohort.x[:, 2:], moved, atol=1e-6)


def test_the_view_of_beats_is_disturbed_as_its_filter_and_its_unit_say() -> None:
    cohort = ecg(np.zeros((125, 2, beats.SAMPLES)), beats.RATE, PAIR[:2], each=125)
    found, notes = shifted(cohort, hum={"mv": 0.3, "mains": 50})
    left = 0.3 / 1.5 / (1 + (50 / 40) ** 4) / (1 + (0.5 / 50) ** 4)
    assert amplitude(found.x[:, 0].ravel(), beats.RATE, 50) == pytest.approx(left, rel=1e-4)
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
    found, _ = shifted(cohort, gain={"factor": 1.25, "spread": 0.1})
    ratio = (found.x / cohort.x).reshape(600, -1)
    assert np.ptp(ratio, 1).max() < 1e-5
    assert stats.kstest(np.log(ratio[:, 0] / 1.25) / 0.1, "norm").pvalue > 0.001
    plain, _ = shifted(cohort, gain={"factor": 1.25})
    np.testing.assert_allclose(plain.x, 1.25 * cohort.x, rtol=1e-6)


def test_a_slower_recorder_loses_what_lies_above_half_its_rate_and_nothing_below() -> None:
    time = np.arange(1250) / 125
    slow, fast = np.sin(2 * np.pi * 11 * time), np.sin(2 * np.pi * 47 * time)
    cohort = ecg(np.array([[slow + fast, slow], [fast, 0 * time]]), 125.0, ("a", "b"))
    found, _ = shifted(cohort, sampling_rate={"hz": 80})
    inner = slice(100, -100)
    np.testing.assert_allclose(found.x[0][:, inner], np.array([slow, slow])[:, inner], atol=0.02)
    np.testing.assert_allclose(found.x[1][:, inner], 0, atol=0.02)
    truth = signal.resample_poly(signal.resample_poly(slow + fast, 16, 25), 25, 16)
    np.testing.assert_allclose(found.x[0, 0, inner], truth[inner], atol=0.05)
    with pytest.raises(ConfigError, match=r"sampling_rate: 125 Hz is not below the 125 Hz of the data"):
        shifted(cohort, sampling_rate={"hz": 125})


def test_a_coarse_converter_gives_its_steps_and_clips() -> None:
    rng = np.random.default_rng(4)
    cohort = ecg(rng.normal(0, 1.5, (5, 2, 400)), names=("a", "b"))
    found, notes = shifted(cohort, resolution={"bits": 5, "range_mv": 8.0})
    step = 8 / 32
    code = found.x / step
    np.testing.assert_allclose(code, np.rint(code), atol=1e-5)
    assert code.min() == -16
    assert code.max() == 15
    inside = np.abs(cohort.x) < 3.8
    assert np.abs(found.x - cohort.x)[inside].max() <= step / 2 + 1e-6
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
    found, _ = shifted(cohort, wander={"mv": 0.4}, emg={"mv": 0.05}, gain={"factor": 3.0})
    assert (found.x != cohort.x).any((1, 2)).all()
    assert (found.x[:, 0][~valid] == 0).all()
    for i, n in enumerate(length):
        assert found.x[i, 0, :n].min() == 0
        assert found.x[i, 0, :n].max() == 1
    alone, _ = shifted(cohort, gain={"factor": 3.0})
    np.testing.assert_allclose(alone.x, cohort.x, atol=1e-6)


@pytest.mark.parametrize("name", SIGNAL_OPTIONS)
def test_data_without_an_ecg_take_no_option_of_signals(name: str) -> None:
    for cohort in (chart(6), hours()[0]):
        with pytest.raises(ConfigError, match=rf"shift\.north\.{name}: needs an ECG, and chart is none"):
            shifted(cohort, **{name: SIGNAL_OPTIONS[name]})


# -- labels -----------------------------------------------------------------------------------------------------------


def many(n: int = 6000, each: int = 3, **more: Any) -> Cohort:
    cohort = ecg(np.zeros((n, 1, 1)), names=("a",), each=each)
    return replace(cohort, **more)


@pytest.mark.parametrize("where", ["train", "test", "all"])
def test_the_wanted_share_of_labels_is_wrong_and_evenly_so(where: str) -> None:
    cohort = many()
    found, notes = shifted(cohort, label_noise={"probability": 0.15, "where": where})
    test = cohort.split == SPLITS.index("test")
    side = {"train": ~test, "test": test, "all": test | True}[where]
    wrong = found.y != cohort.y
    assert not wrong[~side].any()
    assert stats.binomtest(int(wrong.sum()), int(side.sum()), 0.15).pvalue > 0.001
    assert stats.chisquare(np.bincount((found.y - cohort.y)[wrong] % 3, minlength=3)[1:]).pvalue > 0.001
    assert notes["label_noise"].startswith(f"labels of {wrong.sum()} of {side.sum()} examples changed")
    assert (found.x == cohort.x).all()


def test_training_labels_alone_are_wrong_if_nothing_is_said() -> None:
    cohort = many()
    found, _ = shifted(cohort, label_noise={"probability": 1.0})
    np.testing.assert_array_equal(found.y != cohort.y, cohort.split != SPLITS.index("test"))


def test_wrong_labels_of_one_class_and_of_whole_recordings() -> None:
    cohort = many()
    to, _ = shifted(cohort, label_noise={"probability": 0.3, "to": "V", "where": "all"})
    wrong = to.y != cohort.y
    assert (to.y[wrong] == 2).all()
    assert stats.binomtest(int(wrong.sum()), int((cohort.y != 2).sum()), 0.3).pvalue > 0.001
    whole, _ = shifted(cohort, label_noise={"probability": 0.3, "by": "patient", "where": "all"})
    moves = ((whole.y - cohort.y) % 3).reshape(-1, 3)
    assert (moves == moves[:, :1]).all()
    assert stats.binomtest(int((moves[:, 0] > 0).sum()), len(moves), 0.3).pvalue > 0.001
    with pytest.raises(ConfigError, match=r"label_noise\.to: no class 'X': the classes are N, S, V"):
        shifted(cohort, label_noise={"probability": 0.3, "to": "X"})


def test_labels_that_stand_side_by_side_are_turned_one_by_one() -> None:
    rng = np.random.default_rng(8)
    cohort = many(3000)
    y = rng.integers(0, 2, (3000, 3))
    cohort = replace(cohort, task=replace(cohort.task, kind="multilabel"), y=y)
    found, _ = shifted(cohort, label_noise={"probability": 0.1, "where": "all"})
    for column in (found.y != y).T:
        assert stats.binomtest(int(column.sum()), 3000, 0.1).pvalue > 0.001
    to, _ = shifted(cohort, label_noise={"probability": 0.5, "to": "S", "where": "all"})
    np.testing.assert_array_equal(to.y[:, [0, 2]], y[:, [0, 2]])
    assert (to.y[:, 1] >= y[:, 1]).all()
    assert stats.binomtest(int((to.y != y).sum()), int((y[:, 1] == 0).sum()), 0.5).pvalue > 0.001


def test_an_early_warning_is_tested_on_true_labels_alone() -> None:
    cohort = many(30)
    task = replace(cohort.task, classes=("0", "1"), class_titles=("0", "1"), utility=True)
    cohort = replace(cohort, task=task, y=cohort.y % 2, utility=np.zeros((30, 2), np.float32))
    with pytest.raises(ConfigError, match=r"label_noise\.where: use train"):
        shifted(cohort, label_noise={"probability": 0.1, "where": "all"})
    assert (shifted(cohort, label_noise={"probability": 1.0})[0].y != cohort.y).any()


# -- people -----------------------------------------------------------------------------------------------------------


def left(a: int, b: int, share: float, unknown: int = 0, seed: int = 0) -> tuple[int, int, int]:
    """How many of `a` marked, `b` others and some unknown people stay."""
    marks = np.repeat([1, 0, -1], (a, b, unknown))[:, None]
    stays = people.draw_remaining(marks, [share], np.random.default_rng(seed))
    return tuple(int((marks[stays, 0] == mark).sum()) for mark in (1, 0, -1))  # type: ignore[return-value]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.floats(0, 1), st.integers(0, 9))
def test_the_fewest_are_left_out_that_bring_the_share(a: int, b: int, share: float, unknown: int) -> None:
    x, y, z = left(a, b, share, unknown)
    assert z == unknown
    assert x == a or y == b  # one group alone is thinned
    if (x, y) == (a, b):
        return
    # of all numbers that the thinned group could have, this one misses the wanted odds by half a person at most
    if x == a and share > 0:
        assert abs(y - a * (1 - share) / share) <= 0.5 + 1e-6
    if y == b and share < 1:
        assert abs(x - b * share / (1 - share)) <= 0.5 + 1e-6
    assert x > 0 or share == 0
    assert y > 0 or share == 1


def test_whom_to_leave_out_by_hand() -> None:
    assert left(10, 30, 0.5) == (10, 10, 0)
    assert left(30, 10, 0.25, unknown=3) == (3, 10, 3)
    assert left(10, 30, 0.25) == (10, 30, 0)
    assert left(10, 30, 1.0) == (10, 0, 0)
    assert left(10, 30, 0.0) == (0, 30, 0)
    assert left(0, 30, 0.5) == (0, 30, 0)  # nobody has it: nobody goes
    assert left(5, 3, 0.05) == (5, 3, 0)  # the nearest share would leave nobody who has it
    assert left(0, 0, 0.5, unknown=4) == (0, 0, 4)


def test_shares_that_are_asked_together_hold_together() -> None:
    cohort = crowd(900)
    mixes = {"age_mix": {"older": 0.6}, "sex_mix": {"women": 0.5}, "prevalence": {"share": 0.3, "class_name": "V"}}
    found, notes = shifted(cohort, **mixes)
    for of, wanted in (("older", 0.6), ("women", 0.5), ("V", 0.3)):
        for yes, no, _ in shares(found, of):
            assert yes / (yes + no) == pytest.approx(wanted, abs=4 / (yes + no))
    gone = cohort.people() - found.people()
    assert found.excluded == {"people left out by shift: age_mix, sex_mix, prevalence": gone}
    assert list(notes) == ["age_mix", "sex_mix", "prevalence"]
    assert found.people() > 150


def crowd(n: int = 400) -> Cohort:
    """People of two recordings of three examples; a fifth has V in one of them; ages 20 to 99, some unknown."""
    rng = np.random.default_rng(9)
    cohort = ecg(np.arange(n * 6).reshape(-1, 1, 1), names=("a",), each=3)
    persons = tuple(f"p{i // 2:03d}" for i in range(2 * n))
    y = np.zeros(n * 6, np.int64)
    y[np.arange(0, n * 6, 6)[rng.random(n) < 0.2] + 4] = 2
    age = np.repeat(rng.integers(20, 100, n).astype(np.float32), 2)
    age[rng.choice(n, n // 10, replace=False) * 2] = np.nan
    age[:20] = np.nan
    sex = np.repeat(rng.choice([0, 1, 1], n), 2).astype(np.int8)
    sex[20:40] = -1
    split = np.repeat(np.arange(n) % 3, 6).astype(np.int8)
    return replace(cohort, persons=persons, y=y, age=age, sex=sex, split=split)


def shares(cohort: Cohort, of: str) -> list[tuple[int, int, int]]:
    """For each split: people who are marked, who are not, and who are unknown, counted one by one."""
    found = []
    for code in range(3):
        marks: dict[str, float] = {}
        for row in np.flatnonzero(cohort.split == code):
            which = cohort.patient[row]
            who = cohort.persons[which]
            if of == "V":
                marks[who] = max(marks.get(who, 0), float(cohort.y[row] == 2))
            elif of == "older":
                mine = [cohort.age[i] for i, name in enumerate(cohort.persons) if name == who]
                known = [one for one in mine if not np.isnan(one)]
                marks[who] = float(max(known) >= 65) if known else -1
            else:
                marks[who] = {0: 1.0, 1: 0.0, -1: -1.0}[int(cohort.sex[which])]
        values = list(marks.values())
        found.append((values.count(1.0), values.count(0.0), values.count(-1.0)))
    return found


@pytest.mark.parametrize(
    ("option", "of", "wanted"),
    [
        ({"prevalence": {"share": 0.5, "class_name": "V"}}, "V", 0.5),
        ({"prevalence": {"share": 0.05, "class_name": "V"}}, "V", 0.05),
        ({"age_mix": {"older": 0.8}}, "older", 0.8),
        ({"sex_mix": {"women": 0.6}}, "women", 0.6),
    ],
)
def test_people_are_left_out_whole_until_the_share_is_as_wanted(option: dict[str, Any], of: str, wanted: float) -> None:
    cohort = crowd()
    before = shares(cohort, of)
    found, notes = shifted(cohort, **option)
    after = shares(found, of)
    (name,) = option
    for (yes, no, unknown), (had, had_not, had_unknown) in zip(after, before, strict=True):
        assert abs(yes / (yes + no) - wanted) <= 0.5 / min(yes, no) + 1e-9
        assert yes == had or no == had_not
        assert unknown == had_unknown
    kept = {found.persons[i] for i in found.patient}
    for who in kept:  # all of a person stays, bit by bit
        rows = [i for i in range(len(cohort.y)) if cohort.persons[cohort.patient[i]] == who][:6]
        assert np.isin(cohort.x[rows, 0, 0], found.x[:, 0, 0]).all()
    gone = cohort.people() - len(kept)
    assert found.excluded == {f"people left out by shift: {name}": gone}
    assert notes[name].endswith(f"; {gone} people left out in all")
    assert f"train {after[0][0]} of {after[0][0] + after[0][1]}, validation" in notes[name]


def test_shares_of_what_hangs_together_hold_together_too() -> None:
    rng = np.random.default_rng(12)
    older = rng.random(3000) < 0.4
    event = rng.random(3000) < np.where(older, 0.7, 0.1)
    marks = np.stack([older, event], axis=1).astype(np.int64)
    stays = people.draw_remaining(marks, [0.2, 0.5], np.random.default_rng(0))
    np.testing.assert_allclose(marks[stays].mean(0), [0.2, 0.5], atol=2 / stays.sum())
    kinds = [(marks == kind).all(1) for kind in ((0, 0), (0, 1), (1, 0), (1, 1))]
    kept = np.array([stays[kind].mean() for kind in kinds])
    assert kept.max() == 1  # as many as can stay
    odds = [
        (marks[rows] == (1, 1)).all(1).sum() / (marks[rows] == (1, 0)).all(1).sum() for rows in (stays, stays | True)
    ]
    odds_young = [(marks[r] == (0, 1)).all(1).sum() / (marks[r] == (0, 0)).all(1).sum() for r in (stays, stays | True)]
    # raking keeps the odds ratio: how the two hang together
    assert odds[0] / odds_young[0] == pytest.approx(odds[1] / odds_young[1], rel=0.05)


def test_who_stands_on_both_sides_of_a_leaky_split_is_left_out_of_one() -> None:
    cohort = crowd().with_split((np.arange(2400) % 3).astype(np.int8))
    found, _ = shifted(cohort, sex_mix={"women": 0.6, "where": "test"})
    for name in ("train", "validation"):
        np.testing.assert_array_equal(found.part(name).x, cohort.part(name).x)
    assert found.part("test").people() < cohort.part("test").people()


def test_one_side_of_the_split_alone() -> None:
    cohort = crowd()
    found, notes = shifted(cohort, prevalence={"share": 0.6, "class_name": "V", "where": "test"})
    before, after = shares(cohort, "V"), shares(found, "V")
    assert after[:2] == before[:2]
    assert after[2] != before[2]
    assert "train" not in notes["prevalence"]
    assert [cohort.part("train").people(), found.part("train").people()] == [134, 134]


def test_what_the_data_do_not_know_is_named() -> None:
    cohort = crowd()
    with pytest.raises(ConfigError, match=r"shift\.north\.age_mix: ecg has no ages"):
        shifted(replace(cohort, age=None), age_mix={"older": 0.5})
    with pytest.raises(ConfigError, match="sex_mix: ecg has no sexes"):
        shifted(replace(cohort, sex=None), sex_mix={"women": 0.5})
    with pytest.raises(ConfigError, match="prevalence: set `class_name` to one of the classes: N, S, V"):
        shifted(cohort, prevalence={"share": 0.5})


# -- tables -----------------------------------------------------------------------------------------------------------

COLUMNS = (
    "chol",
    "chol measured",
    "age",
    "ph points",
    "ph measured",
    "HR",
    "HR change",
    "HR times in 24 h",
    "male",
    "cp=1",
    "cp=2",
    "log bun",
    "bun measured",
)


def chart(n: int = 3000, each: int = 2) -> Cohort:
    """An EHR: chol and ph are missing in places, and say so."""
    rng = np.random.default_rng(10)
    task = Task("chart", "multiclass", ("0", "1"), ("0", "1"), 0, 0, 0.0, COLUMNS, (), units=True, missing=True)
    values = rng.normal(5, 1, (n, len(COLUMNS))).astype(np.float32)
    for column, flag in ((0, 1), (3, 4)):
        values[:, flag] = rng.random(n) < 0.7
        values[values[:, flag] == 0, column] = np.nan
    values[:, 7] = rng.integers(0, 5, n)
    values[:, 9:11] = rng.integers(0, 3, n)[:, None] == (1, 2)
    values[:, 12] = 1
    owner = np.arange(n) // each
    names = tuple(f"s{i}" for i in range(n // each))
    split = (owner % 3).astype(np.int8)
    return Cohort(task, np.zeros((n, 0, 0), np.float32), values, np.arange(n) % 2, owner, names, names, split)


def test_variables_are_columns_that_belong_together() -> None:
    found = {name: (v.features, v.feature_flags, v.categories) for name, v in tables.table_variables(chart()).items()}
    assert found == {
        "chol": ([0], [1], []),
        "age": ([2], [], []),
        "ph": ([3], [4], []),
        "HR": ([5, 6], [7], []),
        "male": ([8], [], []),
        "cp": ([], [], [9, 10]),
        "bun": ([11], [12], []),
    }


@pytest.mark.parametrize("where", ["all", "train", "test"])
def test_values_go_missing_at_random_and_their_indicators_say_so(where: str) -> None:
    cohort = chart()
    options = {"probability": 0.25, "features": ["chol", "p*", "HR", "cp"], "where": where}
    found, notes = shifted(cohort, missingness=options)
    old, new = cohort.features, found.features
    test = cohort.split == SPLITS.index("test")
    side = {"train": ~test, "test": test, "all": test | True}[where]
    np.testing.assert_array_equal(new[~side], old[~side])
    np.testing.assert_array_equal(new[:, [2, 8]], old[:, [2, 8]])
    lost = np.isnan(new) & ~np.isnan(old)
    for column, flag in ((0, 1), (3, 4)):
        np.testing.assert_array_equal(np.isnan(new[:, column]), new[:, flag] == 0)
        able = side & ~np.isnan(old[:, column])
        assert stats.binomtest(int(lost[:, column].sum()), int(able.sum()), 0.25).pvalue > 0.001
    np.testing.assert_array_equal(lost[:, 5], lost[:, 6])
    assert (new[lost[:, 5], 7] == 0).all()
    np.testing.assert_array_equal(new[~lost[:, 5], 7], old[~lost[:, 5], 7])
    assert abs(np.corrcoef(lost[side][:, 0], lost[side][:, 5])[0, 1]) < 0.1
    had, has = old[:, 9:11].any(1), new[:, 9:11].any(1)
    assert stats.binomtest(int((had & ~has).sum()), int((had & side).sum()), 0.25).pvalue > 0.001
    np.testing.assert_array_equal(new[has, 9:11], old[has, 9:11])
    same = np.isnan(old) | lost | np.isin(np.arange(13), (1, 4, 7, 9, 10))
    np.testing.assert_array_equal(new[~same], old[~same])
    before = int(np.isfinite(old[side][:, [0, 3, 5, 6]]).sum() + had[side].sum())
    gone = int(lost.sum() + (had & ~has).sum())
    assert notes["missingness"].startswith(f"{gone} of {before} measured values of 4 variables taken away")


def test_a_recording_lacks_a_variable_wholly_and_a_panel_goes_together() -> None:
    cohort = chart(each=3)
    found, _ = shifted(cohort, missingness={"probability": 0.4, "by": "patient"})
    gone = np.isnan(found.features[:, [2, 5, 8]]).reshape(-1, 3, 3)
    assert (gone == gone[:, :1]).all()
    for column in gone[:, 0].T:
        assert stats.binomtest(int(column.sum()), len(column), 0.4).pvalue > 0.001
    panel, _ = shifted(cohort, missingness={"probability": 0.4, "features": ["age", "male"], "together": True})
    np.testing.assert_array_equal(np.isnan(panel.features[:, 2]), np.isnan(panel.features[:, 8]))
    assert 0.3 < np.isnan(panel.features[:, 2]).mean() < 0.5


def hours(dense: bool = False) -> tuple[Cohort, Cohort]:
    """Patients of 1 to 9 hours, each hour a window of four; with the same windows as a dense array."""
    rng = np.random.default_rng(11)
    lengths = rng.integers(1, 10, 200)
    ends = np.cumsum(lengths)
    rows = rng.normal(80, 5, (ends[-1] + 7, 2)).astype(np.float32)  # the last hours are nobody's here
    rows[:, 1] = 1
    first = np.repeat(ends - lengths, lengths)
    x = Windows(rows, np.arange(ends[-1]), first, 4)
    owner = np.repeat(np.arange(200), lengths)
    names = tuple(f"s{i}" for i in range(200))
    task = Task("chart", "multiclass", ("0", "1"), ("0", "1"), 2, 4, 1 / 3600, (), ("HR", "HR measured"), True, True)
    n, features = len(owner), np.zeros((len(owner), 0), np.float32)
    split = (owner % 3).astype(np.int8)
    cohort = Cohort(task, x, features, np.arange(n) % 2, owner, names, names, split)
    return cohort, replace(cohort, x=x.dense())


@pytest.mark.parametrize("where", ["all", "test"])
def test_hours_go_missing_once_for_all_windows_over_them(where: str) -> None:
    cohort, _ = hours()
    before = cohort.x.rows.copy()
    found, notes = shifted(cohort, missingness={"probability": 0.3, "where": where})
    np.testing.assert_array_equal(cohort.x.rows, before)
    rows = found.x.rows
    mine = np.append(np.isin(cohort.split, (2,) if where == "test" else (0, 1, 2)), np.zeros(7, bool))
    np.testing.assert_array_equal(rows[~mine], before[~mine])
    gone = np.isnan(rows[mine, 0])
    assert stats.binomtest(int(gone.sum()), int(mine.sum()), 0.3).pvalue > 0.001
    np.testing.assert_array_equal(rows[mine, 1], 1 - gone)
    assert notes["missingness"].startswith(f"{gone.sum()} of {mine.sum()} measured values of HR")
    whole, _ = shifted(cohort, missingness={"probability": 0.3, "by": "patient"})
    lost = [np.isnan(whole.x.rows[:-7][cohort.patient == p, 0]) for p in range(200)]
    assert {one.all() for one in lost} == {True, False}
    assert all(one.all() or not one.any() for one in lost)


def test_hours_in_a_dense_array_go_missing_too() -> None:
    _, cohort = hours()
    found, _ = shifted(cohort, missingness={"probability": 0.3})
    old, new = cohort.x, found.x
    lost = np.isnan(new[:, 0]) & ~np.isnan(old[:, 0])
    assert 0.25 < lost.sum() / (~np.isnan(old[:, 0])).sum() < 0.35
    assert (new[:, 1][lost] == 0).all()
    np.testing.assert_array_equal(new[:, 0][~lost], old[:, 0][~lost])


def test_missingness_that_does_not_fit_is_named() -> None:
    full = chart()
    full = replace(full, task=replace(full.task, missing=False), features=np.nan_to_num(full.features))
    with pytest.raises(ConfigError, match=r"missingness: chart does not allow missing values"):
        shifted(full, missingness={"probability": 0.1})
    with pytest.raises(ConfigError, match=r"missingness\.features: no variable 'cholesterol' \(did you mean chol\?\)"):
        shifted(chart(), missingness={"probability": 0.1, "features": ["cholesterol"]})
    cohort, _ = hours()
    leaky = cohort.with_split((np.arange(len(cohort.y)) % 3).astype(np.int8))
    with pytest.raises(ConfigError, match=r"missingness\.where: use all"):
        shifted(leaky, missingness={"probability": 0.1, "where": "train"})


def test_a_laboratory_reads_on_another_line() -> None:
    cohort = chart()
    scales = {"chol": {"gain": 1.1, "offset": -0.5}, "age": {"offset": 2.0}}
    found, notes = shifted(cohort, calibration={"features": scales, "where": "test"})
    wanted = cohort.features.copy()
    test = cohort.split == 2
    wanted[test, 0] = wanted[test, 0] * 1.1 - 0.5
    wanted[test, 2] += 2
    np.testing.assert_allclose(found.features, wanted, rtol=1e-6)
    assert notes["calibration"].startswith("chol x 1.1 -0.5, age x 1 +2")
    windows, _ = hours()
    moved, _ = shifted(windows, calibration={"features": {"HR": {"gain": 0.5}}})
    np.testing.assert_allclose(moved.x.rows[:-7, 0], windows.x.rows[:-7, 0] / 2, rtol=1e-6)
    np.testing.assert_array_equal(moved.x.rows[-7:], windows.x.rows[-7:])
    with pytest.raises(ConfigError, match=r"calibration\.features: no variable 'chool' \(did you mean chol\?\)"):
        shifted(cohort, calibration={"features": {"chool": {}}})


# -- sites ------------------------------------------------------------------------------------------------------------


def test_a_site_has_the_options_of_all_and_its_own_before_them() -> None:
    run = config.parse_config(
        {"shift": {"*": {"hum": {"mv": 0.1}, "gain": {"factor": 2.0}}, "south": {"hum": {"mv": 0.3, "mains": 60}}}}
    )
    run = config.config_from_json(config.config_to_json(run))
    north, south = (shift.site_options(run, site) for site in ("north", "south"))
    assert north == asked(hum={"mv": 0.1}, gain={"factor": 2.0})
    assert south == asked(hum={"mv": 0.3, "mains": 60}, gain={"factor": 2.0})
    shift.check_sites(run, ["north", "south"])
    with pytest.raises(ConfigError, match=r"shift\.south: this run has no such hospital \(did you mean mouth\?\)"):
        shift.check_sites(run, ["north", "mouth"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"north": {"hmu": {}}}, r"unknown key shift\.north\.hmu \(did you mean hum\?\)"),
        ({"north": {"hum": {"mw": 1.0}}}, r"shift\.north\.hum\.mv: Field required; unknown key .*did you mean mv"),
        ({"north": {"emg": {"mv": -1}}}, r"shift\.north\.emg\.mv: Input should be greater"),
        ({"north": {"signal": {"band": [40, 0.5]}}}, r"shift\.north\.signal: band: give the lower and the upper edge"),
        ({"a": {"calibration": {"features": {"x": {"gian": 1}}}}}, r"features\.x\.gian \(did you mean gain\?\)"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.parse_config({"shift": given})


def test_real_sites_are_never_shifted(hospitals: Path) -> None:
    with pytest.raises(ConfigError, match="shift is for simulations only"):
        config.parse_config({"shift": {"*": {}}, "federation": {"engine": "federation"}})
    run = config.parse_config({"data": {"path": str(hospitals)}, "shift": {"*": {"gain": {"factor": 2.0}}}})
    with pytest.raises(SiteError, match="a real hospital's data stay as they are"):
        load_site(SiteContext(SitePolicy(), site="north", data=hospitals / "north"), run)


def test_a_simulated_site_is_shifted_after_its_split_and_says_so(hospitals: Path) -> None:
    raw = {"data": {"path": str(hospitals)}, "sites": {"validation": 0.5}}
    plain = config.parse_config(raw)
    run = config.parse_config(raw | {"shift": {"south": {"hum": {"mv": 0.2}, "label_noise": {"probability": 0.5}}}})
    north, south = (SiteContext(SIMULATION_POLICY, index=i, count=2) for i in range(2))
    assert synthetic.CARD.synthetic
    for split in SPLITS:
        was, now = (getattr(load_site(north, it), split) for it in (plain, run))
        np.testing.assert_array_equal(was.x, now.x)
        np.testing.assert_array_equal(was.y, now.y)
        was, now = (getattr(load_site(south, it), split) for it in (plain, run))
        np.testing.assert_array_equal(was.patient, now.patient)
        assert (was.x != now.x).any()
        assert (was.y != now.y).any() == (split != "test")
    said = [work.handle(place, build_request("handshake", run)).report.to_dict()["shift"] for place in (north, south)]
    assert said[0] == {}
    assert list(said[1]) == ["label_noise", "hum"]
    assert said[1]["hum"].startswith("0.2 mV at 50 Hz")
