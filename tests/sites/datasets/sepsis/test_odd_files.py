"""Patients' files as hospitals export them: packed, in capitals, in other units, without labels."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import parse_config
from common.errors import DataError
from sites import datasets
from sites.cohort import Cohort
from sites.datasets import sepsis
from sites.datasets.sepsis import Options
from sites.datasets.sepsis.columns import COLUMNS, LABEL, NAMES
from sites.unlabelled.tables import read_unlabelled_tables
from sites.unlabelled_rows import ScorableRows

USUAL = {
    "HR": 80, "O2Sat": 97, "Temp": 36.9, "SBP": 120, "MAP": 80, "DBP": 60, "Resp": 18, "BaseExcess": -1, "BUN": 18,
    "Creatinine": 1, "Glucose": 120, "WBC": 9, "Age": 61, "Gender": 1, "Unit1": 1, "Unit2": 0, "HospAdmTime": -3,
}  # fmt: skip
HOURS = 8


def rows(**changes: Any) -> list[dict[str, str]]:
    """Return a patient's hours; a change is one value for all hours, or a list."""
    table = []
    for hour in range(HOURS):
        cells: dict[str, Any] = dict.fromkeys(NAMES, "NaN") | USUAL | {"ICULOS": hour + 1, LABEL: int(hour >= 5)}
        cells |= {name: value[hour] if isinstance(value, list) else value for name, value in changes.items()}
        table.append({name: str(value) for name, value in cells.items()})
    return table


def text(table: list[dict[str, str]], names: tuple[str, ...] = (*NAMES, LABEL)) -> bytes:
    return "\n".join(["|".join(names), *("|".join(row[name] for name in names) for row in table), ""]).encode()


