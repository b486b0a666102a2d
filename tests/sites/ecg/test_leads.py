"""Which channels of a record are taken for an ECG, by the names and units that occur in the wild."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites.ecg import recordings
from sites.ecg.headers import read_header
from sites.ecg.leads import lead_name, millivolts_per_unit, names_ecg, names_other_signal
from sites.unlabelled.recordings import read_rows
from tests.sites.ecg.odd_record_checks import form, refusal, score
from tests.sites.ecg.odd_records import BEATS, HEIGHT, Channel, OddRecord, ecg, pressure


def leads_used(folder: Path, *channels: Channel) -> str:
    OddRecord(folder, channels=list(channels)).write()
    return score(folder, leads=1).about["leads"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ml2", "MLII"), ("ML 1", "MLI"), ("D2", "II"), ("DIII", "III"), ("LeadII", "II"), ("ECGII", "II"),
        ("\N{ROMAN NUMERAL TWO}", "II"), (2 * "\N{FULLWIDTH LATIN CAPITAL LETTER I}", "II"),
        ("Ableitung II", "II"), ("d\u00e9rivation aVF", "aVF"), ("ECG - II", "II"), ("II (mV)", "II"), ("V-5", "V5"),
        ("aV F", "aVF"), ("MLII*", "MLII"), ("MDC_ECG_LEAD_II", "II"), ("II_filt", "II"), ("rhythm II", "II"),
        ("Wilson V1", "V1"),
    ],
)  # fmt: skip
def test_further_spellings_of_a_lead(text: str, name: str) -> None:
    assert lead_name(text) == name


@pytest.mark.parametrize(
    "text", ["I-II", "I+II", "I, II", "I I", "II/V5", "V1-V2", "III-II", "V5-avg", "II 2", "EASI II"]
)
def test_a_difference_of_leads_is_no_lead_but_an_ecg(text: str) -> None:
    assert lead_name(text) is None
    assert names_ecg(text)


@pytest.mark.parametrize(
    "text", ["-II", "II-", "ECG -II", "II inverted", "aVF (inv.)", "\N{MINUS SIGN}aVR",
             "\N{EN DASH}aVR", "\N{NON-BREAKING HYPHEN}aVR"],
)  # fmt: skip
def test_an_inverted_lead_is_not_taken_for_the_lead(text: str) -> None:
    assert lead_name(text) is None
    assert names_ecg(text)


@pytest.mark.parametrize("text", ["CM5", "CC5", "MV2", "A-S", "V3R", "mod.V1", "V", "X", "ECG1", "EKG 2"])
def test_names_of_further_ecg_leads(text: str) -> None:
    assert names_ecg(text)


@pytest.mark.parametrize(
    "text",
    ["Pulse", "BVP", "Trigger", "ECG trigger", "PCG", "Chin1-Chin2", "LAT", "LOC-A2", "E1-M2", "THO", "CHEST", "Nasal",
     "BioZ", "dZ/dt", "Battery", "PAW", "P1", "FHR", "Gyro", "RSP", "C3", "Fz", "HR", "Stim marker", "EKG EMG",
     "ST II", "ST-V5", "QT II", "EDR", "ECG EDR", "RR"],
)  # fmt: skip
def test_names_of_other_signals_are_never_scored_even_in_millivolts(tmp_path: Path, text: str) -> None:
    assert names_other_signal(text)
    assert leads_used(tmp_path, Channel(pressure(), text), Channel(ecg(), "CH1")) == "CH1"
    OddRecord(tmp_path, channels=[Channel(pressure(), text)]).write()
    assert f"{text} in mV" in refusal(lambda: score(tmp_path, leads=1))


@pytest.mark.parametrize("text", ["CH1", "channel A", "Kanal 2", "foo"])
def test_a_voltage_of_an_unknown_name_counts_only_where_no_other_is_named_as_an_ecg(tmp_path: Path, text: str) -> None:
    assert not names_ecg(text)
    assert not names_other_signal(text)
    assert leads_used(tmp_path, Channel(pressure(), text), Channel(ecg(), "V1")) == "V1"
    assert leads_used(tmp_path, Channel(ecg(), text)) == text


def test_an_ecg_in_another_unit_is_not_replaced_by_the_next_lead(tmp_path: Path) -> None:
    OddRecord(tmp_path, channels=[Channel(ecg(), "ECG", unit="adu"), Channel(ecg(), "V1")]).write()
    assert "ECG in adu" in refusal(lambda: score(tmp_path, leads=1))


@pytest.mark.parametrize(
    ("unit", "millivolts"),
    [
        ("millivolt", 1), ("Millivolts", 1), ("mVolt", 1), ("Volt", 1e3), ("microvolts", 1e-3), ("uVolts", 1e-3),
        ("\N{MICRO SIGN}volt", 1e-3), ("nanovolt", 1e-6), ("mV/cm", None), ("0.1mV", None), ("mA", None), ("kV", None),
        ("", None), ("mV(peak)", None), ("%", None),
    ],
)  # fmt: skip
def test_units_in_words_and_units_that_are_no_voltage(unit: str, millivolts: float | None) -> None:
    assert millivolts_per_unit(unit) == millivolts


@pytest.mark.parametrize(("gain", "height"), [("2E2", HEIGHT), ("2e+2", HEIGHT), ("2.0E+2(0)", HEIGHT)])
def test_a_gain_may_have_an_exponent_in_either_case(tmp_path: Path, gain: str, height: float) -> None:
    OddRecord(tmp_path, channels=[Channel(ecg(), gain=gain)]).write()
    signal = recordings.read_recording(tmp_path, "r", None).signal
    np.testing.assert_allclose(signal[BEATS, 0], height, atol=0.05)


@pytest.mark.parametrize(
    ("gain", "unit", "side"),
    [("0.2", "mV", "more than 50 mV"), ("200000", "mV", "less than 0.02 mV"), ("200", "uV", "less than 0.02 mV"),
     ("200", "V", "more than 50 mV")],
)  # fmt: skip
def test_an_ecg_of_volts_or_microvolts_is_refused_with_its_lead(
    tmp_path: Path, gain: str, unit: str, side: str
) -> None:
    OddRecord(tmp_path, channels=[Channel(ecg(), gain=gain, unit=unit)]).write()
    text = refusal(lambda: score(tmp_path, leads=1))
    assert side in text
    assert "lead II" in text


@pytest.mark.parametrize("names", [("II", "MLII"), ("MLII", "II")])
def test_where_a_record_has_ii_and_mlii_a_model_of_ii_gets_ii(tmp_path: Path, names: tuple[str, str]) -> None:
    OddRecord(tmp_path, channels=[Channel(ecg() // (1 + (name == "MLII")), name) for name in names]).write()
    rows = read_rows(tmp_path, "r", replace(form(1), leads=("II",)))
    assert rows.about["leads"] == "II"


def test_a_lead_that_is_there_twice_is_refused_where_it_is_asked_for_by_name(tmp_path: Path) -> None:
    OddRecord(tmp_path, channels=[Channel(ecg()), Channel(ecg() // 2, "lead ii")]).write()
    with pytest.raises(DataError, match="2 leads are called II"):
        read_rows(tmp_path, "r", replace(form(1), leads=("II",)))
    with pytest.raises(DataError, match="names the lead II 2 times"):
        read_header(tmp_path / "r.hea").columns(["II"])
