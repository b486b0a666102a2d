"""Times, ages, sexes and outcomes of a table that would be read as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from common.errors import DataError
from common.settings import validate_settings
from sites.datasets.table.description import Description
from sites.datasets.table.examine import load_table
from sites.datasets.table.guess import guess_description
from sites.datasets.table.rows import read_rows
from tests.sites.datasets.table.looking import N, columns, has, look, text


def describe(**changes: Any) -> Description:
    base: dict[str, Any] = {
        "patient": "who",
        "outcome": {"column": "died", "values": ["0", "1"]},
        "inputs": [{"name": "hr"}],
    }
    return validate_settings(Description, base | changes, "test")


def write(folder: Path, column: str, cells: list[Any], who: list[int]) -> None:
    rows = [f"{number},{60 + i},{i % 2},{cell}" for i, (number, cell) in enumerate(zip(who, cells, strict=True))]
    (folder / "t.csv").write_text("\n".join([f"who,hr,died,{column}", *rows]) + "\n")


def test_times_with_and_without_a_zone_are_not_mixed(tmp_path: Path) -> None:
    times = ["2024-01-01 10:00", "2024-01-01 11:00+02:00", "2024-01-01 12:00"]
    write(tmp_path, "at", times, [1, 1, 1])
    with pytest.raises(DataError, match="some rows have a date and a date with a zone: write all in one way"):
        read_rows(tmp_path, describe(time={"column": "at"}))
    write(tmp_path, "at", ["2024-01-01T10:00Z", "2024-01-01T13:00+02:00", "2024-01-01T12:00Z"], [1, 1, 1])
    hours = read_rows(tmp_path, describe(time={"column": "at"})).hours
    assert (hours - hours[0]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("ages", [[1950, 1960, 1970], [540, 600, 660], [16000, 17000, 18000]])
def test_ages_that_are_no_years_are_refused(tmp_path: Path, ages: list[int]) -> None:
    write(tmp_path, "age", ages, [1, 2, 3])
    with pytest.raises(DataError, match="column age: 3 of 3 ages are outside 0 to 130 years"):
        read_rows(tmp_path, describe(age="age"))


def test_a_patient_of_two_sexes_is_of_none(tmp_path: Path) -> None:
    write(tmp_path, "sex", ["F", "M", "M"], [1, 1, 2])
    assert read_rows(tmp_path, describe(sex={"column": "sex"})).sex.tolist() == [-1, -1, 1]


def test_a_duration_has_no_unit_to_read_it_in(tmp_path: Path) -> None:
    table = pa.table({"who": [1, 2], "hr": pa.array([60, 70], pa.duration("s")), "died": [0, 1]})
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column hr holds lists, bytes or durations"):
        read_rows(tmp_path, describe(read={"files": ["*.parquet"]}))


@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("no", "yes"), ("alive", "dead")])
@pytest.mark.parametrize("word", ["ND", "pending", "UNK"])
def test_a_further_word_in_an_outcome_is_asked_about(tmp_path: Path, no: str, yes: str, word: str) -> None:
    rows = [f"{i},{60 + i * 7 % 50},{word if i == 5 else (no, yes)[i % 2]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("patient_id,hr,died\n" + "\n".join(rows) + "\n")
    table = load_table(tmp_path / "t.csv")
    guess_description(table)
    assert any(f"it holds {word}: if these mean not known" in item.text for item in table.findings)


@pytest.mark.parametrize("form", ["{}.23457E+11", "{}E+11"])
def test_numbers_that_a_spreadsheet_shortened_are_nobodys(tmp_path: Path, form: str) -> None:
    rows = [f"{form.format(i)},60,0" for i in range(1, 5)]
    (tmp_path / "t.csv").write_text("who,hr,died\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"4 patients have numbers such as 1\.23457E"):
        read_rows(tmp_path, describe())


@pytest.mark.parametrize("other", ["'1234", '="1234"', "+1234", '"1,234"'])
def test_a_number_in_a_spreadsheets_dress_is_no_second_person(tmp_path: Path, other: str) -> None:
    cell = other.replace('="1234"', '"=""1234"""')
    (tmp_path / "t.csv").write_text(f"who,hr,died\n1234,60,0\n{cell},61,1\n")
    with pytest.raises(DataError, match="1 patients are written in several ways"):
        read_rows(tmp_path, describe())


@pytest.mark.parametrize(
    ("one", "other"),
    [("Zürich", "Zurich"), ("Zürich", "Zuerich"), ("St. Mary", "St Mary"), ("North-A", "North A"), ("Ost", "Ost (2)"),
     ("Møre", "More"), ("Łódź", "Lodz"), ("North Hospital", "North"), ("Klinik Ost", "Ost")],
)  # fmt: skip
def test_hospitals_that_may_be_one_are_named(tmp_path: Path, one: str, other: str) -> None:
    names = [(one, other, "West")[i % 3] for i in range(N)]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(hospital=names))})
    assert has(findings, f"check hospital: {', '.join(sorted((one, other)))} may be one hospital")
    _, findings, _ = look(
        tmp_path, {"u.csv": text(columns(hospital=[("Ost", "West", "7", "17")[i % 4] for i in range(N)]))}
    )
    assert not has(findings, "may be one hospital")


@pytest.mark.parametrize("blank", ["", "unknown"])
def test_rows_without_a_hospital_are_counted(tmp_path: Path, blank: str) -> None:
    names = [blank if i % 10 == 0 else ("East", "West")[i % 2] for i in range(N)]
    _, findings, _ = look(tmp_path, {"t.csv": text(columns(hospital=names))})
    assert has(findings, "check hospital: missing in 6 rows, which are not used")
