"""Hand-crafted features against waves whose sizes are known and against plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import pywt
from scipy.special import eval_hermite
from scipy.stats import maxwell

from common.errors import DataError
from common.task import Task
from sites.cohort import Cohort, Windows
from sites.datasets import mitdb
from sites.ecg import beats, r_peaks
from sites.ecg import features as ecg
from sites.ecg.beat_reader import Options

LIMBS = {"I": 0, "II": 60, "III": 120}
STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def task(leads: Sequence[str], samples: int, rate: float = 125.0) -> Task:
    return Task("t", "multiclass", ("a", "b"), ("", ""), len(leads), samples, rate, (), tuple(leads))


def cohort(
    x: np.ndarray, patient: Sequence[int] | None = None, rate: float = 125.0, leads: Sequence[str] = ()
) -> Cohort:
    n = len(x)
    owner = np.zeros(n, np.int64) if patient is None else np.asarray(patient, np.int64)
    names = tuple(str(i) for i in range(owner.max() + 1))
    what = task(leads or [f"lead {i + 1}" for i in range(x.shape[1])], x.shape[2], rate)
    none = np.zeros((n, 0), np.float32)
    return Cohort(what, x.astype(np.float32), none, np.zeros(n, np.int64), owner, names, names, np.full(n, -1, np.int8))


def wave(seconds: np.ndarray, *bumps: tuple[float, float, float]) -> np.ndarray:
    """Return a sum of Gaussians: (height, centre, width), in mV and s."""
    return sum((h * np.exp(-((seconds - c) ** 2) / (2 * w**2)) for h, c, w in bumps), np.zeros_like(seconds))


def columns(result: np.ndarray, what: Task) -> dict[str, np.ndarray]:
    names = ecg.feature_names(what)
    assert result.shape[1] == len(names) == len(set(names))
    assert result.dtype == np.float32
    return dict(zip(names, result.T, strict=True))


TIME = (np.arange(96) - 36) / 125
HEART = ((0.15, -0.16, 0.02), (-0.1, -0.032, 0.008), (1.0, 0.0, 0.010), (-0.25, 0.032, 0.008), (0.3, 0.28, 0.04))


def test_the_waves_of_a_beat_are_measured() -> None:
    level = np.where(TIME > 0.05, 0.08, 0.0)  # a raised ST segment
    x = np.stack([wave(TIME, *HEART) + 5, 5 + level, -2 * wave(TIME, *HEART)])[None]
    result = {name: float(value[0]) for name, value in columns(ecg.feature_table(cohort(x)), cohort(x).task).items()}
    about = {"r": 1.0, "q": -0.1, "s": -0.25, "t": 0.3, "t_time": 2.8, "p": 0.15, "st": 0.0}
    for name, value in about.items():
        assert result[f"lead 1 {name}"] == pytest.approx(value, abs=0.02), name
    assert result["lead 2 st"] == pytest.approx(0.08, abs=1e-4)
    assert result["lead 3 t"] == pytest.approx(-0.6, abs=0.02)
    assert result["lead 3 q"] == pytest.approx(-2.0, abs=0.02)  # a QRS that points down has no R
    for same in ("qrs_width", "t_time", "band_0", "band_3"):
        assert result[f"lead 3 {same}"] == pytest.approx(result[f"lead 1 {same}"], rel=1e-4)
    for twice in ("qrs_area", "t", "hermite_0", "hermite_3"):
        assert result[f"lead 3 {twice}"] == pytest.approx(-2 * result[f"lead 1 {twice}"], rel=1e-4)
    assert result["lead 3 fall"] == pytest.approx(-2 * result["lead 1 rise"], rel=1e-4)


def plain(signal: np.ndarray, before: int, rate: float) -> list[float]:
    """Return SHAPE without the width, sample by sample."""

    def part(first: float, last: float) -> list[int]:
        return [i for i in range(len(signal)) if round(first * rate / 1000) <= i - before <= round(last * rate / 1000)]

    level = sum(float(signal[i]) for i in part(-96, -56)) / len(part(-96, -56))
    y = [float(value) - level for value in signal]
    top = max(part(160, 440), key=lambda i: abs(y[i]))
    qrs = part(-120, 160)
    slopes = [(y[j] - y[i]) * rate / 10 for i, j in itertools.pairwise(qrs)]
    return [
        max(y[i] for i in part(-60, 60)),
        min(y[i] for i in part(-60, 0)),
        min(y[i] for i in part(0, 80)),
        y[top],
        (top - before) / rate * 10,
        max(y[i] for i in part(-240, -96)),
        sum(y[i] for i in part(80, 120)) / len(part(80, 120)),
        sum(y[i] for i in qrs) / rate * 10,
        sum(abs(y[i]) for i in qrs) / rate * 10,
        max(slopes),
        min(slopes),
    ]


@pytest.mark.parametrize("rate", [100.0, 125.0, 500.0])
def test_all_beats_at_once_are_as_one_by_one(rate: float) -> None:
    rng = np.random.default_rng(1)
    before, length = round(0.288 * rate), round(0.768 * rate)
    x = rng.normal(size=(7, 2, length)).astype(np.float32)
    result = ecg._beat(x, before, rate)
    narrow = [i for i, name in enumerate(ecg.SHAPE) if name != "qrs_width"]
    wanted = [[plain(lead, before, rate) for lead in beat] for beat in x]
    np.testing.assert_allclose(result[..., narrow], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.012, 0.02, 0.03])
def test_the_width_of_a_bell_is_known(sigma: float) -> None:
    # The slope's energy of exp(-t2 / 2s2) goes as t2 exp(-t2 / s2): on each side a Maxwell distribution of scale
    # s / sqrt 2, so nine tenths of both sides lie within its 0.9 quantile.
    rate = 1000.0
    x = wave((np.arange(768) - 288) / rate, (1.0, 0.0, sigma))[None, None].astype(np.float32)
    result = ecg._beat(x, 288, rate)[0, 0, ecg.SHAPE.index("qrs_width")]
    assert result == pytest.approx(2 * maxwell(scale=sigma / math.sqrt(2)).ppf(0.9) * 10, abs=0.005)


def test_widths_are_between_samples() -> None:
    # All energy in samples 2 and 3, one half each: 5 % and 95 % lie 0.1 inside the two ends.
    energy = np.array([[0, 0, 1.0, 1, 0], [0, 0, 0, 0, 0], [4, 0, 0, 0, 0]])
    assert ecg._width(energy).tolist() == [pytest.approx(1.8), pytest.approx(math.nan, nan_ok=True), pytest.approx(0.9)]


def test_hermite_functions_are_those_of_scipy() -> None:
    time = (np.arange(96) - 36) / 125
    t = time / ecg.SIGMA
    for n, result in enumerate(ecg._hermite(time)):
        size = math.sqrt(2.0**n * math.factorial(n) * math.sqrt(math.pi))
        wanted = eval_hermite(n, t) * np.exp(-(t**2) / 2) / size * math.sqrt(1 / 125 / ecg.SIGMA)
        np.testing.assert_allclose(result, wanted, atol=1e-6)
    fine = ecg._hermite((np.arange(1001) - 500) / 1000)
    np.testing.assert_allclose(fine @ fine.T, np.eye(ecg.HERMITE), atol=1e-5)


@pytest.mark.parametrize(("rate", "level"), [(100.0, 4), (125.0, 4), (250.0, 5), (500.0, 6), (1000.0, 7)])
def test_bands_part_the_energy_by_frequency(rate: float, level: int) -> None:
    assert ecg._level(rate) == level
    time = np.arange(round(1.024 * rate)) / rate
    slow, fast = (np.sin(2 * np.pi * hertz * time) for hertz in (1.5, 0.4 * rate))
    share = np.exp(ecg._bands(np.stack([slow, fast]).astype(np.float32), level)) - 1e-4
    np.testing.assert_allclose(share.sum(1), 1, atol=1e-4)
    assert share[0, 0] > 0.9
    assert share[1, -1] > 0.9
    parts = [part @ part for part in pywt.wavedec(fast - fast.mean(), "db2", "periodization", level)]
    np.testing.assert_allclose(share[1], np.array(parts) / sum(parts), atol=1e-4)


def test_a_beat_is_held_against_its_patient_s_median_beat() -> None:
    rng = np.random.default_rng(2)
    owner = np.array([0, 1, 2, 2, 0, 0, 1, 0, 0, 0, 1, 1, 1])
    x = (np.sin(np.arange(96) / 7) + 0.4 * rng.normal(size=(13, 2, 96))).astype(np.float32)
    result = columns(ecg.feature_table(cohort(x, owner)), cohort(x).task)
    for i in range(13):
        mine = x[owner == owner[i]]
        for lead in (0, 1):
            z, difference = (result[f"lead {lead + 1} {name}"][i] for name in ecg.RELATION)
            if owner[i] == 2:  # two beats alone
                assert np.isnan([z, difference]).all()
                continue
            usual = np.median(mine[:, lead], axis=0)
            a, b = x[i, lead] - x[i, lead].mean(), usual - usual.mean()
            assert math.tanh(z) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-5)
            assert difference == pytest.approx(math.log(((a - b) ** 2).sum() / (b**2).sum() + 1e-3), rel=1e-4)
    assert not any(np.isnan(value[owner != 2]).any() for value in result.values())


def test_a_view_of_the_same_lead_is_not_described_twice() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 2, 96))
    both = cohort(x, leads=("lead 1", "lead 1 minus median beat"))
    alone = cohort(x[:, :1], leads=("lead 1",))
    assert ecg.feature_names(both.task) == ecg.feature_names(alone.task)
    assert np.array_equal(ecg.feature_table(both), ecg.feature_table(alone))


def test_a_kachuee_beat_is_read_around_the_r_peak() -> None:
    ramp = np.zeros((2, 1, 187), np.float32)
    ramp[0, 0, :120] = np.arange(1, 121)  # typical RR: 120 / 1.2 = 100 samples
    ramp[1, 0, :36] = np.arange(1, 37)  # 30 samples: so short that there is no room before
    window, rr = ecg._window(ramp, "kachuee")
    assert window[0, 0].tolist() == [*range(65, 101), *range(1, 61)]
    assert window[1, 0].tolist() == [1] * 6 + [*range(1, 31)] + [*range(1, 37)] + [0] * 24
    np.testing.assert_allclose(rr[:, 0], np.log([0.8, 0.24]), rtol=1e-6)


def test_both_views_of_one_signal_agree() -> None:
    # 20 equal beats 0.8 s apart: the kachuee view scales them to [0, 1], and that is all.
    time = np.arange(20 * 100) / 125
    signal = sum(wave(time, *((h, c + 0.4 + 0.8 * k, w) for h, c, w in HEART)) for k in range(20))
    position = 50 + 100 * np.arange(2, 17)
    x = signal[:, None].astype(np.float32)
    window = cohort(beats._windows(x, position)[0])
    kachuee = cohort(beats._kachuee(x, position)[0])
    one, other = columns(ecg.feature_table(window), window.task), columns(ecg.feature_table(kachuee), kachuee.task)
    scale = np.ptp(signal)
    assert set(other) - set(one) == {"rr"}
    np.testing.assert_allclose(other["rr"], math.log(0.8), rtol=1e-6)
    for name in ("r", "q", "s", "t", "p", "st", "qrs_area", "hermite_2", "rise"):
        np.testing.assert_allclose(other[f"lead 1 {name}"] * scale, one[f"lead 1 {name}"], atol=2e-3)
    for name in ("t_time", "qrs_width", "band_2"):
        np.testing.assert_allclose(other[f"lead 1 {name}"], one[f"lead 1 {name}"], rtol=1e-3)


def test_blocks_change_nothing() -> None:
    x = np.random.default_rng(4).normal(size=(11, 1, 96))
    owner = [0] * 6 + [1] * 5
    assert np.array_equal(ecg.feature_table(cohort(x, owner), block=3), ecg.feature_table(cohort(x, owner)))


def strip(angle: float, rate: float, period: float, extra: Sequence[float] = (), seconds: float = 10) -> np.ndarray:
    """Return 12 leads of a dipole at an angle in the frontal plane that beats from 0.5 s on; chest leads as upright."""
    time = np.arange(round(seconds * rate)) / rate
    at = [0.5 + period * k for k in range(int((seconds - 0.5) / period) + 1)]
    one = sum(wave(time, *((h, c + t, w) for h, c, w in HEART)) for t in at)
    wide = sum((wave(time, (1.5, t, 0.025)) for t in extra), np.zeros_like(time))
    limb = {lead: math.cos(math.radians(angle - position)) for lead, position in LIMBS.items()}
    limb |= {"aVF": (limb["II"] + limb["III"]) / 2, "aVR": -(limb["I"] + limb["II"]) / 2}
    limb["aVL"] = (limb["I"] - limb["III"]) / 2
    return np.stack([limb.get(lead, 1.0) * one + wide for lead in STANDARD])


@pytest.mark.parametrize("rate", [100.0, 500.0])
def test_a_strip_yields_rhythm_waves_and_axis(rate: float) -> None:
    angles = (-30.0, 10.0, 75.0, 130.0)
    x = np.stack([strip(angle, rate, 0.8) for angle in angles])
    given = cohort(x, rate=rate, leads=STANDARD)
    result = columns(ecg.feature_table(given), given.task)
    assert np.degrees(np.arctan2(result["axis_sin"], result["axis_cos"])) == pytest.approx(angles, abs=0.5)
    for i in (1, 2):  # where lead II stands upright
        assert result["rr"][i] == pytest.approx(math.log(0.8), abs=0.01)
        assert result["rr_sd"][i] == pytest.approx(0, abs=0.01)
        assert result["beats"][i] == pytest.approx(1.2, abs=0.11)
        assert result["sameness"][i] == pytest.approx(1, abs=0.01)
        for name, value in {"r": 1.0, "t": 0.3, "p": 0.15, "t_time": 2.8}.items():
            assert result[f"V3 {name}"][i] == pytest.approx(value, abs=0.03), name
        low, high = np.percentile(x[i, 8], [1, 99]) - np.median(x[i, 8])
        assert [result["V3 low"][i], result["V3 high"][i]] == pytest.approx([low, high], abs=1e-5)
        assert result["V3 sd"][i] == pytest.approx(x[i, 8].std(), rel=1e-4)
        assert result["qrs_width"][i] == pytest.approx(result["V3 qrs_width"][i], rel=0.05)
    late = x.copy()
    late[:, 11] = np.roll(late[:, 11], round(0.05 * rate), axis=-1)  # the last lead's QRS comes 50 ms after the others'
    later = columns(ecg.feature_table(cohort(late, rate=rate, leads=STANDARD)), given.task)
    assert later["V3 qrs_width"] == pytest.approx(result["V3 qrs_width"])
    assert (later["qrs_width"] > result["qrs_width"] + 0.2).all()


def test_ectopic_beats_are_irregular_and_unlike() -> None:
    regular, ectopic = strip(40, 100, 0.9), strip(40, 100, 0.9, extra=(2.75, 6.35))
    given = cohort(np.stack([regular, ectopic]), rate=100, leads=STANDARD)
    result = columns(ecg.feature_table(given), given.task)
    positions = r_peaks.detect_qrs(ectopic[1].astype(np.float32), 100)
    rr = np.diff(positions) / 100
    assert result["rr"][1] == pytest.approx(math.log(np.median(rr)), rel=1e-5)
    assert result["rr_sd"][1] == pytest.approx(rr.std() / rr.mean(), rel=1e-5)
    steps = [abs(b - a) for a, b in itertools.pairwise(rr)]
    assert result["rr_change"][1] == pytest.approx(np.mean(steps) / rr.mean(), rel=1e-5)
    assert result["rr_sd"][1] > result["rr_sd"][0] + 0.1
    assert result["sameness"][1] < result["sameness"][0] - 0.05


def test_leads_without_i_and_avf_have_no_axis() -> None:
    x = strip(40, 100, 0.9)[None, 6:]
    given = cohort(x, rate=100, leads=STANDARD[6:])
    assert not set(ecg.AXIS) & set(columns(ecg.feature_table(given), given.task))


def test_what_cannot_be_measured_is_nan() -> None:
    x = np.zeros((3, 12, 1000))
    x[1] = strip(40, 100, 0.9)
    x[1, 8] = 3.0  # a flat lead
    x[2] = strip(40, 100, 0.9)
    given = cohort(x, rate=100, leads=STANDARD)
    result = columns(ecg.feature_table(given), given.task)
    assert result["beats"][0] == 0
    assert np.isnan(
        [result[name][0] for name in ("rr", "sameness", "qrs_width", "V3 r", "V3 t_time", "axis_sin")]
    ).all()
    assert np.isnan([result[f"V3 {name}"][1] for name in ("qrs_width", "t_time", "band_0")]).all()
    assert result["V3 sd"][1] == 0
    assert not np.isnan([value[2] for value in result.values()]).any()
    flat = columns(ecg.feature_table(cohort(np.zeros((6, 1, 96)))), task(["lead 1"], 96))
    assert np.isnan([flat[f"lead 1 {name}"][0] for name in ("qrs_width", "t_time", "band_0", "correlation")]).all()


def test_other_signals_are_refused() -> None:
    for leads, samples, rate in ((["a"], 24, 1 / 3600), (["a"], 100, 125.0), ([], 0, 0.0), (["a"], 96, 100.0)):
        what = Task("odd", "multiclass", ("a", "b"), ("", ""), len(leads), samples, rate, ("f",), tuple(leads))
        with pytest.raises(DataError, match="odd: no hand-crafted features for"):
            ecg.feature_names(what)
    what = task(["a"], 1000, 100.0)
    rows = Windows(np.zeros((1000, 1), np.float32), np.array([999]), np.array([0]), 1000)
    one = np.zeros(1, np.int64)
    with pytest.raises(DataError, match="windows of a table"):
        ecg.feature_table(
            Cohort(what, rows, np.zeros((1, 0), np.float32), one, one, ("p",), ("p",), np.full(1, -1, np.int8))
        )


@pytest.mark.realdata
def test_ventricular_beats_are_wider_and_unlike_the_rest(mitdb_folder: Path, store: Path) -> None:
    ids = ["106", "119", "200", "208", "221", "233"]
    result = mitdb.read(mitdb_folder, Options(leads=1), ids, store)
    table = columns(ecg.feature_table(result), result.task)
    assert not any(np.isnan(value).any() for value in table.values())
    for who in range(len(ids)):
        normal, ventricular = (np.flatnonzero((result.patient == who) & (result.y == c)) for c in (0, 2))
        for name, sign in (("qrs_width", 1), ("correlation", -1), ("difference", 1), ("qrs_size", 1)):
            values = sign * table[f"lead 1 {name}"]
            assert np.median(values[ventricular]) > np.median(values[normal]), (ids[who], name)


def test_measures_against_a_recordings_own_spread_are_a_slow_loops() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(60, 4)).astype(np.float32) * [1, 5, 0.1, 2] + [0, 40, 0, 1]
    values[7, 0], values[9, 1], values[:, 3] = np.nan, 1e6, np.nan
    values[:3, 3] = 1.0  # fewer than five are measured: nothing is usual
    result = ecg.scale_to_own_spread(values.astype(np.float32))
    slow = np.zeros_like(values)
    for column in range(3):
        known = sorted(float(v) for v in np.float32(values[:, column]) if not math.isnan(v))
        low, middle, high = (np.interp(q * (len(known) - 1), range(len(known)), known) for q in (0.25, 0.5, 0.75))
        for row, value in enumerate(values[:, column]):
            z = (value - middle) / (high - low + 1e-3 * abs(middle) + 1e-6)
            slow[row, column] = 0 if math.isnan(z) else math.asinh(max(-50, min(50, z))) / 2
    np.testing.assert_allclose(result, slow, rtol=1e-4, atol=1e-5)
    assert result[9, 1] == pytest.approx(math.asinh(50) / 2)
    assert np.isfinite(result).all()


def test_beats_of_one_recording_are_measured_as_a_cohort_of_it_is() -> None:
    rng = np.random.default_rng(4)
    x = (wave(TIME, *HEART) + 0.05 * rng.normal(size=(40, 2, 96))).astype(np.float32)
    one = cohort(x)
    named = dict(zip(ecg.beat_feature_names(2), ecg.measure_beats(one.x, np.median(one.x, axis=0)).T, strict=True))
    for name, values in columns(ecg.feature_table(one), one.task).items():
        _, lead, measure = name.split(" ")
        np.testing.assert_allclose(named[f"own_{measure}_{lead}"], values, rtol=1e-5, atol=1e-6)
    assert ecg.measure_beats(one.x[:0], one.x[0]).shape == (0, len(named))
