"""Recordings and label tables as programs and people write them: ranges, formats, rhythms with an end, spellings."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edfio import Edf, EdfAnnotation, EdfSignal

from common.errors import DataError
from common.settings import validate_settings
from sites.datasets import recordings as own
from sites.datasets.recordings.description import Description
from sites.datasets.recordings.guess import guess_description
from sites.ecg.annotation_file import read_annotation_file
from sites.ecg.annotations import read_annotations
from sites.ecg.edf import read_edf_person, read_edf_recording
from sites.ecg.headers import read_header
from sites.ecg.persons import read_age_and_sex
from sites.ecg.recordings import read_recording

RATE = 125
RHYTHMS = [{"name": "sinus", "values": ["sinus"]}, {"name": "AF", "values": ["AFIB"]}]
CLASSES = [{"name": "a", "values": ["a"]}, {"name": "b", "values": ["b"]}]


def ecg(seconds: int = 12) -> np.ndarray:
    signal = 0.02 * np.random.default_rng(3).normal(size=(seconds * RATE, 2))
    for beat in range(seconds):
        signal[beat * RATE + 60 : beat * RATE + 64] += 1.0
    return signal


def write_edf(path: Path, seconds: int = 12, marks: Any = ()) -> None:
    signals = [
        EdfSignal(column * 1000, RATE, label=f"ECG {name}", physical_dimension="uV", physical_range=(-5000, 5000))
        for column, name in zip(ecg(seconds).T, ("II", "V1"), strict=True)
    ]
    Edf(signals, annotations=[EdfAnnotation(*mark) for mark in marks]).write(path)


def patch(path: Path, at: int, text: str, width: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + width] = text.ljust(width).encode("latin-1")
    path.write_bytes(content)


@pytest.mark.parametrize("text", ["5000", "-5000,0", "abc", "", "nan", "-inf", "1e400"])
def test_an_edf_range_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    write_edf(tmp_path / "r.edf")
    signals = int((tmp_path / "r.edf").read_bytes()[252:256])
    patch(tmp_path / "r.edf", 256 + 104 * signals, text, 8)
    with pytest.raises(DataError, match=r"ECG II: its physical or digital range is none: correct the header"):
        read_edf_recording(tmp_path / "r.edf", "r")


def test_an_edf_file_that_is_cut_or_of_24_bits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.edf"
    write_edf(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"truncated, {len(whole) - 1} of {len(whole)} bytes"):
        read_edf_recording(path, "r")
    path.write_bytes(b"\xffBIOSEMI" + whole[8:])
    with pytest.raises(DataError, match=r"BioSemi \(BDF\)"):
        read_edf_recording(path, "r")


@pytest.mark.parametrize(
    ("marks", "start", "y"),
    [
        ([(6.0, 6.0, "AFIB"), (24.0, None, "sinus")], [6, 24, 30, 36], [1, 0, 0, 0]),
        ([(0.0, 12.0, "sinus"), (12.0, 12.0, "AFIB")], [0, 6, 12, 18], [0, 0, 1, 1]),
    ],
)
def test_a_rhythm_ends_where_its_annotation_ends(tmp_path: Path, marks: Any, start: list[int], y: list[int]) -> None:
    write_edf(tmp_path / "r.edf", 42, marks)
    settings = {"read": {"files": "edf", "annotator": None}, "examples": "strips", "labels": "rhythms", "seconds": 6,
                "rate": 100, "classes": RHYTHMS}  # fmt: skip
    cohort = own.read(tmp_path, validate_settings(Description, settings, "test"), ["r"], tmp_path / "store")
    assert cohort.seconds is not None
    assert (cohort.seconds.tolist(), cohort.y.tolist()) == (start, y)


@pytest.mark.parametrize("code", ["anonymous", "0", "Unknown", "XXXX"])
def test_a_code_that_names_nobody_makes_no_two_recordings_one_persons(tmp_path: Path, code: str) -> None:
    write_edf(tmp_path / "r.edf")
    patch(tmp_path / "r.edf", 8, f"{code} F 01-JAN-1950 X", 80)
    assert read_edf_person(tmp_path / "r.edf").code == ""


def aha(code: str, time: int) -> bytes:
    return bytes([0, ord(code)]) + struct.pack("<IH", time, 0) + bytes(8)


@pytest.mark.parametrize("codes", ["N", "NVN", "[N]"])
def test_annotations_of_the_aha_database_are_named(tmp_path: Path, codes: str) -> None:
    (tmp_path / "r.atr").write_bytes(b"".join(aha(code, 496 + 1000 * i) for i, code in enumerate(codes)))
    with pytest.raises(DataError, match="in the format of the AHA database, not of WFDB"):
        read_annotation_file(tmp_path / "r.atr")


@pytest.mark.parametrize("text", ["45?", "45 to 50", "45\N{EN DASH}50", "5 hours", "5 h"])
def test_an_age_that_is_no_single_number_of_years_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.hea").write_text(f"r 1 125 10\nr.dat 16 1000 16 0 0 0 0 II\n# Age: {text}\n")
    assert np.isnan(read_age_and_sex(read_header(tmp_path / "r.hea"))[0])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("16", "61", "several formats or byte offsets"),
        ("16", "16+4", "several formats or byte offsets"),
        ("16 1e400", "16", "expected a gain"),
        ("16 1e-300/mV", "16", "expected a gain"),
        ("16 /mV 16 0", "16", "expected a gain"),
        ("16 ./mV", "16", "expected a gain"),
    ],
)
def test_signals_that_cannot_share_a_file_are_named(tmp_path: Path, first: str, second: str, message: str) -> None:
    (tmp_path / "r.hea").write_text(f"r 2 125 1500\nr.dat {first}\nr.dat {second}\n")
    (tmp_path / "r.dat").write_bytes(bytes(6004))
    with pytest.raises(DataError, match=message):
        read_recording(tmp_path, "r", None)


def read_table(folder: Path, write: Callable[..., None], rows: list[str], names: Any = None, **columns: str) -> Any:
    for number, name in enumerate(names or ("r0", "r1")):
        write(folder, name, np.rint(ecg() * 1000) + number, [9], ["N"], leads=("II", "V1"))
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    table = {"file": "labels.csv", "recording": "rec", "label": "y", **columns}
    settings = {"read": {"annotator": None, "table": table}, "examples": "strips", "labels": "table", "seconds": 6,
                "rate": 100, "classes": CLASSES}  # fmt: skip
    return own.patients(folder, validate_settings(Description, settings, "test"), folder / "store")


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        (("40", "999"), "age", r"row 2, column x: not an age of 0 to 120 years"),
        (("40", "-1"), "age", r"row 2, column x: not an age of 0 to 120 years"),
        (("7", "07"), "patient", "1 patients are written in several ways"),
        (("P1", "p1"), "patient", "1 patients are written in several ways"),
        (("1.23457E+11", "1.23457E+11"), "patient", "1 patients have numbers such as 1.23457E\\+11"),
        (("Basel", "basel"), "hospital", "Basel, basel differ only in spelling"),
    ],
)
def test_cells_of_a_label_table_that_mislead_are_named(
    tmp_path: Path, write_recording: Callable[..., None], cells: tuple[str, str], column: str, message: str
) -> None:
    rows = ["rec,y,x", f"r0,a,{cells[0]}", f"r1,b,{cells[1]}"]
    with pytest.raises(DataError, match=message):
        read_table(tmp_path, write_recording, rows, **{column: "x"})


@pytest.mark.parametrize(("names", "first"), [(("r0", "r1"), "R0"), (("0001", "0002"), "1")])
def test_a_recording_in_another_spelling_is_named(
    tmp_path: Path, write_recording: Callable[..., None], names: tuple[str, str], first: str
) -> None:
    with pytest.raises(DataError, match=f"{first} is written otherwise than the recording {names[0]}"):
        read_table(tmp_path, write_recording, ["rec,y", f"{first},a", f"{names[1]},b"], names)


@pytest.mark.parametrize("form", ["{}.DAT", "./{}", "{}.HEA", "{}.mat"])
def test_recordings_may_be_listed_by_their_files(
    tmp_path: Path, write_recording: Callable[..., None], form: str
) -> None:
    rows = ["rec,y", f"{form.format('r0')},a", f"{form.format('r1')},b"]
    assert [item.id for item in read_table(tmp_path, write_recording, rows)] == ["r0", "r1"]


def test_an_ecg_lead_in_a_unit_that_is_no_voltage_is_refused(tmp_path: Path) -> None:
    write_edf(tmp_path / "r.edf")
    signals = int((tmp_path / "r.edf").read_bytes()[252:256])
    patch(tmp_path / "r.edf", 256 + 96 * signals + 8, "mmHg", 8)
    with pytest.raises(DataError, match="ECG V1 is an ECG lead, but its unit is mmHg, which is no voltage"):
        read_edf_recording(tmp_path / "r.edf", "r")


@pytest.mark.parametrize("kinds", [(np.dtype(">u2"), None), (np.dtype("<u2"), [41, 43, 55, 50])])
def test_annotations_of_another_byte_order_or_format_are_refused(tmp_path: Path, kinds: Any) -> None:
    order, codes = kinds
    words = [(codes or [1])[i % len(codes or [1])] << 10 | (0xC8 if codes is None else 90) for i in range(12)]
    (tmp_path / "r.atr").write_bytes(np.asarray([*words, 0], order).tobytes())
    with pytest.raises(DataError, match="most of its codes are none of WFDB's: is it of another format or byte order"):
        read_annotations(tmp_path / "r.atr", 10**9, 360, 360)


def folder_of_recordings(folder: Path, write_recording: Callable[..., None], shift: int = 0) -> None:
    for name in ("r1", "r2", "r3"):
        at = [beat * RATE + 62 + shift for beat in range(30)]
        codes = ["V" if beat % 4 == 2 else "N" for beat in range(30)]
        write_recording(folder, name, np.rint(ecg(31) * 1000), at, codes, leads=("II", "V1"))


def test_two_annotators_and_two_kinds_of_files_are_named(tmp_path: Path, write_recording: Callable[..., None]) -> None:
    folder_of_recordings(tmp_path, write_recording)
    for name in ("r1", "r2"):
        (tmp_path / f"{name}.man").write_bytes((tmp_path / f"{name}.atr").read_bytes())
    write_edf(tmp_path / "r9.edf")
    _, look = guess_description(tmp_path)
    texts = [f"{item.level}: {item.text}" for item in look.findings]
    assert any(text.startswith("check: annotations of .atr are used, and not those of .man") for text in texts)
    assert any(text.startswith("check: 1 EDF files are left out, because there are WFDB recordings") for text in texts)
    assert not any("R wave" in text for text in texts)


def test_annotations_that_are_not_on_the_waves_are_named(tmp_path: Path, write_recording: Callable[..., None]) -> None:
    folder_of_recordings(tmp_path, write_recording, shift=RATE // 2 - 5)
    _, look = guess_description(tmp_path)
    assert any("in 3 of 3 recordings most beats are annotated where no R wave" in item.text for item in look.findings)


def test_channels_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_edf(tmp_path / "r.edf", 12, [(1.0, None, "N"), (2.0, None, "V"), (3.0, None, "N")])
    signals = int((tmp_path / "r.edf").read_bytes()[252:256])
    patch(tmp_path / "r.edf", 256 + 16, "ABP", 16)
    patch(tmp_path / "r.edf", 256 + 96 * signals + 8, "mmHg", 8)
    _, look = guess_description(tmp_path)
    assert any(item.text == "channels that are not read, because they are no ECG: ABP (1)" for item in look.findings)


def test_samples_beyond_the_digital_range_of_an_edf_header_refuse_it(tmp_path: Path) -> None:
    path = tmp_path / "r.edf"
    write_edf(path)
    signals = int(path.read_bytes()[252:256])
    patch(path, 256 + 120 * signals, "-50", 8)
    patch(path, 256 + 128 * signals, "50", 8)
    with pytest.raises(DataError, match="ECG II: samples lie beyond the digital range of its header: correct"):
        read_edf_recording(path, "r")


def read_edf_beats(folder: Path, marks: Any) -> Any:
    folder.mkdir(exist_ok=True)
    write_edf(folder / "r.edf", 30, marks)
    settings = {"read": {"files": "edf", "annotator": None}, "examples": "beats", "labels": "beats", "leads": 1,
                "classes": [{"name": "N", "values": ["N"]}, {"name": "V", "values": ["V"]}]}  # fmt: skip
    return own.read(folder, validate_settings(Description, settings, "test"), ["r"], folder / "store")


EDF_BEATS = [(second + 0.496, None, "V" if second % 4 == 2 else "N") for second in range(1, 29)]


def test_beats_that_edf_annotates_twice_count_once(tmp_path: Path) -> None:
    once = read_edf_beats(tmp_path / "once", EDF_BEATS)
    twice = read_edf_beats(tmp_path / "twice", [*EDF_BEATS, *((at + 0.05, None, text) for at, _, text in EDF_BEATS)])
    assert twice.excluded["beats that are annotated more than once"] == len(EDF_BEATS)
    np.testing.assert_array_equal(twice.y, once.y)
    np.testing.assert_array_equal(twice.features, once.features)


def test_beats_that_edf_annotates_beyond_the_signal_are_counted(tmp_path: Path) -> None:
    cohort = read_edf_beats(tmp_path, [*EDF_BEATS, (30.5, None, "N"), (31.5, None, "V"), (31.0, None, "a note")])
    assert cohort.excluded["beats annotated after the end of the signal"] == 2


@pytest.mark.parametrize(("words", "sex"), [("17 f 01-JAN-1950 X", 0), ("17 male X X", 1), ("17 W X X", 0)])
def test_a_sex_in_another_spelling_does_not_hide_whose_a_recording_is(tmp_path: Path, words: str, sex: int) -> None:
    write_edf(tmp_path / "r.edf")
    patch(tmp_path / "r.edf", 8, words, 80)
    person = read_edf_person(tmp_path / "r.edf")
    assert (person.code, person.sex) == ("17", sex)
