"""Whatever is wrong with a file ends in one line that names it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sites.ecg import beats, recordings
from sites.ecg.beat_reader import Options, read_beats
from sites.ecg.headers import read_header
from sites.ecg.persons import read_age_and_sex
from sites.ecg.simulate.hospitals import wfdb
from tests.refusals import refused

Write = Callable[..., None]
SAMPLES = 2000


@pytest.fixture
def folder(tmp_path: Path, write_recording: Write) -> Path:
    """Two recordings, `one` and `two`, at 125 Hz with a beat a second."""
    rng = np.random.default_rng(1)
    folders = list(range(100, SAMPLES, 125))
    for name in ("one", "two"):
        digital = rng.integers(-500, 500, size=(SAMPLES, 2))
        write_recording(tmp_path, name, digital, folders, ["N"] * len(folders))
    (tmp_path / "RECORDS").write_text("one\ntwo\n")
    return tmp_path


def test_a_recording_reads_as_wfdb_reads_it(hospitals: Path) -> None:
    for directory in ("north/north-001", "south/south-002"):
        path = hospitals / directory
        theirs, marks = wfdb.rdrecord(str(path)), wfdb.rdann(str(path), "atr")
        ours = recordings.read_recording(path.parent, path.name)
        np.testing.assert_allclose(ours.signal, theirs.p_signal, atol=1e-5)
        assert ours.signal.dtype == np.float32
        assert (ours.rate, ours.leads, ours.name) == (theirs.fs, tuple(theirs.sig_name), path.name)
        np.testing.assert_array_equal(ours.sample, marks.sample)
        assert ours.symbol.tolist() == marks.symbol
        assert ours.comments == tuple(theirs.comments)


def test_recordings_are_those_that_the_list_names_in_its_order(folder: Path) -> None:
    (folder / "RECORDS").write_text("two\n\n  one \n")
    assert recordings.recording_names(folder) == ("two", "one")
    (folder / "RECORDS").unlink()
    assert recordings.recording_names(folder) == ("one", "two")


def test_the_files_of_a_recording_are_its_header_signals_and_beats(folder: Path) -> None:
    assert [path.name for path in recordings.recording_files(folder, "one")] == ["one.hea", "one.dat", "one.atr"]


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path: Path, folder: Path) -> None:
    refused(
        lambda: recordings.recording_names(tmp_path / "none"), f"no data folder {tmp_path / 'none'}", "give the folder"
    )
    refused(lambda: recordings.recording_names(folder / "one.hea"), f"no data folder {folder / 'one.hea'}")
    (tmp_path / "empty").mkdir()
    refused(lambda: recordings.recording_names(tmp_path / "empty"), f"no recordings in {tmp_path / 'empty'}")
    (tmp_path / "empty" / "RECORDS").write_text("\n")
    refused(lambda: recordings.recording_names(tmp_path / "empty"), f"no recordings in {tmp_path / 'empty'}")


def test_a_list_that_names_a_missing_recording_or_one_twice_is_refused(folder: Path) -> None:
    (folder / "RECORDS").write_text("one\nthree\n")
    refused(lambda: recordings.recording_names(folder), str(folder / "RECORDS"), "three.hea is not in")
    (folder / "RECORDS").write_text("one\ntwo\none\n")
    refused(lambda: recordings.recording_names(folder), str(folder / "RECORDS"), "names one twice")
    (folder / "RECORDS").write_bytes(b"\xff\xfe\x00\x01")
    refused(lambda: recordings.recording_names(folder), str(folder / "RECORDS"), "not a list of recordings")


@pytest.mark.parametrize("ending", ["hea", "dat", "atr"])
def test_a_missing_file_is_named(folder: Path, ending: str) -> None:
    (folder / f"one.{ending}").unlink()
    refused(lambda: recordings.read_recording(folder, "one"), f"one.{ending}", str(folder))
    recordings.read_recording(folder, "two")


@pytest.mark.parametrize("ending", ["hea", "dat", "atr"])
@pytest.mark.parametrize("size", [0, 1, 7, 40])
def test_a_file_that_was_cut_off_is_named(folder: Path, ending: str, size: int) -> None:
    path = folder / f"one.{ending}"
    path.write_bytes(path.read_bytes()[:size])
    refused(lambda: recordings.read_recording(folder, "one"), "one.hea" if ending != "atr" else "one.atr")


def test_a_truncated_signal_states_how_much_is_there(folder: Path) -> None:
    path = folder / "one.dat"
    path.write_bytes(path.read_bytes()[:-2])
    refused(
        lambda: recordings.read_recording(folder, "one"),
        "one.dat is truncated, 7998 of 8000 bytes",
        "fetch the file again",
    )


def test_annotations_that_were_cut_off_do_not_pass_for_fewer_beats(folder: Path) -> None:
    whole = (folder / "one.atr").read_bytes()
    for size in range(len(whole)):
        (folder / "one.atr").write_bytes(whole[:size])
        refused(lambda: recordings.read_recording(folder, "one"), "one.atr")


def test_a_changed_byte_of_the_signal_is_found_wherever_it_is(folder: Path) -> None:
    path = folder / "one.dat"
    whole = path.read_bytes()
    for at in (0, 1, 1234, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        refused(
            lambda: recordings.read_recording(folder, "one"),
            "one.hea: the checksum of lead",
            "one.dat",
            "fetch it again",
        )


def test_changed_bytes_of_format_212_are_found(hospitals: Path, tmp_path: Path) -> None:
    shutil.copytree(hospitals / "north", tmp_path / "north")
    path = tmp_path / "north" / "north-001.dat"
    damaged = bytearray(path.read_bytes())
    damaged[301] ^= 0x01
    path.write_bytes(damaged)
    refused(lambda: recordings.read_recording(path.parent, "north-001"), "the checksum of lead", "north-001.dat")


@pytest.mark.parametrize(
    "content", [b"\x00\xff" * 50, b"one 2 125\n", b"one x y z\none.dat 16\n", b"one 2 125 2000\n# hi"]
)
def test_a_header_that_is_none_is_named(folder: Path, content: bytes) -> None:
    (folder / "one.hea").write_bytes(content)
    refused(lambda: recordings.read_recording(folder, "one"), "one.hea")


def test_annotations_of_another_recording_are_refused(folder: Path) -> None:
    wfdb.wrann(
        "one",
        "atr",
        sample=np.array([5, SAMPLES, SAMPLES + 100, SAMPLES + 200]),
        symbol=["N"] * 4,
        fs=125,
        write_dir=str(folder),
    )
    refused(lambda: recordings.read_recording(folder, "one"), "one.atr", "beyond the 2000 samples")
    wfdb.wrann("one", "atr", sample=np.array([5, SAMPLES - 1]), symbol=["N", "N"], fs=125, write_dir=str(folder))
    assert recordings.read_recording(folder, "one").sample.tolist() == [5, SAMPLES - 1]


def test_annotations_that_go_back_in_time_are_refused(folder: Path) -> None:
    # Two words an annotation: a SKIP of -100 (code 59, high and low word), then N at distance 0.
    back = bytes([5, 4]) + bytes([0, 59 << 2]) + bytes([0xFF, 0xFF]) + bytes([0x9C, 0xFF]) + bytes([0, 4])
    head = bytes([200, 4])
    (folder / "one.atr").write_bytes(head + back + b"\0\0")
    assert wfdb.rdann(str(folder / "one"), "atr").sample.tolist() == [200, 205, 105]
    refused(lambda: recordings.read_recording(folder, "one"), "one.atr", "not in the order of time")


@pytest.mark.parametrize(
    ("fmt", "missing"), [("16", -(2**15)), ("212", -(2**11)), ("80", -(2**7)), ("24", -(2**23)), ("32", -(2**31))]
)
def test_a_missing_sample_is_nan_in_every_format(
    tmp_path: Path, write_recording: Write, fmt: str, missing: int
) -> None:
    digital = np.random.default_rng(2).integers(-100, 100, size=(300, 2))
    if fmt in ("24", "32"):
        digital *= 1000
    digital[7, 0] = digital[9, 1] = missing
    write_recording(tmp_path, "a", digital, [50], ["N"], fmt=fmt, baseline=3, gain=200.0)
    signal = recordings.read_recording(tmp_path, "a").signal
    lost = np.zeros((300, 2), bool)
    lost[7, 0] = lost[9, 1] = True
    np.testing.assert_array_equal(np.isnan(signal), lost)
    np.testing.assert_allclose(signal[~lost], ((digital - 3) / 200.0)[~lost], rtol=1e-6)


@pytest.mark.parametrize(("units", "factor"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_signals_come_in_millivolts(tmp_path: Path, write_recording: Write, units: str, factor: float) -> None:
    digital = np.arange(600).reshape(300, 2)
    write_recording(tmp_path, "a", digital, [50], ["N"], units=units, gain=100.0)
    np.testing.assert_allclose(recordings.read_recording(tmp_path, "a").signal, digital / 100 * factor, rtol=1e-6)


@pytest.mark.parametrize("view", ["window", "kachuee"])
def test_beats_that_touch_missing_samples_are_left_out_and_counted(
    folder: Path, view: Literal["window", "kachuee"], write_recording: Write
) -> None:
    digital = np.random.default_rng(3).integers(-500, 500, size=(SAMPLES, 2))
    folders = list(range(100, SAMPLES, 125))
    digital[folders[3] + 10, 1] = -32768
    digital[folders[7] - 60 : folders[7] - 55, 0] = -32768
    write_recording(folder, "one", digital, folders, ["N"] * len(folders))
    result = beats.cut_beats(recordings.read_recording(folder, "one"), view, 2)
    # At 125 Hz a window reaches from 36 samples before to 60 after; a Kachuee beat of a beat a second, 150 after.
    before, after = (36, 60) if view == "window" else (0, 150)
    missing = [folders[3] + 10, *range(folders[7] - 60, folders[7] - 55)]
    gone = {at for at in folders if any(at - before <= gap < at + after for gap in missing)}
    assert len(gone) == (1 if view == "window" else 3)
    remaining = [at for at in folders if at not in gone][: None if view == "window" else -1]
    assert result.sample.tolist() == remaining
    assert result.excluded["beats with missing samples"] == len(gone)
    assert np.isfinite(result.x).all()
    assert np.isfinite(result.features).all()


def test_a_lead_that_was_never_recorded_leaves_no_beat(folder: Path, write_recording: Write) -> None:
    digital = np.random.default_rng(3).integers(-500, 500, size=(SAMPLES, 2))
    digital[:, 1] = -32768
    folders = list(range(100, SAMPLES, 125))
    write_recording(folder, "one", digital, folders, ["N"] * len(folders))
    both = beats.cut_beats(recordings.read_recording(folder, "one"), "window", 2)
    assert len(both.sample) == 0
    assert both.excluded == {"beats with missing samples": len(folders)}
    assert len(beats.cut_beats(recordings.read_recording(folder, "one"), "window", 1).sample) == len(folders)


@pytest.mark.parametrize(
    ("line", "age", "sex"),
    [
        ("# 69 M 1085 1629 x1", 69, 1),
        ("# -1 F 1960 1629 x1\r", np.nan, 0),
        ("# age: 47 sex: F", 47, 0),
        ("#age: 51.5 sex: M", 51.5, 1),
        ("# 200 mg Metoprolol", np.nan, -1),
    ],
)
def test_age_and_sex_are_read_from_a_headers_comments(tmp_path: Path, line: str, age: float, sex: int) -> None:
    (tmp_path / "x.hea").write_text(
        f"# made\nx 1 360/720(0) 650000\nx.dat 16\n# SYNTHETIC\n{line}\n# Aldomet\n", "latin-1"
    )
    header = read_header(tmp_path / "x.hea")
    np.testing.assert_equal(read_age_and_sex(header), (age, sex))
    assert header.rate == 360


def test_a_beat_stands_for_the_time_since_the_one_before(hospitals: Path, tmp_path: Path) -> None:
    directory = hospitals / "north"
    names = recordings.recording_names(directory)
    cohort = read_beats(directory, Options(paced=True), names, tmp_path, names)
    assert cohort.hours is not None
    assert cohort.age is not None
    assert cohort.sex is not None
    for i, name in enumerate(names):
        marks = wfdb.rdann(str(directory / name), "atr")
        last = marks.sample[np.isin(marks.symbol, list(beats.AAMI_CLASSES))][-1]
        spent = float(cohort.hours[cohort.patient == i].sum())
        assert spent <= last / wfdb.rdheader(str(directory / name)).fs / 3600 * (1 + 1e-5)
        assert spent > 0.8 * last / wfdb.rdheader(str(directory / name)).fs / 3600
        assert 18 <= cohort.age[i] < 110
        assert cohort.sex[i] in (0, 1)