def folder_with(tmp_path: Path, name: str, content: bytes) -> Path:
    """Return a folder of three usual patients and the file."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        (folder / f"p{i}.psv").write_bytes(text(rows(HR=70 + i)))
    (folder / name).write_bytes(content)
    return folder


def whole(folder: Path, store: Path) -> Cohort:
    return sepsis.read(folder, Options(), [item.id for item in sepsis.patients(folder, Options(), store)], store)


def scored(folder: Path, store: Path) -> ScorableRows:
    source = replace(datasets.open_source(parse_config({"data": {"dataset": "sepsis"}}), folder), store=store)
    (result,) = read_unlabelled_tables(source)
    return result


ALIKE = {
    "a byte order mark": ("q.psv", b"\xef\xbb\xbf" + text(rows(HR=90))),
    "packed": ("q.psv.gz", gzip.compress(text(rows(HR=90)))),
    "in capitals": ("q.PSV", text(rows(HR=90))),
    "packed in capitals": ("q.PSV.GZ", gzip.compress(text(rows(HR=90)))),
}


@pytest.mark.parametrize(("name", "content"), ALIKE.values(), ids=ALIKE)
def test_a_file_is_read_however_it_is_packed_and_spelt(tmp_path: Path, name: str, content: bytes) -> None:
    folder = folder_with(tmp_path, name, content)
    cohort, result = whole(folder, tmp_path / "store"), scored(folder, tmp_path / "store")
    assert cohort.patients == result.cohort.patients == ("p0", "p1", "p2", "q")
    index = cohort.task.features.index("HR")
    for part in (cohort, result.cohort):
        assert (part.features[part.patient == 3, index] == 90).all()
    assert len(result.cohort.y) == len(cohort.y) == 4 * HOURS
    assert result.exclusions == ()


@pytest.mark.parametrize("other", ["p0.psv.gz", "p0.PSV"])
def test_two_files_of_one_patient_are_refused(tmp_path: Path, other: str) -> None:
    content = text(rows(HR=99))
    folder = folder_with(tmp_path, other, gzip.compress(content) if other.endswith("gz") else content)
    for read in (whole, scored):
        with pytest.raises(DataError, match=r"p0\.\w+.* and p0\.\w+.* are two copies of one patient; remove one"):
            read(folder, tmp_path / "store")


def test_a_packed_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "q.psv.gz", gzip.compress(text(rows()))[:-9])
    with pytest.raises(DataError, match=r"q\.psv\.gz: cannot be unpacked"):
        whole(folder, tmp_path / "store")
    result = scored(folder, tmp_path / "store")
    assert [item.record for item in result.exclusions] == ["q"]
    assert "q.psv.gz: cannot be unpacked" in result.exclusions[0].reason


LABELS = {"NaN": ["NaN"] * HOURS, "falling": [0, 0, 1, 0, 0, 0, 0, 0], "words": ["?"] * HOURS, "empty": [""] * HOURS}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_scoring_needs_no_label(tmp_path: Path, label: list[Any]) -> None:
    folder = folder_with(tmp_path, "q.psv", text(rows(**{LABEL: label})))
    result = scored(folder, tmp_path / "store")
    assert len(result.cohort.y) == 4 * HOURS == 32
    assert result.exclusions == ()
    with pytest.raises(DataError, match=rf"q\.psv: line \d+, column {LABEL}"):
        whole(folder, tmp_path / "store")


def test_a_file_without_the_column_of_labels_is_scored(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "q.psv", text(rows(HR=90), NAMES))
    result = scored(folder, tmp_path / "store")
    assert (result.cohort.features[result.cohort.patient == 3, 0] == 90).all()


IMPLAUSIBLE: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "mmol and µmol": ({"Glucose": 6.7, "Creatinine": 84}, {"Glucose": HOURS, "Creatinine": HOURS}),
    "Fahrenheit": ({"Temp": 98.4}, {"Temp": HOURS}),
    "missing as -9999, -1, -99": (
        {"HR": -9999, "Glucose": -9999, "WBC": -1, "BaseExcess": -99},
        {"HR": HOURS, "Glucose": HOURS, "WBC": HOURS, "BaseExcess": HOURS},
    ),
    "missing as 0": ({"Glucose": [0, *[120] * 7], "SBP": [120, 0, *[120] * 6]}, {"Glucose": 1, "SBP": 1}),
    "9999": ({"AST": 999_999, "Platelets": 9999}, {"AST": HOURS, "Platelets": HOURS}),
}


@pytest.mark.parametrize(("changes", "counts"), IMPLAUSIBLE.values(), ids=IMPLAUSIBLE)
def test_implausible_cells_become_missing_and_are_counted_by_column(
    tmp_path: Path, changes: dict[str, Any], counts: dict[str, int]
) -> None:
    folder = folder_with(tmp_path, "q.psv", text(rows(**changes)))
    cohort, result = whole(folder, tmp_path / "store"), scored(folder, tmp_path / "store")
    assert {what.partition(" ")[0]: number for what, number in cohort.excluded.items()} == counts
    assert dict(result.cleared) == cohort.excluded
    assert all(what.endswith("read as not measured") for what in cohort.excluded)
    for part in (cohort, result.cohort):
        for name, number in counts.items():
            values = part.features[part.patient == 3, part.task.features.index(name)]
            assert np.isnan(values[0]) == (number == HOURS or name == "Glucose")


def test_every_laboratory_value_and_vital_sign_has_limits() -> None:
    for column in COLUMNS[:34]:
        assert np.isfinite(column.limits.cell).all(), column.name
        assert column.limits.cell[0] > -99, column.name
        assert column.limits.cell[1] < 9999 or column.name in ("AST", "Alkalinephos"), column.name


def edited(change: Callable[[str], str]) -> bytes:
    return change(text(rows()).decode()).encode()


ROWS = rows()
REFUSED: dict[str, tuple[bytes, str]] = {
    "split by ;": (edited(lambda t: t.replace("|", ";")), "column HR is missing"),
    "decimal commas": (edited(lambda t: t.replace("36.9", "36,9")), "line 2, column Temp: a cell that is no number"),
    "empty cells": (edited(lambda t: t.replace("NaN", "")), "line 2, column EtCO2: a cell that is no number"),
    "NA": (edited(lambda t: t.replace("NaN", "NA")), "line 2, column EtCO2: a cell that is no number"),
    "quotes": (edited(lambda t: t.replace("36.9", '"36.9"')), "line 2, column Temp: a cell that is no number"),
    "an age of 90+": (text(rows(Age="90+")), "line 2, column Age: a cell that is no number"),
    "blank lines": (edited(lambda t: t.replace("\n", "\n\n")), "line 2 has 1 cells, not 41"),
    "a bar at the end": (edited(lambda t: t.replace("\n", "|\n")), "column 42 is '', one too many"),
    "UTF-16": (text(rows()).decode().encode("utf-16"), "column HR is missing"),
    "a column more": (text([row | {"Ward": "3"} for row in ROWS], (*NAMES, LABEL, "Ward")), "column 42 is 'Ward'"),
    "a column less": (text(ROWS, (*NAMES[:7], *NAMES[8:], LABEL)), "column EtCO2 is missing"),
    "another order": (text(ROWS, (NAMES[1], NAMES[0], *NAMES[2:], LABEL)), "column 1 is 'O2Sat', not HR"),
    "an hour missing": (text(ROWS[:3] + ROWS[4:]), "line 5, column ICULOS: does not rise by 1"),
    "an hour twice": (text(ROWS[:3] + ROWS[2:]), "line 5, column ICULOS: does not rise by 1"),
    "hours backwards": (text(ROWS[::-1]), "line 3, column ICULOS: does not rise by 1"),
}


@pytest.mark.parametrize(("content", "line"), REFUSED.values(), ids=REFUSED)
def test_a_file_in_another_form_is_refused_or_left_out_with_its_reason(
    tmp_path: Path, content: bytes, line: str
) -> None:
    folder = folder_with(tmp_path, "q.psv", content)
    with pytest.raises(DataError) as caught:
        whole(folder, tmp_path / "store")
    result = scored(folder, tmp_path / "store")
    for message in (str(caught.value), result.exclusions[0].reason):
        assert message.startswith(f"{folder / 'q.psv'}: ")
        assert line in message
    assert [item.record for item in result.exclusions] == ["q"]
    assert len(result.cohort.y) == 3 * HOURS


@pytest.mark.parametrize(
    "content",
    [
        text(ROWS).replace(b"\n", b"\r\n"),
        text(rows(**{LABEL: 0})),
        text(rows(ICULOS=list(range(5, 13)))),
        text(rows(Age=[40 + hour // 4 for hour in range(HOURS)])),
    ],
    ids=["Windows' line ends", "quiet throughout", "from the fifth hour", "a birthday"],
)
def test_a_file_of_an_unusual_stay_is_read(tmp_path: Path, content: bytes) -> None:
    folder = folder_with(tmp_path, "q.psv", content)
    assert len(whole(folder, tmp_path / "store").y) == len(scored(folder, tmp_path / "store").cohort.y) == 4 * HOURS


@pytest.mark.parametrize("suffix", ["zip", "bz2", "xz", "7z", "txt"])
def test_a_file_that_is_packed_in_another_way_is_not_left_out_without_a_word(tmp_path: Path, suffix: str) -> None:
    folder = folder_with(tmp_path, f"q.psv.{suffix}", text(rows()))
    for read in (whole, scored):
        with pytest.raises(DataError, match=rf"q\.psv\.{suffix} is not read: unpack it to \.psv"):
            read(folder, tmp_path / "store")


def test_patients_in_a_folder_below_are_not_left_out_without_a_word(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "q.psv", text(rows()))
    (folder / "ward").mkdir()
    (folder / "ward" / "r.psv").write_bytes(text(rows()))
    for read in (whole, scored):
        with pytest.raises(DataError, match=r"ward holds \.psv files too"):
            read(folder, tmp_path / "store")


@pytest.mark.parametrize("start", [-3, 0.5])
def test_hours_in_intensive_care_are_whole_and_not_below_zero(tmp_path: Path, start: float) -> None:
    content = text([row | {"ICULOS": str(start + i)} for i, row in enumerate(rows())])
    with pytest.raises(DataError, match=r"q\.psv: line 2, column ICULOS: not a whole number of hours"):
        whole(folder_with(tmp_path, "q.psv", content), tmp_path / "store")


@pytest.mark.parametrize(("column", "value"), [("Gender", "0.5"), ("Gender", "2"), ("Unit1", "0.1")])
def test_a_code_between_or_beyond_the_codes_is_missing_and_counted(tmp_path: Path, column: str, value: str) -> None:
    folder = folder_with(tmp_path, "q.psv", text(rows(**{column: value})))
    counts = whole(folder, tmp_path / "store").excluded
    assert [(what.partition(" ")[0], number) for what, number in counts.items()] == [(column, HOURS)]
    assert dict(scored(folder, tmp_path / "store").cleared) == counts


@pytest.mark.parametrize("value", ["999", "9999", "-999"])
def test_a_code_for_missing_within_the_limits_of_a_cell_is_missing(tmp_path: Path, value: str) -> None:
    column = "HospAdmTime" if value == "-999" else "AST"
    folder = folder_with(tmp_path, "q.psv", text(rows(**{column: value})))
    what = {f"{column} of 999 or the like, a code, read as not measured": HOURS}
    assert whole(folder, tmp_path / "store").excluded == what
    assert dict(scored(folder, tmp_path / "store").cleared) == what
    (folder / "q.psv").write_bytes(text([row | {"ICULOS": str(995 + i)} for i, row in enumerate(rows())]))
    assert whole(folder, tmp_path / "store").excluded == {}


OTHER_UNITS = {
    "urea in mmol/L": ("BUN", 6.4), "haemoglobin in mmol/L": ("Hgb", 6.5), "calcium in mmol/L": ("Calcium", 2.2),
    "calcium in mEq/L": ("Calcium", 4.4), "phosphate in mmol/L": ("Phosphate", 1.1),
    "creatinine in mmol/L": ("Creatinine", 0.09),
    "bilirubin in µmol/L": ("Bilirubin_total", 13.7), "lactate in mg/dL": ("Lactate", 16),
    "troponin in ng/L": ("TroponinI", 220), "AST in µkat/L": ("AST", 0.6), "PaCO2 in kPa": ("PaCO2", 5.3),
    "time from admission, not to it": ("HospAdmTime", 2.6), "glucose in mmol/L": ("Glucose", 6.9),
}  # fmt: skip


@pytest.mark.parametrize(("column", "value"), OTHER_UNITS.values(), ids=OTHER_UNITS)
def test_a_hospital_with_a_column_in_another_unit_is_refused(tmp_path: Path, column: str, value: float) -> None:
    folder = tmp_path / "hospital"
    folder.mkdir()
    for patient in range(22):
        (folder / f"p{patient}.psv").write_bytes(text(rows(**{column: value, "HR": 70 + patient})))
    for read in (whole, scored):
        with pytest.raises(DataError, match=f"column {column}: half of the values are"):
            read(folder, tmp_path / "store")


COPIES: dict[str, Callable[[bytes], bytes]] = {
    "the same": bytes,
    "its first hours": lambda content: content.rpartition(b"\n")[0].rpartition(b"\n")[0] + b"\n",
    "other line ends": lambda content: content.replace(b"\n", b"\r\n"),
    "nan": lambda content: content.replace(b"NaN", b"nan"),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", ["a", "z"])
def test_a_second_file_of_a_patient_is_left_out_and_counted(
    tmp_path: Path, change: Callable[[bytes], bytes], name: str
) -> None:
    folder = folder_with(tmp_path, "q.psv", text(rows()))
    (folder / f"{name}.psv").write_bytes(change(text(rows())))
    cohort = whole(folder, tmp_path / "store")
    assert cohort.excluded == {"patients whose file is the same as another's, or its beginning": 1}
    assert len({"q", name} & set(cohort.patients)) == 1
    assert (cohort.patient == list(cohort.patients).index(({"q", name} & set(cohort.patients)).pop())).sum() == HOURS


@pytest.mark.parametrize("kind", ["a folder", "a link to nothing", "a loop"])
def test_a_patient_whose_file_is_none_is_not_left_out(tmp_path: Path, kind: str) -> None:
    folder = folder_with(tmp_path, "p7.psv", b"")
    path = folder / "p7.psv"
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "a loop" else tmp_path / "gone")
    source = datasets.open_source(parse_config({"data": {"dataset": "sepsis"}}), folder)
    with pytest.raises(DataError, match=r"p7\.psv (is no file|holds \.psv files)"):
        source.patients()
