from __future__ import annotations

import json
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigError, DataError
from sites.ecg.simulate import hospitals as generator
from sites.ecg.simulate.hospitals import generate
from sites.ecg.simulate.patients import draw_patients
from sites.ecg.simulate.profiles import LEAD_DEGREES, HospitalProfile, default_profiles

AAMI = {"N": "N", "L": "N", "R": "N", "A": "S", "V": "V", "F": "F"}
QUIET = {"noise": 0.0, "wander": 0.0, "hum": 0.0, "bundle_branch": 0.0}
SEED = 7


def read(folder: Path, record: str) -> tuple[Any, Any]:
    """Read as anyone would; wfdb's own warnings are not under test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(folder / record.rsplit("-", 1)[0] / record)
        return generator.wfdb.rdrecord(path), generator.wfdb.rdann(path, "atr")


def beats(folder: Path, record: str) -> tuple[Any, np.ndarray, str]:
    """Return the record, the R samples `(beats,)` and one AAMI letter a beat."""
    signals, notes = read(folder, record)
    remaining = [(at, AAMI[symbol]) for at, symbol in zip(notes.sample, notes.symbol, strict=True) if symbol in AAMI]
    return signals, np.array([at for at, _ in remaining]), "".join(kind for _, kind in remaining)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def profiles() -> tuple[HospitalProfile, ...]:
    return default_profiles(4, 2, SEED)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory, profiles: tuple[HospitalProfile, ...]) -> Path:
    folder = tmp_path_factory.mktemp("four") / "data"
    generate(folder, profiles, minutes=0.5, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One hospital without noise, wander, hum or blocked bundles; ten patients, five minutes."""
    folder = tmp_path_factory.mktemp("quiet") / "data"
    mix = {"S": 0.08, "V": 0.08, "F": 0.03}
    generate(folder, [HospitalProfile("quiet", rate=250, mix=mix, **QUIET)], minutes=5, seed=SEED)
    return folder


def test_an_ordinary_reader_finds_what_the_profile_says(hospitals: Path, profiles: tuple[HospitalProfile, ...]) -> None:
    for profile in profiles:
        records = (hospitals / profile.name / "RECORDS").read_text().split()
        assert records == [f"{profile.name}-001", f"{profile.name}-002"]
        for record, patient in zip(records, draw_patients(profile, SEED), strict=True):
            signals, notes = read(hospitals, record)
            assert signals.fs == notes.fs == profile.rate
            assert signals.units == ["mV", "mV"]
            assert signals.sig_name == list(profile.leads)
            assert signals.adc_gain == [profile.adc_gain] * 2
            assert signals.baseline == [profile.baseline] * 2
            assert signals.fmt == [profile.storage] * 2
            assert signals.comments[0].startswith("SYNTHETIC")
            assert signals.comments[1] == f"age: {patient.age} sex: {patient.sex}"
            assert signals.p_signal.shape == (30 * profile.rate, 2)
            assert np.isfinite(signals.p_signal).all()
            assert 0.5 < np.ptp(signals.p_signal[:, 0]) < 8
            assert (np.diff(notes.sample) > 0).all()
            assert 0 <= notes.sample[0] < notes.sample[-1] < signals.sig_len
            assert (notes.symbol[0], notes.aux_note[0].rstrip("\0")) == ("+", "(N")
            assert set(notes.symbol) <= set(AAMI) | {"+", "~"}


def test_long_recordings_have_noise_marks(quiet: Path) -> None:
    marks = Counter(symbol for number in range(1, 11) for symbol in read(quiet, f"quiet-{number:03d}")[1].symbol)
    assert marks["+"] == 10
    assert 5 < marks["~"] < 50


def test_same_seed_same_bytes_and_another_seed_others(
    hospitals: Path, profiles: tuple[HospitalProfile, ...], tmp_path: Path
) -> None:
    generate(tmp_path / "again", profiles, minutes=0.5, seed=SEED)
    assert content(tmp_path / "again") == content(hospitals)
    generate(tmp_path / "other", profiles[:1], minutes=0.5, seed=SEED + 1)
    other, same = content(tmp_path / "other" / "north"), content(hospitals / "north")
    assert all(other[name] != same[name] for name in same if name != "RECORDS")
    here, there = (next(draw_patients(profiles[0], seed)) for seed in (SEED, SEED + 1))
    assert here.rr != there.rr


