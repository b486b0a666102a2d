"""Files of the sepsis challenge that are wrong or odd: refused, or counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import DataError
from sites.cohort import join_cohorts
from sites.datasets import sepsis
from sites.datasets.sepsis.columns import COLUMNS, LABEL
from tests.sites.datasets.sepsis.psv_files import HEADER, STAYS, column, lines, text, whole, write


def broken(change: Callable[[list[list[str]]], Any]) -> str:
    rows = lines(4, HR=70, Temp=36.5)
    changed = change(rows)
    return text(changed if isinstance(changed, list) else rows)


def cell(row: int, name: str, value: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        rows[row][HEADER.index(name)] = value

    return change


SWAPPED = [*HEADER]
SWAPPED[2], SWAPPED[3] = SWAPPED[3], SWAPPED[2]
WITHOUT = [name for name in HEADER if name != "Temp"]
BAD = {
    "a column missing": (
        text([row[:2] + row[3:] for row in lines(2)], WITHOUT),
        ": column Temp is missing: the first line names the 41 columns, split by |",
    ),
    "columns out of order": (text(lines(2), SWAPPED), ": column 3 is 'SBP', not Temp: keep the columns"),
    "a column too many": (text(lines(2), [*HEADER, "Extra"]), ": column 42 is 'Extra', one too many"),
    "a word": (broken(cell(1, "Temp", "987x")), ": line 3, column Temp: a cell that is no number: write NaN"),
    "an empty cell": (broken(cell(0, "pH", "")), ": line 2, column pH: a cell that is no number: write NaN"),
    "a comma": (broken(cell(3, "HR", "98,7")), ": line 5, column HR: a cell that is no number"),
    "infinite": (broken(cell(2, "HR", "1e987")), ": line 4, column HR: not a finite number"),
    "a short row": (broken(lambda rows: rows[2].pop()), ": line 4 has 40 cells, not 41"),
    "an empty row": (broken(lambda rows: [rows[0], [""], *rows[1:]]), ": line 3 has 1 cells, not 41"),
    "an hour twice": (broken(cell(2, "ICULOS", "2")), ": line 4, column ICULOS: does not rise by 1"),
    "an hour left out": (broken(cell(3, "ICULOS", "5")), ": line 5, column ICULOS: does not rise by 1"),
    "no first hour": (broken(cell(0, "ICULOS", "NaN")), ": line 2, column ICULOS: does not rise by 1"),
    "a label that falls": (
        broken(lambda rows: (cell(1, LABEL, "1")(rows), cell(2, LABEL, "1")(rows))),
        f": line 5, column {LABEL}: falls back to 0",
    ),
    "a third label": (broken(cell(1, LABEL, "2")), f": line 3, column {LABEL}: neither 0 nor 1"),
    "no label": (broken(cell(1, LABEL, "NaN")), f": line 3, column {LABEL}: neither 0 nor 1"),
    "a line broken by a carriage return": (
        text(lines(3)).replace("|2|0\n", "|2|0\r"),
        ": a carriage return within a line",
    ),
    "an empty file": ("", ": column HR is missing"),
    "another file": ("%PDF-1.4\n", ": column HR is missing"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("among", [0, 6])
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, content: str, said: str, among: int) -> None:
    """Its name, its line and its column are told, and never what stands there."""
    for i in range(among):
        write(tmp_path, f"p{i}", lines(3 + i))
    (tmp_path / "p3.psv").write_text(content)
    with pytest.raises(DataError) as caught:
        sepsis.patients(tmp_path, STAYS, tmp_path / "store")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'p3.psv'}{said}")
    assert "\n" not in message
    assert "98" not in message.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("name", "usual", "other", "unit"),
    [
        ("Temp", 37.1, 98.8, "°C"),
        ("FiO2", 0.4, 40, "share, 0 to 1"),
        ("Creatinine", 0.9, 80, "mg/dL"),
        ("Glucose", 120, 6.7, "mg/dL"),
        ("SBP", 120, 16, "mmHg"),
        ("Hgb", 10, 100, "g/dL"),
    ],
)
def test_a_hospital_with_another_unit_is_refused(
    tmp_path: Path, name: str, usual: float, other: float, unit: str
) -> None:
    for i in range(20):
        write(tmp_path / "right", f"p{i}", lines(3 + i, **{name: usual}))
        write(tmp_path / "wrong", f"p{i}", lines(3 + i, **{name: other}))
    assert whole(tmp_path / "right", tmp_path / "store").excluded == {}
    with pytest.raises(DataError) as caught:
        sepsis.patients(tmp_path / "wrong", STAYS, tmp_path / "store")
    assert str(caught.value).startswith(f"{tmp_path / 'wrong'}: column {name}: half of the values are ")
    assert str(caught.value).endswith(f" the plausible range: give it in {unit}")


def test_one_patients_fahrenheit_is_taken_as_not_measured_and_counted(tmp_path: Path) -> None:
    for i in range(25):
        write(tmp_path, f"p{i:02d}", lines(4, Temp=98.6 if i == 7 else 37, HR=70 + i))
    cohort = whole(tmp_path, tmp_path / "store")
    assert cohort.excluded == {"Temp outside 15 to 45 °C, read as not measured": 4}
    temperature, recency = column(cohort, "Temp"), column(cohort, "Temp recency")
    assert np.isnan(temperature[cohort.patient == 7]).all()
    assert (recency[cohort.patient == 7] == 0).all()
    assert (temperature[cohort.patient != 7] == 37).all()
    other = sepsis.read(tmp_path, STAYS, ["p08"], tmp_path / "store")
    assert other.excluded == {}


def test_every_column_has_a_unit_and_limits_that_fit_one_another() -> None:
    assert len(COLUMNS) == 40
    for item in COLUMNS:
        assert item.limits.unit
        assert item.limits.cell[0] < item.limits.cell[1]
        assert item.limits.median[0] < item.limits.median[1]


def test_one_patient_at_two_hospitals_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "training_setA", "p1", lines(3, HR=70))
    write(tmp_path / "training_setB", "p1", lines(3, HR=80))
    with pytest.raises(DataError, match=r"^p1\.psv is in training_setA and in training_setB: one patient at two"):
        sepsis.patients(tmp_path, STAYS, tmp_path / "store")


def test_the_same_content_twice_and_files_without_an_hour_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = {name: lines(3, HR=70 + i) for i, name in enumerate(("p1", "p2", "p3", "q1", "q2"))}
    for name, content in rows.items():
        write(tmp_path / f"training_set{'A' if name[0] == 'p' else 'B'}", name, content)
    write(tmp_path / "training_setA", "p0", [])
    write(tmp_path / "training_setA", "p4", rows["p2"])
    write(tmp_path / "training_setB", "q3", rows["p3"])
    store = tmp_path / "store"
    patients = sepsis.patients(tmp_path, STAYS, store)
    assert [(item.id, item.site) for item in patients] == [(name, "A" if name[0] == "p" else "B") for name in rows]
    parts = [sepsis.read(tmp_path, STAYS, ids, store) for ids in (["p1", "p3"], ["p2"], ["q1", "q2"])]
    assert parts[0].excluded == {
        "patients without an hour": 1,
        "patients whose file is the same as another's, or its beginning": 1,
    }
    assert parts[1].excluded == {}
    assert parts[2].excluded == {"patients whose file is the same as another's, or its beginning": 1}
    assert join_cohorts(parts).excluded == whole(tmp_path, store).excluded
    with pytest.raises(DataError, match="no patient p4"):
        sepsis.read(tmp_path, STAYS, ["p4"], store)


def test_a_hospital_without_anyone_of_its_own_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "training_setA", "p1", lines(3))
    write(tmp_path / "training_setB", "q1", lines(3))
    write(tmp_path / "none", "p1", [])
    for folder, directory in ((tmp_path, "training_setB"), (tmp_path / "none", "none")):
        with pytest.raises(DataError, match=f"no recordings in .*{directory}: every .psv file"):
            sepsis.patients(folder, STAYS, tmp_path / "store")


def test_line_ends_of_windows_and_a_missing_last_one(tmp_path: Path) -> None:
    rows = lines(4, HR=[70, "nan", 80, 8.5e1], pH=[".5e1", "7.", "+7.4", "NaN"])
    forms = {"plain": text(rows), "windows": text(rows, end="\r\n"), "open": text(rows)[:-1], "long": text(rows) + "\n"}
    result = {}
    for name, content in forms.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "p1.psv").write_bytes(content.encode())
        write(tmp_path / name, "p2", lines(2))
        result[name] = whole(tmp_path / name, tmp_path / "store")
    for cohort in result.values():
        np.testing.assert_array_equal(cohort.features, result["plain"].features)
    np.testing.assert_allclose(column(result["plain"], "HR"), [70, 70, 80, 85, np.nan, np.nan])


def test_what_is_no_patient_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "p1", lines(3))
    (tmp_path / "._p1.psv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "index.html").write_text("<html>")
    (tmp_path / "old").mkdir()
    assert [item.id for item in sepsis.patients(tmp_path, STAYS, tmp_path / "store")] == ["p1"]
    assert not whole(tmp_path, tmp_path / "store").synthetic
    write(tmp_path / "training_setA", "p2", lines(3, HR=70))
    with pytest.raises(DataError, match="files are next to the hospitals' folders"):
        sepsis.patients(tmp_path, STAYS, tmp_path / "store")


def test_unknown_sex_and_age(tmp_path: Path) -> None:
    write(tmp_path, "p1", lines(3, Gender="NaN", Age="NaN"))
    write(tmp_path, "p2", lines(3, Gender=0, Age=61.5))
    cohort = whole(tmp_path, tmp_path / "store")
    assert cohort.sex is not None
    assert cohort.sex.tolist() == [-1, 0]
    np.testing.assert_array_equal(cohort.age, np.array([np.nan, 61.5], np.float32))
