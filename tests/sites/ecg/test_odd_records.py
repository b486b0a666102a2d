"""Records as they occur outside of the well-known databases: headers, units and leads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sites.ecg import recordings
from tests.sites.ecg.odd_record_checks import expect_all_beats, expect_height, read, refusal, score
from tests.sites.ecg.odd_records import BEATS, HEIGHT, RATE, SAMPLES, Channel, OddRecord, ecg, pressure

Form = Callable[[Path], OddRecord]


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


def test_a_temperature_channel_does_not_disturb_an_ecg(tmp_path: Path) -> None:
    record = OddRecord(tmp_path, channels=[Channel(pressure(), "Temp", "\N{DEGREE SIGN}C"), Channel(ecg(), "II")])
    record.write()
    record.annotate()
    expect_all_beats(tmp_path, leads=1)


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
def test_an_ecg_with_a_slower_signal_is_read_at_its_own_rate(tmp_path: Path, tail: bool) -> None:
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