def test_a_hospital_does_not_depend_on_the_others(
    hospitals: Path, profiles: tuple[HospitalProfile, ...], tmp_path: Path
) -> None:
    generate(tmp_path / "alone", profiles[2:3], minutes=0.5, seed=SEED)
    assert content(tmp_path / "alone" / "east") == content(hospitals / "east")
    assert default_profiles(9, 2, SEED)[:4] == profiles


def test_class_shares_are_the_profile_s_and_unequal_over_patients(quiet: Path) -> None:
    counts = [Counter(beats(quiet, f"quiet-{number:03d}")[2]) for number in range(1, 11)]
    total = sum(counts, Counter())
    shares = {kind: total[kind] / total.total() for kind in "SVF"}
    assert shares == pytest.approx({"S": 0.08, "V": 0.08, "F": 0.03}, rel=0.3)
    for kind in "SV":
        by_patient = sorted(count[kind] / count.total() for count in counts)
        assert by_patient[-1] > 5 * by_patient[2]
    assert 1 <= sum(count["F"] > 0 for count in counts) <= 5


def test_s_and_v_come_early_and_only_v_is_followed_by_a_full_pause(quiet: Path) -> None:
    before: dict[str, list[float]] = {kind: [] for kind in "NSVF"}
    around: dict[str, list[float]] = {kind: [] for kind in "NSVF"}
    for number in range(1, 11):
        _, at, kinds = beats(quiet, f"quiet-{number:03d}")
        rr = np.diff(at)
        usual = np.median([rr[k - 1] for k in range(1, len(at)) if kinds[k - 1 : k + 1] == "NN"])
        for k in range(1, len(at) - 1):
            if kinds[k - 1] == kinds[k + 1] == "N":
                before[kinds[k]].append(rr[k - 1] / usual)
                around[kinds[k]].append((rr[k - 1] + rr[k]) / usual)
    assert np.median(before["N"]) == pytest.approx(1, abs=0.05)
    assert np.median(before["S"]) < 0.85
    assert np.median(before["V"]) < 0.85
    assert 0.85 < np.median(before["F"]) < 1
    assert np.median(around["V"]) == pytest.approx(2, abs=0.05)
    assert np.median(around["S"]) < 1.95


def test_v_is_wider_than_n(quiet: Path) -> None:
    width: dict[str, list[float]] = {kind: [] for kind in "NSVF"}
    for number in range(1, 11):
        signals, at, kinds = beats(quiet, f"quiet-{number:03d}")
        for k, kind in zip(at[2:-2], kinds[2:-2], strict=True):
            lead = signals.p_signal[k - 30 : k + 31, 0]
            lead = np.abs(lead - np.median(lead))
            width[kind].append((lead > lead.max() / 2).sum() / signals.fs)
    assert np.median(width["N"]) < 0.06
    assert np.median(width["V"]) > 1.7 * np.median(width["N"])
    assert np.median(width["S"]) == pytest.approx(np.median(width["N"]), rel=0.3)


def test_r_is_annotated_where_the_signal_peaks(quiet: Path) -> None:
    off = []
    for number in range(1, 11):
        signals, at, kinds = beats(quiet, f"quiet-{number:03d}")
        near = int(0.04 * signals.fs)
        for k, kind in zip(at[2:-2], kinds[2:-2], strict=True):
            if kind == "N":
                off.append(np.abs(signals.p_signal[k - near : k + near + 1, 0]).argmax() - near)
    assert np.median(np.abs(off)) <= 1
    assert np.quantile(np.abs(off), 0.95) <= 3


def test_t_comes_sooner_after_a_premature_beat(quiet: Path) -> None:
    sooner = []
    for number in range(1, 11):
        signals, at, kinds = beats(quiet, f"quiet-{number:03d}")
        start, stop = int(0.13 * signals.fs), int(0.36 * signals.fs)
        delay: dict[str, list[int]] = {kind: [] for kind in "NSVF"}
        for k, kind in zip(at[2:-2], kinds[2:-2], strict=True):
            delay[kind].append(signals.p_signal[k + start : k + stop, 0].argmax() + start)
        sooner.append(np.median(delay["S"]) / np.median(delay["N"]))
    assert np.median(sooner) < 0.95


