"""PTB: its clinical summaries, beats as Kachuee 2018 cuts them by a slow loop, strips by a known sine, bad files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from common import config
from common.errors import ConfigError, DataError
from common.settings import validate_settings
from sites import datasets, splits
from sites.datasets import Source, ptbdb
from sites.datasets.ptbdb import recordings as ptbdb_records
from sites.datasets.ptbdb import simulate
from sites.ecg import filtering, r_peaks
from sites.ecg import recordings as records
from sites.ecg.headers import read_header
from sites.ecg.leads import FRANK, STANDARD
from sites.ecg.signals import read_leads
from sites.ecg.simulate import dipole
from sites.synthetic_folder import COMMENT, MARKER, build_folder, write_recording

ROOT = Path(__file__).resolve().parents[4]
INFARCTION = ["age: 61", "sex: male", "Diagnose:", "Reason for admission: Myocardial infarction", "Smoker: yes"]
HEALTHY = ["age: n/a", "sex: female", "Reason for admission: Healthy control"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptbdb") / "made"
    simulate.generate(folder, patients=10, seconds=10, seed=3)
    return folder


def beat_train(seconds: float, rate: float, period: float, height: float = 1.0) -> np.ndarray:
    """Return a clean lead: a narrow wave each period and a small one behind it."""
    t = np.arange(round(seconds * rate)) / rate
    phase = (t - 0.4) % period
    phase = np.minimum(phase, period - phase)
    late = np.abs((t - 0.4) % period - 0.25)
    return height * (np.exp(-0.5 * (phase / 0.012) ** 2) + 0.2 * np.exp(-0.5 * (late / 0.04) ** 2))


def put(folder: Path, name: str, lead: np.ndarray, comments: list[str], rate: int = 125, gain: float = 2000.0) -> Path:
    """Write a recording of all 12 leads, each of them `lead` times its number."""
    stem = folder / name
    stem.parent.mkdir(parents=True, exist_ok=True)
    signal = lead[:, None] * (1 + 0.05 * np.arange(12))
    names = [item.lower() for item in STANDARD]
    write_recording(stem, signal, names, [f"{stem.name}.dat"] * 12, rate=rate, gain=gain, comments=comments)
    return stem.with_suffix(".hea")


def options(**given: Any) -> ptbdb.Options:
    return validate_settings(ptbdb.Options, given, "test")


def read_all(folder: Path, store: Path, **given: Any) -> Any:
    chosen = options(**given)
    return ptbdb.read(folder, chosen, [item.id for item in ptbdb.patients(folder, chosen, store)], store)


def refused(call: Callable[[], object], *said: str) -> str:
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for part in said:
        assert part in text
    return text


# Leads


def test_leads_read_as_wfdb_reads_them(made: Path, hospitals: Path, tmp_path: Path) -> None:
    header = read_header(next(made.glob("*/*_re.hea")))
    theirs = wfdb.rdrecord(str(header.path.with_suffix("")))
    assert header.leads == (*STANDARD, *FRANK)
    wanted = ("V2", "II", "vz")
    columns = [theirs.sig_name.index(name.lower()) for name in wanted]
    np.testing.assert_allclose(read_leads(header, wanted), theirs.p_signal[:, columns], atol=1e-6)
    packed = read_header(hospitals / "north" / "north-001.hea")  # format 212: read through wfdb
    theirs = wfdb.rdrecord(str(packed.path.with_suffix("")))
    np.testing.assert_allclose(read_leads(packed, packed.leads), theirs.p_signal, atol=1e-5)
    odd = tmp_path / "odd.hea"
    odd.write_text(
        "odd 3 250 4 12:00:00 01/02/1990\n"
        "odd.dat 16 200(10)/uV 16 5 1 0 0 I\nodd.dat 16 100 16 7 1 0 0 my lead\nodd.dat 16 0/mV 16 0 1 0 0 aVR\n"
    )
    np.arange(1, 13, dtype="<i2").tofile(tmp_path / "odd.dat")
    text = odd.read_text().replace(" 1 0 0 I", " 1 22 0 I").replace("1 0 0 my", "1 26 0 my")
    odd.write_text(text.replace("1 0 0 aVR", "1 30 0 aVR"))
    for first in ("odd 3 250 4 12:00:00 01/02/1990", "odd 3 250/250(0) 4"):
        odd.write_text(odd.read_text().replace("odd 3 250 4 12:00:00 01/02/1990", first))
        ours, theirs = read_header(odd), wfdb.rdrecord(str(tmp_path / "odd"))
        assert (ours.rate, ours.leads) == (250, ("I", "my lead", "aVR"))
        np.testing.assert_allclose(read_leads(ours, ours.leads), theirs.p_signal * [1e-3, 1, 1], rtol=1e-6)


def test_only_the_files_of_the_wanted_leads_are_needed(made: Path, tmp_path: Path) -> None:
    source = next(made.glob("*/*_re.hea"))
    for path in source.parent.glob(f"{source.stem}.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / f"{source.stem}.xyz").unlink()
    header = read_header(tmp_path / source.name)
    assert read_leads(header, STANDARD).shape[1] == 12
    refused(lambda: read_leads(header, ("I", "vx")), f"{source.stem}.xyz", "is not in")
    refused(lambda: read_leads(header, ("V7",)), "has no lead V7")


def test_a_damaged_signal_is_refused_and_a_missing_checksum_is_not(tmp_path: Path) -> None:
    path = put(tmp_path, "p/s", beat_train(3, 125, 0.8), HEALTHY)
    data = path.with_suffix(".dat")
    whole = data.read_bytes()
    data.write_bytes(whole[:-2])
    refused(lambda: read_leads(read_header(path), ("II",)), "s.dat is truncated, 8998 of 9000 bytes")
    data.write_bytes(whole[:2] + bytes([whole[2] ^ 1]) + whole[3:])
    refused(lambda: read_leads(read_header(path), ("II",)), "checksum of lead II", "fetch it again")
    read_leads(read_header(path), ("I",))
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0], *(" ".join([*x.split()[:5], "0", "0", "0", x.split()[-1]]) for x in lines[1:13])])
    )
    assert not read_header(path).has_checksums
    read_leads(read_header(path), ("II",))
    refused(lambda: read_header(tmp_path / "none.hea"), "no header")
    path.write_text("nonsense")
    refused(lambda: read_header(path), "'nonsense' is not understood")


# R peaks


@pytest.mark.parametrize("rate", [100.0, 250.0, 360.0])
def test_the_detector_finds_the_beats_that_were_generated(hospitals: Path, rate: float) -> None:
    found = wrong = missed = 0
    for path in sorted(hospitals.glob("*/*.hea")):
        recording = records.read_recording(path.parent, path.stem)
        truth = recording.sample[np.isin(recording.symbol, list("NLRAVF"))] / recording.rate
        lead = filtering.resample_and_filter(recording.signal[:, :1], recording.rate, rate, None)[:, 0]
        ours = r_peaks.detect_qrs(lead, rate) / rate
        assert (np.diff(ours) >= 0.2 - 1e-9).all()
        apart = np.abs(ours[:, None] - truth).min(1)
        found += int((apart < 0.05).sum())
        wrong += int((apart >= 0.05).sum())
        missed += int((np.abs(truth[:, None] - ours).min(1) >= 0.15).sum())
    assert found > 150
    assert wrong <= 0.02 * found
    assert missed <= 0.02 * found


def test_the_detector_follows_a_beat_that_points_down_and_finds_none_in_a_flat_lead() -> None:
    lead = beat_train(9.8, 250, 0.8).astype(np.float32)
    up = r_peaks.detect_qrs(lead, 250)
    truth = np.arange(0.4, 9.8, 0.8) * 250
    np.testing.assert_allclose(up, truth, atol=1)
    np.testing.assert_allclose(r_peaks.detect_qrs(-lead + 3, 250), truth, atol=1)
    again = lead + 0.8 * np.roll(lead, 45)  # within the 200 ms in which no second beat can be
    np.testing.assert_allclose(r_peaks.detect_qrs(again, 250), truth, atol=1)
    again = 0.8 * lead + np.roll(lead, 45)
    np.testing.assert_allclose(r_peaks.detect_qrs(again, 250)[:-1], truth[:-1] + 45, atol=1)
    assert len(r_peaks.detect_qrs(np.zeros(2500, np.float32), 250)) == 0
    assert len(r_peaks.detect_qrs(lead[:100], 250)) == 0


def slow_kachuee(lead: np.ndarray) -> list[int]:
    """Return Kachuee's candidates, value by value, at 125 Hz."""
    found = []
    for start in range(0, len(lead) - 1249, 1250):
        window = lead[start : start + 1250]
        low, high = min(window), max(window)
        scaled = [(value - low) / max(high - low, 1e-6) for value in window]
        for i in range(1, 1249):
            if scaled[i - 1] < scaled[i] >= scaled[i + 1] and scaled[i] >= 0.9:
                found.append(start + i)
    return found


