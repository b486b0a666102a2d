"""Columns whose unit, role or answers may be others than they seem: `data init` says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sites.datasets.table.looking import RATE, N, columns, has, look, text

WRONG_UNITS = [
    ("temp_F", 36.5), ("temp_C", 98.0), ("glucose_mmol_l", 100.0), ("glucose mg/dl", 5.5), ("weight_lb", 70.0),
    ("weight_kg", 180.0), ("height_cm", 1.7), ("height (m)", 170.0), ("age_months", 500.0), ("creatinine_umol", 1.0),
    ("Creatinine [mg/dL]", 90.0), ("hb g/l", 13.0), ("sbp_kpa", 120.0), ("wbc_per_ul", 8.0), ("crp_mg_dl", 50.0),
    ("troponin ng/l", 0.02), ("bilirubin \N{MICRO SIGN}mol/l", 0.9), ("po2 kPa", 90.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "start"), WRONG_UNITS)
def test_a_unit_in_the_name_that_the_values_contradict_is_named(tmp_path: Path, name: str, start: float) -> None:
    values = [round(start * (1 + 0.001 * (i * 7 % N)), 4) for i in range(N)]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(**{name: values}))})
    assert has(findings, f"wrong {name}: its name says")


@pytest.mark.parametrize(
    ("name", "start", "unit"),
    [
        ("temp_C", 36.5, "\N{DEGREE SIGN}C"), ("Temp (\N{DEGREE SIGN}F)", 98.0, "\N{DEGREE SIGN}F"),
        ("glucose_mmol_l", 5.5, "mmol/L"), ("creatinine_umol_l", 90.0, "\N{MICRO SIGN}mol/L"),
        ("weight_lb", 170.0, "lb"),
        ("hb_f", 13.0, ""), ("age_years", 40.0, "years"),
    ],
)  # fmt: skip
def test_a_unit_in_the_name_is_taken(tmp_path: Path, name: str, start: float, unit: str) -> None:
    values = [round(start * (1 + 0.001 * (i * 7 % N)), 4) for i in range(N)]
    description, findings, _ = look(tmp_path, {"t.csv": text(columns(**{name: values}))})
    assert not has(findings, "its name says")
    assert next(item.unit for item in description.inputs if item.source == name) == unit


def test_the_person_is_taken_before_the_case(tmp_path: Path) -> None:
    content = {
        "id": list(range(N)),
        "hr": RATE,
        "died": columns()["died"],
        "Patientennummer": [i // 2 for i in range(N)],
    }
    description, findings, _ = look(tmp_path, {"t.csv": text(content)})
    assert description.patient == "Patientennummer"
    assert has(findings, "check Patientennummer: taken as the patient, and not id")
    del content["Patientennummer"]
    description, findings, _ = look(tmp_path, {"t.csv": text({"case_no": content.pop("id"), **content})})
    assert has(findings, "check case_no: taken as the patient: if a person may have several")


@pytest.mark.parametrize(("start", "kind"), [(1930, "years of a calendar"), (1706700000, "seconds since 1970")])
def test_years_and_seconds_are_asked_about(tmp_path: Path, start: int, kind: str) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(born=[start + i % 50 for i in range(N)]))})
    assert has(findings, f"check born: its numbers may be {kind}")


@pytest.mark.parametrize("words", [("TRUE", "1"), ("yes", "1", "0"), ("Male", "male", "F")])
def test_answers_that_may_be_one_are_asked_about(tmp_path: Path, words: tuple[str, ...]) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(smoker=[words[i % len(words)] for i in range(N)]))})
    assert has(findings, f"check smoker: some of its {len(words)} values may be one")


def test_numbers_as_times_and_good_outcomes_are_asked_about(tmp_path: Path) -> None:
    content = {
        "patient_id": [i // 4 for i in range(N)], "time": [i % 4 * 360 for i in range(N)], "hr": RATE,
        "alive": [int(i % 8 != 3) for i in range(N)],
    }  # fmt: skip
    _, findings, _ = look(tmp_path, {"t.csv": text(content)}, outcome="alive")
    assert has(findings, "check time: its numbers are read as hours: are they minutes, days or seconds")
    assert has(findings, "check alive: by its name the event is the good outcome")


def renamed(name: str, cells: list[str]) -> dict[str, str | bytes]:
    table = columns()
    table.pop("patient_id")
    return {"t.csv": text({name: cells, **table})}


def test_a_column_that_may_name_the_patients_is_named(tmp_path: Path) -> None:
    keys = [f"F{100000 + i}" for i in range(N)]
    plain = "no column names the patients: each row counts as a patient of its own"
    described, findings, _ = look(tmp_path, renamed("ward key", keys))
    assert described.patient is None
    assert has(findings, f"{plain}; if ward key does, name it: --patient 'ward key'")
    dates = [f"2024-01-{1 + i % 28:02d} 10:{i:02d}" for i in range(N)]
    for cells in (dates, [f"note {i} of the ward" for i in range(N)], [*keys[:-1], ""]):  # no names, or with gaps
        _, findings, _ = look(tmp_path, renamed("ward key", cells))
        assert has(findings, plain)
        assert not has(findings, "--patient")


def test_a_german_case_number_is_the_patient(tmp_path: Path) -> None:
    described, findings, _ = look(tmp_path, renamed("Fallnummer", [f"F{100000 + i}" for i in range(N)]))
    assert described.patient == "Fallnummer"
    assert has(findings, "check Fallnummer: taken as the patient: if a person may have several")


def test_falls_are_no_patients(tmp_path: Path) -> None:
    described, _, _ = look(tmp_path, renamed("fall", [str(i % 2) for i in range(N)]))
    assert described.patient is None
    assert [item.name for item in described.inputs if item.name == "fall"]


@pytest.mark.parametrize("part", [0.0, 0.25])
def test_dates_as_a_spreadsheet_counts_them_are_named(tmp_path: Path, part: float) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(admitted=[45123 + i * 7 % N + part for i in range(N)]))})
    assert has(findings, "check admitted: its numbers may be days since 1900, as a spreadsheet stores dates")


def test_counts_that_reach_beyond_dates_are_no_dates(tmp_path: Path) -> None:
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(cells=[9000 + i * 997 for i in range(N)]))})
    assert not has(findings, "days since 1900")