def test_hum_sits_at_the_mains_frequency_and_gain_scales_the_signal(tmp_path: Path) -> None:
    plain = HospitalProfile("plain", patients=1, **QUIET | {"hum": 0.05})
    for folder, profile in {"one": plain, "two": replace(plain, gain=2.0)}.items():
        generate(tmp_path / folder, [profile], minutes=0.5, seed=SEED)
    one, two = (read(tmp_path / name, "plain-001")[0].p_signal for name in ("one", "two"))
    assert two.std() == pytest.approx(2 * one.std(), rel=0.01)
    power = np.abs(np.fft.rfft(one[:, 0])) ** 2
    f = np.fft.rfftfreq(len(one), 1 / 360)
    assert f[power[f > 40].argmax() + (f <= 40).sum()] == pytest.approx(50)


def test_what_is_there_is_left_alone_and_what_differs_is_refused(tmp_path: Path) -> None:
    profiles = default_profiles(1, 1, SEED)
    folder = tmp_path / "data"
    folder.mkdir()  # an empty folder is as good as none
    generate(folder, profiles, minutes=0.2, seed=SEED)
    marker = json.loads((folder / "SYNTHETIC.json").read_text())
    assert (marker["seed"], marker["minutes"], marker["profiles"][0]["name"]) == (SEED, 0.2, "north")
    calls: list[tuple[int, int]] = []
    generate(folder, profiles, minutes=0.2, seed=SEED, progress=lambda *step: calls.append(step))
    assert calls == []
    before = content(folder)
    with pytest.raises(DataError, match="other data"):
        generate(folder, profiles, minutes=0.2, seed=SEED + 1)
    assert content(folder) == before
    (folder / "SYNTHETIC.json").unlink()
    with pytest.raises(DataError, match="other data"):
        generate(folder, profiles, minutes=0.2, seed=SEED)


def test_a_failure_midway_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        monkeypatch.setattr(generator.wfdb, "wrann", fail)

    with pytest.raises(OSError, match="disk full"):
        generate(tmp_path / "data", default_profiles(1, 3, SEED), minutes=0.2, seed=SEED, progress=progress)
    assert calls == [(1, 3)]
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_would_clip_is_refused(tmp_path: Path) -> None:
    loud = HospitalProfile("loud", storage="212", adc_gain=5000.0, patients=1)
    with pytest.raises(DataError, match=r"loud-001.*lower the adc_gain"):
        generate(tmp_path / "data", [loud], minutes=0.2, seed=SEED)
    assert list(tmp_path.iterdir()) == []


def test_two_hundred_hospitals_have_their_own_names_and_known_leads() -> None:
    profiles = default_profiles(200, 1, SEED)
    assert len({profile.name for profile in profiles}) == 200
    assert profiles[10].name == "hospital-11"
    assert all(set(profile.leads) <= set(LEAD_DEGREES) for profile in profiles)
    assert len({(p.rate, p.gain, p.noise, p.wander, tuple(p.mix.values())) for p in profiles}) == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a/b"}, {"rate": 90}, {"gain": 0.0}, {"storage": "8"}, {"noise": -0.1}, {"mains": 55},
        {"leads": ()}, {"leads": ("V1", "V1")}, {"leads": ("X",)}, {"mix": {"Q": 0.1}}, {"mix": {"V": 0.7}},
        {"patients": 0},
    ],
    ids=str,
)  # fmt: skip
def test_a_profile_that_cannot_be_simulated_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
        HospitalProfile(**{"name": "odd"} | wrong)


def test_two_hospitals_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="distinct names"):
        generate(tmp_path / "data", [HospitalProfile("twin"), HospitalProfile("twin")], minutes=1, seed=SEED)
    with pytest.raises(ConfigError, match="one or more"):
        default_profiles(0, 1, SEED)
    with pytest.raises(ConfigError, match="one or more"):
        default_profiles(1, 0, SEED)