def test_kachuees_peaks_are_those_of_a_slow_loop() -> None:
    rng = np.random.default_rng(4)
    lead = np.cumsum(rng.normal(size=4000)).astype(np.float32)
    ours = r_peaks.detect_kachuee(lead, 125)
    assert ours.tolist() == slow_kachuee(lead)
    assert len(ours) > 10
    assert ours.max() < 3750


def test_beats_are_those_of_a_slow_loop(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lead = beat_train(25, 125, 0.83) + 0.05 * rng.normal(size=3125)
    path = put(tmp_path, "patient001/s0001_re", lead, INFARCTION)
    cohort = read_all(tmp_path, tmp_path / "store")
    signal = read_leads(read_header(path), ("II",))[:, 0]
    peaks = slow_kachuee(signal)
    truth = []
    for at in peaks[:-1]:
        window = at // 1250
        near = [peak for peak in peaks if peak // 1250 == window]
        length = min(round(1.2 * float(np.median(np.diff(near)))), 187, len(signal) - at)
        part = signal[at : at + length]
        scaled = (part - part.min()) / (part.max() - part.min())
        truth.append(np.concatenate([scaled, np.zeros(187 - length)]))
    assert len(truth) > 15
    np.testing.assert_allclose(cohort.x[:, 0], truth, atol=1e-4)
    assert cohort.y.tolist() == [1] * len(truth)
    assert cohort.excluded == {"last beat of a recording": 1, "ends of recordings shorter than 10 s": 1}
    every = read_all(tmp_path, tmp_path / "store", peaks="qrs")
    assert len(every.y) == len(np.arange(0.4, 25, 0.83)) - 1
    assert every.excluded == {"last beat of a recording": 1}


# Strips


@pytest.mark.parametrize("rate", [100, 125])
def test_a_strip_is_the_filtered_signal_in_millivolts(tmp_path: Path, rate: int) -> None:
    t = np.arange(25_000) / 1000
    put(tmp_path, "p1/s1", np.sin(2 * np.pi * 5 * t) + 0.8, HEALTHY, rate=1000)
    cohort = read_all(tmp_path, tmp_path / "store", task="record", rate=rate, leads=["V1", "II"])
    assert cohort.x.shape == (2, 2, 10 * rate)
    gain = 1 / (1 + (0.5 / 5) ** 4) / (1 + (5 / 40) ** 4)
    for strip in range(2):
        at = 10 * strip + np.arange(10 * rate) / rate
        middle = slice(rate, -rate)
        for row, factor in enumerate((1 + 0.05 * 6, 1.05)):
            truth = factor * gain * np.sin(2 * np.pi * 5 * at)
            np.testing.assert_allclose(cohort.x[strip, row][middle], truth[middle], atol=5e-3)
    assert cohort.excluded == {"ends of recordings shorter than 10 s": 1}
    assert cohort.task.channel_names == ("V1", "II")


def test_missing_samples_leave_out_what_rests_on_them(tmp_path: Path) -> None:
    path = put(tmp_path, "p1/s1", beat_train(30, 125, 0.8), HEALTHY)
    clean = read_all(tmp_path, tmp_path / "store")
    values = np.fromfile(path.with_suffix(".dat"), dtype="<i2").reshape(-1, 12)
    values[1400:1403] = -(2**15)
    values.tofile(path.with_suffix(".dat"))
    sums = values.sum(0, dtype=np.int64) & 0xFFFF
    lines = path.read_text().splitlines()
    for i, total in enumerate(sums):
        cells = lines[1 + i].split()
        lines[1 + i] = " ".join([*cells[:6], str(total), *cells[7:]])
    path.write_text("\n".join(lines))
    strips = read_all(tmp_path, tmp_path / "store", task="record", rate=125)
    assert len(strips.y) == 2
    assert strips.excluded == {"strips with missing samples": 1}
    cohort = read_all(tmp_path, tmp_path / "store")
    assert cohort.excluded["beats with missing samples"] in (1, 2)
    assert len(cohort.y) == len(clean.y) - cohort.excluded["beats with missing samples"]
    assert np.isfinite(cohort.x).all()


# The clinical summary


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """Five people: infarction, healthy, another diagnosis, none given, no such line."""
    lead = beat_train(10, 125, 0.8)
    put(tmp_path, "patient001/s0001_re", lead, INFARCTION)
    put(tmp_path, "patient002/s0002_re", lead, HEALTHY)
    put(tmp_path, "patient003/s0003_re", lead, ["age: 40", "Reason for admission: Dysrhythmia "])
    put(tmp_path, "patient004/s0004_re", lead, ["age: 50", "sex: n/a", "Reason for admission: n/a"])
    put(tmp_path, "patient005/s0005_re", lead, [])
    return tmp_path


@pytest.mark.parametrize(
    ("given", "labels", "excluded"),
    [
        ({}, [1, 0, 1, None, None], {"recordings without a diagnosis": 2}),
        (
            {"abnormal": "infarction"},
            [1, 0, None, None, None],
            {"recordings without a diagnosis": 2, "recordings of another diagnosis": 1},
        ),
        (
            {"task": "record", "rate": 125},
            [1, 0, None, None, None],
            {"recordings without a diagnosis": 2, "recordings of another diagnosis": 1},
        ),
    ],
)
def test_the_diagnosis_is_the_label_and_who_has_none_is_counted(
    five: Path, given: dict[str, Any], labels: list[int | None], excluded: dict[str, int]
) -> None:
    found = ptbdb.patients(five, options(**given), five / "store")
    cohort = read_all(five, five / "store", **given)
    size = 1 if given.get("task") else 11
    assert [item.examples for item in found] == [
        (0, 0) if label is None else (size, 0) if label == 0 else (0, size) for label in labels
    ]
    assert [set(cohort.y[cohort.patient == i]) for i in range(5)] == [
        set() if label is None else {label} for label in labels
    ]
    assert {why: n for why, n in cohort.excluded.items() if "diagnosis" in why} == excluded
    np.testing.assert_array_equal(cohort.age, np.asarray([61, np.nan, 40, 50, np.nan], np.float32))
    assert cohort.sex.tolist() == [1, 0, -1, -1, -1]
    assert not cohort.synthetic


@pytest.mark.parametrize("comment", ["age: 61 years", "age: -3", "age: 207", "sex: f"])
def test_a_summary_that_cannot_be_is_refused_without_its_value(tmp_path: Path, comment: str) -> None:
    put(tmp_path, "patient001/s0001_re", beat_train(10, 125, 0.8), [comment, *INFARCTION[2:]])
    name, value = comment.split(": ")
    text = refused(lambda: ptbdb.patients(tmp_path, options(), tmp_path), "s0001_re.hea", f"comment {name}")
    assert value not in text.replace("age in years", "").replace("female", "").split()


# The folder


def test_recordings_are_those_of_the_list_or_of_all_folders(five: Path) -> None:
    every = [item.id for item in ptbdb.patients(five, options(), five / "store")]
    assert every == [f"patient00{i}/s000{i}_re" for i in range(1, 6)]
    (five / "RECORDS").write_text("patient002/s0002_re\npatient001/s0001_re\n")
    assert [item.id for item in ptbdb.patients(five, options(), five / "store")] == [every[1], every[0]]
    (five / "RECORDS").write_text("patient002/s0002_re\npatient009/s0001_re\n")
    refused(lambda: ptbdb.patients(five, options(), five / "store"), "names patient009/s0001_re, but")


def test_one_person_has_several_recordings_and_stays_on_one_side(made: Path, store: Path) -> None:
    source = Source(ptbdb, options(task="record"), made, store / "ptbdb")
    found = source.patients()
    assert len({item.person for item in found}) == 10 < len(found)
    run = config.parse_config({"sites": {"scheme": "even", "count": 2}})
    dealt, kept, _ = datasets.assign_hospitals(source, run)
    for site, ids in dealt.items():
        done = splits.assign_split(source.read(ids), [p for p in kept if p.id in ids], run.sites, run.seed, site)
        sides = [{done.persons[i] for i in np.unique(done.part(name).patient)} for name in ("train", "test")]
        assert not sides[0] & sides[1]


def test_bad_folders_are_named(five: Path, tmp_path: Path) -> None:
    refused(lambda: ptbdb.patients(tmp_path / "lost", options(), tmp_path), f"no data folder {tmp_path / 'lost'}")
    (tmp_path / "empty").mkdir()
    refused(lambda: ptbdb.patients(tmp_path / "empty", options(), tmp_path), "no recordings in", "patient001/s0010_re")
    shutil.copytree(five / "patient001", five / "patient006")
    refused(lambda: ptbdb.patients(five, options(), five), "s0001_re is in patient001 and in patient006")
    shutil.rmtree(five / "patient006")
    (five / "patient001" / "s0001_re.dat").unlink()
    refused(lambda: ptbdb.patients(five, options(), five), "names the signal file s0001_re.dat")
    flat = put(tmp_path / "flat", "s1", beat_train(10, 125, 0.8), HEALTHY)
    (flat.parent / "RECORDS").write_text("s1\n")
    refused(lambda: ptbdb.patients(flat.parent, options(), flat.parent), "must be in its patient's folder")
    refused(lambda: ptbdb.read(five, options(), [], five), "no recordings of")


def test_a_second_reading_opens_no_signal(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_all(made, tmp_path / "store", task="record")

    def never(*_: object) -> None:
        raise AssertionError("a signal was parsed again")

    monkeypatch.setattr(ptbdb_records, "read_leads", never)
    again = read_all(made, tmp_path / "store", task="record")
    np.testing.assert_array_equal(first.x, again.x)
    assert first.excluded == again.excluded
    with pytest.raises(AssertionError):
        read_all(made, tmp_path / "store", task="record", rate=125)


# Generated people


def test_generated_people_say_so_and_are_the_same_again(made: Path, tmp_path: Path, store: Path) -> None:
    assert COMMENT in (made / MARKER).read_text()
    for path in made.glob("*/*.hea"):
        assert "SYNTHETIC" in path.read_text()
    assert read_all(made, store / "ptbdb").synthetic
    again = tmp_path / "again"
    simulate.generate(again, patients=10, seconds=10, seed=3)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((made / path).read_bytes() == (again / path).read_bytes() for path in files)
    simulate.generate(again, patients=10, seconds=10, seed=3)
    with pytest.raises(DataError, match="holds other data"):
        simulate.generate(again, patients=10, seconds=10, seed=4)
    healthy = {
        name for name in (made / "RECORDS").read_text().split() if "Healthy" in (made / f"{name}.hea").read_text()
    }
    assert set((made / "CONTROLS").read_text().split()) == healthy
    assert 0 < len(healthy) < len((made / "RECORDS").read_text().split())


def test_a_half_made_folder_is_never_there(tmp_path: Path) -> None:
    def fail() -> None:
        with build_folder(tmp_path / "made", "something") as build:
            assert build is not None
            (build / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_generated_data_must_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.options\.simulated=true for SYNTHETIC data"):
        ptbdb.default_folder(options(), tmp_path, 1)
    folder = ptbdb.default_folder(options(simulated=True, patients=2, seconds=10.0), tmp_path, 1)
    assert len(list(folder.glob("patient*"))) == 2


def test_the_simulated_leads_obey_einthoven_and_goldberger() -> None:
    row = dict(zip((*STANDARD, *FRANK), dipole.lead_matrix(), strict=True))
    np.testing.assert_allclose(row["II"], row["I"] + row["III"])
    np.testing.assert_allclose(row["aVR"] + row["aVL"] + row["aVF"], 0, atol=1e-12)
    np.testing.assert_allclose(row["aVF"], (row["II"] + row["III"]) / 2)
    np.testing.assert_array_equal(np.stack([row["vx"], row["vy"], row["vz"]]), np.eye(3))


def test_a_fresh_inferior_infarction_raises_st_in_avf_and_lowers_it_in_avl() -> None:
    rng = np.random.default_rng(2)
    levels = {"healthy": [], "infarction": []}
    for condition in levels:
        while len(levels[condition]) < 15:
            person = dipole.draw_heart(condition, rng)
            if condition == "healthy" or (person.wall == "inferior" and person.acute):
                delay, width, *height = person.waves.T
                st = (np.exp(-0.5 * ((0.12 - delay) / width) ** 2) * np.stack(height)).sum(1)
                levels[condition].append(dipole.lead_matrix() @ st)
    ill, well = (np.mean(levels[name], axis=0) for name in ("infarction", "healthy"))
    assert ill[STANDARD.index("aVF")] - well[STANDARD.index("aVF")] > 0.05
    assert ill[STANDARD.index("aVL")] < well[STANDARD.index("aVL")]


# The real recordings


@pytest.mark.realdata
def test_the_real_recordings_read_as_wfdb_reads_them(tmp_path: Path) -> None:
    folder = ROOT / "data" / "ptbdb"
    if not folder.is_dir():
        pytest.skip(f"the PTB recordings are not in {folder}")
    found = ptbdb.patients(folder, options(task="record"), tmp_path)
    cohort = read_all(folder, tmp_path, task="record")
    assert len(found) >= 4
    for i, item in enumerate(found):
        stem = folder / item.id
        header = wfdb.rdheader(str(stem))
        said = dict(line.split(":", 1) for line in header.comments if ":" in line)
        assert cohort.age[i] == float(said["age"])
        assert cohort.sex[i] == {"female": 0, "male": 1}[said["sex"].strip()]
        assert item.person == stem.parent.name
        infarcted = said["Reason for admission"].strip() == "Myocardial infarction"
        if infarcted:
            assert item.examples == (0, header.sig_len // 10_000)
        ours = read_leads(read_header(stem.with_suffix(".hea")), STANDARD)
        theirs = wfdb.rdrecord(str(stem), channels=list(range(12))).p_signal
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
