"""Lists of recordings, people and segments as they occur outside of the well-known databases."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb

from sites.datasets import mitdb
from sites.datasets.mitdb import Options
from sites.ecg import recordings
from sites.ecg.headers import read_header
from sites.ecg.persons import read_age_and_sex, recording_persons
from sites.unlabelled.recordings import find_recordings
from tests.sites.ecg.odd_record_checks import expect_all_beats, expect_height, read, refusal, score
from tests.sites.ecg.odd_records import BEATS, RATE, SAMPLES, SECONDS, Channel, OddRecord, ecg


def segments(folder: Path, master: bool = True) -> None:
    half = SAMPLES // 2
    for number, part in enumerate((slice(0, half), slice(half, SAMPLES)), 1):
        channels = [Channel(ecg()[part]), Channel((ecg() // 2)[part], "V5")]
        record = OddRecord(folder, f"r_{number}", channels)
        record.write()
        if not master:
            here = BEATS[(part.start <= BEATS) & (part.stop > BEATS)] - part.start
            record.annotate(here)
    if master:
        (folder / "r.hea").write_text(f"r/2 2 250 {SAMPLES}\nr_1 {half}\nr_2 {half}\n")


def test_a_record_of_segments_is_one_recording(tmp_path: Path) -> None:
    segments(tmp_path)
    OddRecord(tmp_path).annotate()
    assert find_recordings(tmp_path) == ("r",)
    expect_height(tmp_path)
    expect_all_beats(tmp_path)
    files = recordings.recording_files(tmp_path, "r")
    assert {path.name for path in files} == {"r.hea", "r_1.hea", "r_1.dat", "r_2.hea", "r_2.dat", "r.atr"}


def test_a_gap_between_segments_and_a_lead_that_a_segment_lacks_are_missing(tmp_path: Path) -> None:
    segments(tmp_path)
    half = SAMPLES // 2
    OddRecord(tmp_path, "r_2", [Channel(ecg()[half:])]).write()
    OddRecord(tmp_path, "layout", [Channel(ecg()[:1]), Channel(ecg()[:1], "V5")]).write()
    lines = [f"r/4 2 250 {SAMPLES + 100}", "layout 0", f"r_1 {half}", "~ 100", f"r_2 {half}"]
    (tmp_path / "r.hea").write_text("\n".join(lines) + "\n")
    signal = recordings.read_recording(tmp_path, "r", None).signal
    assert signal.shape == (SAMPLES + 100, 2)
    missing = np.isnan(signal)
    assert np.flatnonzero(missing[:, 0]).tolist() == list(range(half, half + 100))
    assert np.flatnonzero(missing[:, 1]).tolist() == list(range(half, SAMPLES + 100))


def test_a_segment_that_is_not_there_is_named(tmp_path: Path) -> None:
    segments(tmp_path)
    (tmp_path / "r_2.hea").unlink()
    assert "r_2.hea" in refusal(lambda: recordings.read_recording(tmp_path, "r", None))


@pytest.mark.parametrize(("fmt", "missing"), [("508", -128), ("516", -(2**15)), ("524", -(2**23))])
def test_a_missing_sample_of_a_compressed_format_is_missing(tmp_path: Path, fmt: str, missing: int) -> None:
    pytest.importorskip("soundfile")
    values = np.clip(ecg(), -100, 100)
    values[1000:1300] = missing
    wfdb.wrsamp(
        "r", fs=RATE, units=["mV"], sig_name=["II"], d_signal=values[:, None], fmt=[fmt], adc_gain=[200.0],
        baseline=[0], write_dir=str(tmp_path),
    )  # fmt: skip
    OddRecord(tmp_path).annotate()
    signal = read(tmp_path).signal
    assert np.isnan(signal).sum() == 300
    rows = score(tmp_path, leads=1)
    lost = [item for item in rows.exclusions if item.reason == "missing samples"]
    assert len(lost) in (1, 2)
    assert len(rows.cohort.y) == len(BEATS) - len(lost)


def test_a_list_may_name_recordings_in_folders(tmp_path: Path) -> None:
    record = OddRecord(tmp_path / "w1")
    record.write()
    record.annotate()
    (tmp_path / "RECORDS").write_bytes(b"w1/r\r\n\r\n")
    assert find_recordings(tmp_path) == ("w1/r",)
    expect_all_beats(tmp_path, name="w1/r")
    everyone = mitdb.patients(tmp_path, Options(), tmp_path / "store")
    assert [item.examples for item in everyone] == [(len(BEATS), 0, 0, 0)]
    assert len(mitdb.read(tmp_path, Options(), ["w1/r"], tmp_path / "store").y) == len(BEATS)


def test_a_list_may_name_folders(tmp_path: Path) -> None:
    OddRecord(tmp_path / "g1").write()
    OddRecord(tmp_path / "g2" / "deep", "s").write()
    (tmp_path / "g2" / "RECORDS").write_text("deep/s\n")
    (tmp_path / "RECORDS").write_text("g1/\ng2/\n")
    assert find_recordings(tmp_path) == ("g1/r", "g2/deep/s")
    assert recordings.recording_names(tmp_path) == ("g1/r", "g2/deep/s")


def test_leftovers_of_macos_are_no_recordings(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate()
    (tmp_path / "._r.hea").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    assert recordings.recording_names(tmp_path) == ("r",)
    shutil.copytree(tmp_path, tmp_path / "below")
    for path in tmp_path.glob("r.*"):
        path.unlink()
    (tmp_path / "._r.hea").unlink()
    assert find_recordings(tmp_path) == ("below/r",)


@pytest.mark.parametrize(
    ("comments", "age", "sex"),
    [
        (["# 90+ M"], 90, 1),
        (["# -1 F"], np.nan, 0),
        (["# NaN M"], np.nan, 1),
        (["# Age: 69  Sex: F"], 69, 0),
        (["# <age>: 28  <sex>: M"], 28, 1),
        (["#Age: 74", "#Sex: Male"], 74, 1),
        (["# 69 M 1085 1629 x1"], 69, 1),
        (["# age: 69 sex: F"], 69, 0),
        (["# 690 M"], np.nan, 1),
        (["# Gender: female, age 41"], 41, 0),
        (["# dosage: 50 mg"], np.nan, -1),
    ],
)
def test_age_and_sex_in_the_forms_that_occur(tmp_path: Path, comments: list[str], age: float, sex: int) -> None:
    OddRecord(tmp_path, comments=comments).write()
    np.testing.assert_equal(read_age_and_sex(read_header(tmp_path / "r.hea")), (age, sex))


def test_segments_without_a_common_header_are_one_person(tmp_path: Path) -> None:
    segments(tmp_path, master=False)
    everyone = mitdb.patients(tmp_path, Options(), tmp_path / "store")
    assert [item.id for item in everyone] == ["r_1", "r_2"]
    assert len({item.person for item in everyone}) == 1
    assert mitdb.read(tmp_path, Options(), ["r_1", "r_2"], tmp_path / "store").persons == ("r", "r")


@pytest.mark.parametrize(
    ("names", "people"),
    [
        (("100", "101"), 2),
        (("subject_1", "subject_2"), 2),
        (("ward-001", "ward-002"), 2),
        (("p00001_s00", "p00001_s01", "p00002_s00"), 2),
        (("data_0_1", "data_0_2", "data_1_1"), 2),
        (("patient001/s0010", "patient001/s0014", "patient002/s0010"), 2),
        (("g1/A0001", "g1/A0002"), 2),
    ],
)
def test_people_by_the_names_of_recordings(tmp_path: Path, names: tuple[str, ...], people: int) -> None:
    for number, name in enumerate(names):
        values = ecg() + number
        OddRecord((tmp_path / name).parent, name.rpartition("/")[2], [Channel(values)]).write()
    assert len(set(recording_persons(tmp_path, names).values())) == people


def test_the_same_signal_under_two_names_is_one_person(tmp_path: Path) -> None:
    OddRecord(tmp_path, "a").write()
    OddRecord(tmp_path, "b").write()
    OddRecord(tmp_path, "c", [Channel(ecg() + 1), Channel(ecg() // 2, "V5")]).write()
    persons = recording_persons(tmp_path, ("a", "b", "c"))
    assert persons["a"] == persons["b"] != persons["c"]


def test_a_header_may_say_whose_the_recording_is(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        OddRecord(tmp_path, name, [Channel(ecg() + number)], comments=[f"# patient {number // 2 + 1}"]).write()
    persons = recording_persons(tmp_path, ("a", "b", "c"))
    assert persons["a"] == persons["b"] != persons["c"]


def test_the_seconds_of_the_signal_are_those_of_the_header() -> None:
    assert SAMPLES / RATE == SECONDS
