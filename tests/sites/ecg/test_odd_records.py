"""Records as they occur outside of the well-known databases: read rightly, or refused by name; never read wrongly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from common.config import parse_config
from common.errors import DataError
from sites import datasets
from sites.datasets import mitdb
from sites.datasets.mitdb import Options
from sites.ecg import beats, recordings
from sites.ecg.headers import read_header
from sites.ecg.persons import read_age_and_sex, recording_persons
from sites.ecg.recordings import Recording
from sites.unlabelled.recordings import InputForm, find_recordings, input_form, read_rows
from sites.unlabelled_rows import ScorableRows
from tests.sites.ecg.odd_records import BEATS, HEIGHT, RATE, SAMPLES, SECONDS, Channel, OddRecord, ecg, pressure

Form = Callable[[Path], OddRecord]


def form(leads: int = 2) -> InputForm:
    config = parse_config({"data": {"dataset": "mitdb", "options": {"leads": leads}}})
    return input_form(datasets.open_source(config, Path()))


def read(folder: Path, name: str = "r") -> Recording:
    return recordings.read_recording(folder, name)


def score(folder: Path, leads: int = 2, name: str = "r") -> ScorableRows:
    return read_rows(folder, name, form(leads))


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    text = str(caught.value)
    assert "\n" not in text
    return text


def expect_all_beats(folder: Path, leads: int = 2, name: str = "r", tolerance: float = 0.0) -> ScorableRows:
    rows = score(folder, leads, name)
    seconds = rows.columns["seconds"]
    assert len(seconds) == len(BEATS)
    assert np.abs(seconds - BEATS / RATE).max() <= tolerance
    return rows


def expect_height(folder: Path, name: str = "r") -> None:
    """The R peaks of both leads have their heights in mV."""
    signal = read(folder, name).signal
    for lead, height in enumerate((HEIGHT, HEIGHT / 2)):
        assert np.abs(signal[BEATS, lead] - height).max() < 0.05


# Which channel is an ECG


def pressure_first(folder: Path, **other: str) -> OddRecord:
    channels = [Channel(pressure(), "ABP", "mmHg", "10(-800)"), Channel(ecg(), **{"name": "ECG", **other})]
    return OddRecord(folder, channels=channels)


def test_a_pressure_is_never_scored_as_an_ecg(tmp_path: Path) -> None:
    pressure_first(tmp_path).write()
    rows = expect_all_beats(tmp_path, leads=1, tolerance=0.02)
    assert rows.about["leads"] == "ECG"
    assert "1 lead(s)" in refusal(lambda: score(tmp_path, leads=2))


def test_a_record_without_a_channel_in_volts_is_refused_with_its_units(tmp_path: Path) -> None:
    OddRecord(tmp_path, channels=[Channel(pressure(), "ABP", "mmHg"), Channel(pressure(), "CVP", "cmH2O")]).write()
    text = refusal(lambda: read(tmp_path).signal if score(tmp_path, leads=1) else None)
    assert "r.hea" in text
    assert "ABP in mmHg" in text
    assert "CVP in cmH2O" in text


@pytest.mark.parametrize("name", ["RESP", "Resp (sum)", "EEG Fpz-Cz", "EMG submental", "Pleth", "C4-A1", "ART"])
def test_a_channel_that_is_named_after_another_signal_is_no_ecg_in_millivolts_either(tmp_path: Path, name: str) -> None:
    OddRecord(tmp_path, channels=[Channel(pressure(), name), Channel(ecg(), "ECG1")]).write()
    assert expect_all_beats(tmp_path, leads=1, tolerance=0.02).about["leads"] == "ECG1"


@pytest.mark.parametrize("name", ["ii", "II", "lead ii", "Lead II", "ECG lead II", "ECG II", "EKG_II", "II (ECG)"])
def test_lead_names_are_recognised_in_any_spelling(tmp_path: Path, name: str) -> None:
    OddRecord(tmp_path, channels=[Channel(pressure(), "V1"), Channel(ecg(), name)]).write()
    assert expect_all_beats(tmp_path, leads=1, tolerance=0.02).about["leads"] == "II"


@pytest.mark.parametrize(("name", "lead"), [("mlii", "MLII"), ("ECG lead MLII", "MLII"), ("avr", "aVR"), ("v1", "V1")])
def test_lead_names_are_returned_in_one_spelling(tmp_path: Path, name: str, lead: str) -> None:
    OddRecord(tmp_path, channels=[Channel(ecg(), name)]).write().joinpath("r.atr").unlink(missing_ok=True)
    assert recordings.read_recording(tmp_path, "r", None).leads == (lead,)


# Units


@pytest.mark.parametrize(
    ("unit", "gain", "encoding"),
    [
        ("mV", "200", "utf-8"),
        ("mv", "200", "utf-8"),
        ("uV", "0.2", "utf-8"),
        ("UV", "0.2", "utf-8"),
        ("\N{MICRO SIGN}V", "0.2", "utf-8"),
        ("\N{MICRO SIGN}V", "0.2", "latin-1"),
        ("\N{GREEK SMALL LETTER MU}V", "0.2", "utf-8"),
        ("nV", "0.0002", "utf-8"),
        ("V", "200000", "utf-8"),
        ("v", "200000", "utf-8"),
    ],
)
def test_every_unit_of_a_voltage_becomes_millivolts(tmp_path: Path, unit: str, gain: str, encoding: str) -> None:
    channels = [Channel(ecg(), "II", unit, gain), Channel(ecg() // 2, "V5", unit, gain)]
    record = OddRecord(tmp_path, channels=channels, encoding=encoding)
    record.write()
    record.annotate()
    expect_height(tmp_path)
    expect_all_beats(tmp_path)


@pytest.mark.parametrize("unit", ["NU", "mV/s", "\N{DEGREE SIGN}C", "mmHg", "bpm"])
def test_a_lead_whose_unit_is_no_voltage_is_refused_by_name(tmp_path: Path, unit: str) -> None:
    record = OddRecord(tmp_path, channels=[Channel(ecg(), "II", unit), Channel(ecg() // 2, "V5", unit)])
    record.write()
    record.annotate()
    assert f"II in {unit}" in refusal(lambda: score(tmp_path))
    record = OddRecord(tmp_path, channels=[Channel(ecg(), "II", unit), Channel(ecg() // 2, "V5")])
    record.write()
    assert f"II in {unit}" in refusal(lambda: score(tmp_path, leads=1))


def test_a_temperature_beside_an_ecg_does_not_disturb_it(tmp_path: Path) -> None:
    record = OddRecord(tmp_path, channels=[Channel(pressure(), "Temp", "\N{DEGREE SIGN}C"), Channel(ecg(), "II")])
    record.write()
    record.annotate()
    expect_all_beats(tmp_path, leads=1)


# Annotations


@pytest.mark.parametrize("clock", [125, 250, 500, 1000])
def test_the_time_resolution_of_an_annotation_file_is_honoured(tmp_path: Path, clock: int) -> None:
    record = OddRecord(tmp_path)
    record.write()
    even = BEATS // 2 * 2
    record.annotate(even * clock // RATE, fs=clock)
    seconds = score(tmp_path).columns["seconds"]
    np.testing.assert_allclose(seconds, even / RATE)


def test_a_beat_that_is_annotated_twice_counts_once_and_is_reported(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate(np.sort(np.concatenate([BEATS, BEATS[3:9]])))
    rows = expect_all_beats(tmp_path)
    assert [(item.reason, item.rows) for item in rows.exclusions] == [("beats that are annotated more than once", 6)]
    plain = OddRecord(tmp_path, "plain")
    plain.write()
    plain.annotate()
    np.testing.assert_array_equal(rows.cohort.features, score(tmp_path, name="plain").cohort.features)
    cut = beats.cut_beats(read(tmp_path), "window", 2)
    assert cut.excluded == {"beats that are annotated more than once": 6}


def test_beats_that_are_annotated_on_two_channels_count_once(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    sample = np.stack([BEATS, BEATS + 4], axis=1).ravel()
    record.annotate(sample, chan=np.tile([0, 1], len(BEATS)))
    rows = expect_all_beats(tmp_path)
    assert sum(item.rows for item in rows.exclusions) == len(BEATS)


def test_of_two_annotations_of_one_beat_the_one_with_a_class_counts(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate(np.sort(np.concatenate([BEATS, BEATS[3:4]])), ["N"] * 3 + ["?", "V"] + ["N"] * (len(BEATS) - 4))
    assert score(tmp_path).columns["reference"].tolist() == ["N"] * 3 + ["V"] + ["N"] * (len(BEATS) - 4)


def test_a_beat_after_the_end_is_dropped_and_reported(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    for late in (SAMPLES, SAMPLES + 50):
        record.annotate(np.append(BEATS, late))
        rows = expect_all_beats(tmp_path)
        assert [(item.reason, item.rows) for item in rows.exclusions] == [
            ("beats annotated after the end of the signal", 1)
        ]
    record.annotate(np.append(BEATS, SAMPLES), ["N"] * len(BEATS) + ["+"], aux_note=[""] * len(BEATS) + ["(N"])
    assert expect_all_beats(tmp_path).exclusions == ()
    record.annotate(BEATS * 4)
    text = refusal(lambda: score(tmp_path))
    assert f"beyond the {SAMPLES} samples" in text
    assert "do not belong together" in text


AAMI = {"N": "NLRBej", "S": "AaJSn", "V": "VEr", "F": "F", "Q": "/fQ", "?": "?"}


@pytest.mark.parametrize(("label", "codes"), AAMI.items())
def test_every_beat_code_of_wfdb_has_a_class_or_is_a_beat_without_one(tmp_path: Path, label: str, codes: str) -> None:
    record = OddRecord(tmp_path)
    record.write()
    for code in codes:
        record.annotate(BEATS, ["N"] * 4 + [code] + ["N"] * (len(BEATS) - 5))
        cut = beats.cut_beats(read(tmp_path), "window", 2)
        assert "".join(cut.label) == "NNNN" + label + "N" * (len(BEATS) - 5)
        rows = expect_all_beats(tmp_path)
        assert rows.columns["reference"][4] == ("" if label == "?" else label)


def test_all_beats_of_wfdb_are_known() -> None:
    # ecgmap.h's isqrs: these annotation codes of the WFDB library are beats.
    known = {
        item.symbol
        for item in wfdb.io.annotation.ann_labels
        if item.label_store in {*range(1, 14), 25, 30, 34, 35, 38, 41}
    }
    assert known == set("".join(AAMI.values()))


def test_a_beat_without_a_class_is_counted_and_stays_in_the_intervals(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate()
    plain = mitdb.read(tmp_path, Options(), ["r"], tmp_path / "store")
    record.annotate(BEATS, ["N"] * 4 + ["?"] + ["N"] * (len(BEATS) - 5))
    cohort = mitdb.read(tmp_path, Options(), ["r"], tmp_path / "store")
    assert cohort.excluded == {"beats without a class": 1}
    assert mitdb.patients(tmp_path, Options(), tmp_path / "store")[0].examples == (len(BEATS) - 1, 0, 0, 0)
    np.testing.assert_array_equal(cohort.features, np.delete(plain.features, 4, axis=0))


def test_annotations_without_a_beat_or_an_end_mark_are_refused(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    (tmp_path / "r.atr").write_bytes(b"")
    assert "no end mark" in refusal(lambda: score(tmp_path))
    record.annotate()
    (tmp_path / "r.atr").write_bytes((tmp_path / "r.atr").read_bytes()[:-2])
    assert "no end mark" in refusal(lambda: score(tmp_path))


# Headers


def plain(folder: Path) -> OddRecord:
    return OddRecord(folder)


def with_first(text: str) -> Form:
    return lambda folder: OddRecord(folder, first=text)


def without_names(folder: Path) -> OddRecord:
    return OddRecord(folder, lines=["r.dat 16", "r.dat 16"])


def zero_checksums(folder: Path) -> OddRecord:
    return OddRecord(
        folder, channels=[Channel(ecg(), checksum=0, initial=0), Channel(ecg() // 2, "V5", checksum=0, initial=0)]
    )


def skewed(folder: Path, checksum: int | str | None = None) -> OddRecord:
    """The second lead was sampled five samples late."""
    late = ecg() // 2
    late = np.concatenate([np.full(5, late[0]), late[:-5]])
    return OddRecord(
        folder, channels=[Channel(ecg(), checksum=checksum), Channel(late, "V5", form="16:5", checksum=checksum)]
    )


def skewed_without_checksums(folder: Path) -> OddRecord:
    record = skewed(folder, "")
    record.lines = [f"{channel.line('r.dat')} 16 0" for channel in record.channels]
    return record


def offset(folder: Path) -> OddRecord:
    channels = [Channel(ecg(), form="16+24"), Channel(ecg() // 2, "V5", form="16+24")]
    both = np.stack([channel.values for channel in channels], 1).ravel()
    return OddRecord(folder, channels=channels, data=np.concatenate([np.full(12, 257), both]))


READABLE: dict[str, Form] = {
    "plain": plain,
    "lines end as on Windows": lambda folder: OddRecord(folder, end="\r\n"),
    "a byte order mark": lambda folder: OddRecord(folder, encoding="utf-8-sig"),
    "a Latin-1 comment": lambda folder: OddRecord(folder, comments=["# 69 M M\u00fcller"], encoding="latin-1"),
    "a counter frequency": with_first(f"r 2 250/72(0) {SAMPLES}"),
    "no rate": with_first("r 2"),
    "no length": with_first("r 2 250"),
    "length 0": with_first("r 2 250 0"),
    "a date with dashes": with_first(f"r 2 250 {SAMPLES} 05-May-2020 09:49:17"),
    "a date before 1970": with_first(f"r 2 250 {SAMPLES} 10:00:00 05/05/1969"),
    "a year alone": with_first(f"r 2 250 {SAMPLES} 2006"),
    "no gain and no name": without_names,
    "gain 0": lambda folder: OddRecord(
        folder, channels=[Channel(ecg(), gain="0"), Channel(ecg() // 2, "V5", gain="0")]
    ),
    "checksums 0 and 0": zero_checksums,
    "bytes before the signal": offset,
    "skew": skewed,
    "skew without checksums": skewed_without_checksums,
}


@pytest.mark.parametrize("gain", ["-200", "200"])
def test_an_inverted_ecg_has_the_same_beats(tmp_path: Path, gain: str) -> None:
    sign = 1 if gain == "-200" else -1
    OddRecord(
        tmp_path, channels=[Channel(sign * ecg(), gain=gain), Channel(sign * (ecg() // 2), "V5", gain=gain)]
    ).write()
    expect_all_beats(tmp_path, tolerance=0.02)
    np.testing.assert_allclose(recordings.read_recording(tmp_path, "r", None).signal[BEATS, 0], -HEIGHT, atol=0.05)


@pytest.mark.parametrize("content", [b"\0\0", None], ids=["an end mark alone", "a rhythm mark alone"])
def test_beats_are_detected_where_annotations_hold_none(tmp_path: Path, content: bytes | None) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate([20], ["+"], aux_note=["(AFIB"])
    if content is not None:
        (tmp_path / "r.atr").write_bytes(content)
    assert expect_all_beats(tmp_path, tolerance=0.02).about["beats"].startswith("R peaks found")
    record.annotate(np.append(20, BEATS), ["+"] + ["N"] * len(BEATS), aux_note=["(AFIB"] + [""] * len(BEATS))
    assert expect_all_beats(tmp_path).about["beats"].startswith("reference annotations")


@pytest.mark.parametrize("case", READABLE.values(), ids=READABLE.keys())
def test_a_header_of_another_form_is_read(tmp_path: Path, case: Form) -> None:
    record = case(tmp_path)
    record.write()
    record.annotate()
    expect_height(tmp_path)
    expect_all_beats(tmp_path)


def test_a_lead_without_a_name_is_numbered(tmp_path: Path) -> None:
    without_names(tmp_path).write()
    assert recordings.read_recording(tmp_path, "r", None).leads == ("lead 1", "lead 2")


def test_a_skewed_lead_lacks_its_last_samples(tmp_path: Path) -> None:
    skewed(tmp_path).write()
    signal = recordings.read_recording(tmp_path, "r", None).signal
    assert np.isnan(signal).sum(0).tolist() == [0, 5]
    assert np.isnan(signal[-5:, 1]).all()


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (with_first(f"r 2 0 {SAMPLES}"), "sampling frequency of 0"),
        (with_first(f"r 2 fast {SAMPLES}"), "'fast'"),
        (with_first(f"r two 250 {SAMPLES}"), "'r two 250"),
        (lambda folder: OddRecord(folder, "ward.7.r"), "'ward.7.r"),
        (lambda folder: OddRecord(folder, first="r 1 250", lines=["r.dat 16 x200/mV 16 0 0 0 0 II"]), "'x200"),
        (lambda folder: OddRecord(folder, first="r 1 250", lines=["r.dat 16 200/mV 16.5 0 0 0 0 II"]), "'16.5'"),
        (lambda folder: OddRecord(folder, lines=["r.dat 16 200/mV 16 0 0 0 0 II"]), "2 signals, but describes 1"),
    ],
)
def test_what_a_header_says_and_cannot_be_understood_is_named(tmp_path: Path, record: Form, what: str) -> None:
    odd = record(tmp_path)
    odd.write()
    text = refusal(lambda: score(tmp_path, name=odd.name))
    assert f"{odd.name}.hea" in text
    assert what in text
    assert "damaged" not in text


@pytest.mark.parametrize("tail", [True, False], ids=["checksums", "no checksums"])
def test_an_ecg_beside_a_slower_signal_is_read_at_its_own_rate(tmp_path: Path, tail: bool) -> None:
    slow = pressure()[::4]
    frames = SAMPLES // 4
    data = np.concatenate([ecg().reshape(frames, 4), slow[:, None]], axis=1)
    checksum = None if tail else ""
    channels = [
        Channel(ecg(), form="16x4", checksum=checksum),
        Channel(slow, "ABP", "mmHg", "10(-800)", checksum=checksum),
    ]
    record = OddRecord(tmp_path, channels=channels, first=f"r 2 62.5/250 {frames}", data=data)
    record.write()
    assert expect_all_beats(tmp_path, leads=1, tolerance=0.02).rate == RATE
    record.annotate(np.rint(BEATS / 4).astype(int))
    expect_all_beats(tmp_path, leads=1, tolerance=0.009)


def test_leads_of_several_rates_are_refused(tmp_path: Path) -> None:
    frames = SAMPLES // 4
    data = np.concatenate([ecg().reshape(frames, 4), ecg()[::4, None]], axis=1)
    channels = [Channel(ecg(), form="16x4", checksum=""), Channel(ecg()[::4], "V5", checksum="")]
    OddRecord(tmp_path, channels=channels, first=f"r 2 62.5 {frames}", data=data).write()
    assert "several sampling rates" in refusal(lambda: score(tmp_path))


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


# Missing samples


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


# Which recordings there are, and whose they are


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
