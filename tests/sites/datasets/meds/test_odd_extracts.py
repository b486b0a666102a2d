"""MEDS extracts as programs write them: other types, units, spellings, values, labels and splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from common.errors import ConfigError, DataError
from common.settings import validate_settings
from sites.datasets import meds
from sites.datasets.meds.description import Description

HOUR = 3600 * 10**6
YEAR = 365.25 * 24
ROWS: list[tuple[int, float | None, str, float | None]] = [
    (1, 0.0, "ADM", None), (1, 1.0, "LAB", 2.0), (1, 5.0, "LAB", 4.0), (1, 40.0, "DIED", None),
    (2, 0.0, "ADM", None), (2, 2.0, "LAB", 10.0), (2, 60.0, "LAB", 11.0),
]  # fmt: skip
PLAIN = [[2, 4, 3, 1], [1, 10, 10, 0]]
"""Count, last, mean and class of the two people, by hand."""


def times(hours: Any) -> pa.Array:
    return pa.array([None if hour is None else round(hour * HOUR) for hour in hours], pa.timestamp("us"))


def events(rows: Any = ROWS, **changes: Any) -> pa.Table:
    subject, hour, code, value = zip(*rows, strict=True)
    columns = {
        "subject_id": pa.array(subject, pa.int64()),
        "time": times(hour),
        "code": pa.array(code),
        "numeric_value": pa.array(value, pa.float32()),
    }
    return pa.table(columns | changes)


def describe(**changes: Any) -> Description:
    base: dict[str, Any] = {
        "read": {"min_people": 1},
        "index": {"codes": ["ADM"], "after_hours": 24},
        "outcome": {"codes": ["DIED"], "within_hours": 48},
        "birth": None,
        "inputs": [{"name": "LAB", "summaries": ["count", "last", "mean"]}],
    }
    return validate_settings(Description, base | changes, "test")


def read(folder: Path, *tables: pa.Table, options: Description | None = None) -> Any:
    (folder / "data").mkdir(exist_ok=True)
    for number, table in enumerate(tables or (events(),)):
        parquet.write_table(table, folder / "data" / f"{number}.parquet")
    options = options or describe()
    people = meds.patients(folder, options, folder / "store")
    return meds.read(folder, options, [item.id for item in people], folder / "store")


def rows_of(cohort: Any) -> Any:
    return np.column_stack([cohort.features, cohort.y]).tolist()


SUBJECTS = [row[0] for row in ROWS]
SECONDS = [round((row[1] or 0) * 3600) for row in ROWS]
VALUES = [row[3] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("subject_id", pa.array([0.7 + number / 2 for number in SUBJECTS])),
        ("subject_id", pa.array([float(2**53 + 2 * number) for number in SUBJECTS])),
        ("subject_id", pa.array(["01" if number == 1 else "1" for number in SUBJECTS])),
        ("subject_id", pa.array([number == 1 for number in SUBJECTS])),
        ("time", pa.array(SECONDS)),
        ("time", times([row[1] for row in ROWS]).cast(pa.date32())),
        ("time", pa.array([second * 10**6 for second in SECONDS], pa.timestamp("us", tz="Europe/Zurich"))),
        ("numeric_value", pa.array([None if value is None else "<5" for value in VALUES])),
        ("numeric_value", pa.array([None if value is None else True for value in VALUES])),
    ],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, name: str, column: pa.Array) -> None:
    with pytest.raises(DataError, match=rf"0.parquet: column {name} holds .*; MEDS has"):
        read(tmp_path, events(**{name: column}))


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("subject_id", pa.array([2**53 + number for number in SUBJECTS])),
        ("time", times([row[1] for row in ROWS]).cast(pa.timestamp("ns"))),
        ("time", pa.array([second * 10**6 for second in SECONDS], pa.timestamp("us", tz="UTC"))),
        ("numeric_value", pa.array(VALUES, pa.float64())),
        ("code", pa.array([row[2] for row in ROWS]).dictionary_encode()),
    ],
)
def test_a_column_of_a_wider_type_is_read(tmp_path: Path, name: str, column: pa.Array) -> None:
    assert rows_of(read(tmp_path, events(**{name: column}))) == PLAIN


def test_a_huge_value_of_one_person_spoils_no_other_persons_mean(tmp_path: Path) -> None:
    values = pa.array([1e30 if number == 1 else value for number, value in enumerate(VALUES)], pa.float32())
    assert rows_of(read(tmp_path, events(numeric_value=values)))[1] == PLAIN[1]


GLUCOSE = [
    (1, 0.0, "ADM", None), (1, 1.0, "G//mg/dL", 90.0), (1, 5.0, "G//mmol/L", 5.0), (1, 40.0, "DIED", None),
    (2, 0.0, "ADM", None), (2, 2.0, "G//mmol/L", 6.0), (2, 60.0, "X", None),
]  # fmt: skip


def test_values_in_several_units_are_not_joined(tmp_path: Path) -> None:
    glucose: dict[str, Any] = {"name": "g", "codes": ["G//*"], "summaries": ["last"]}
    with pytest.raises(DataError, match=r"input g takes values in several units \(mg/dL, mmol/L\)"):
        read(tmp_path, events(GLUCOSE), options=describe(inputs=[glucose]))
    alike = [(who, hour, code.replace("mg/dL", "mmol/L"), value) for who, hour, code, value in GLUCOSE]
    with pytest.raises(DataError, match="input g is in mg/dL, but its codes are in mmol/L"):
        read(tmp_path, events(alike), options=describe(inputs=[glucose | {"unit": "mg/dL"}]))
    assert rows_of(read(tmp_path, events(alike), options=describe(inputs=[glucose | {"unit": "mmol/L"}]))) == [
        [5, 1],
        [6, 0],
    ]
    counted = describe(inputs=[glucose | {"summaries": ["count"]}])
    assert rows_of(read(tmp_path, events(GLUCOSE), options=counted)) == [[2, 1], [1, 0]]


@pytest.mark.parametrize("spelling", ["LAB ", "lab"])
def test_a_code_in_another_spelling_is_named(tmp_path: Path, spelling: str) -> None:
    rows = [(*row[:2], spelling, row[3]) if number == 2 else row for number, row in enumerate(ROWS)]
    with pytest.raises(DataError, match=rf"the codes 'LAB' and '{spelling}' differ only in case or spaces"):
        read(tmp_path, events(rows))


def test_an_extract_without_a_number_is_asked_for_its_column(tmp_path: Path) -> None:
    plain = events()
    renamed = plain.rename_columns([*plain.column_names[:-1], "value"])
    with pytest.raises(DataError, match="no event of an input has a number in the column numeric_value"):
        read(tmp_path, renamed)


PEOPLE = {"birth": "MEDS_BIRTH", "sex": {"female": ["F"], "male": ["M"]}}


@pytest.mark.parametrize("births", [[30.0], [-200 * YEAR], [-1900 * YEAR], [-70 * YEAR, -50 * YEAR]])
def test_an_impossible_age_is_unknown_and_counted(tmp_path: Path, births: list[float]) -> None:
    born = [(1, hour, "MEDS_BIRTH", None) for hour in births]
    cohort = read(tmp_path, events([*ROWS, *born, (2, -30 * YEAR, "MEDS_BIRTH", None)]), options=describe(**PEOPLE))
    np.testing.assert_allclose(cohort.features[:, 0], [np.nan, 30 + 24 / YEAR], rtol=1e-6)
    assert cohort.excluded["ages outside 0 to 130 years, or of two births, read as unknown"] == 1


def test_a_person_with_codes_of_both_sexes_is_of_neither(tmp_path: Path) -> None:
    sexes = [(1, None, "F", None), (1, None, "M", None), (2, None, "F", None)]
    cohort = read(tmp_path, events([*ROWS, *sexes]), options=describe(**PEOPLE))
    assert cohort.sex.tolist() == [-1, 0]
    np.testing.assert_equal(cohort.features[:, 1], np.asarray([np.nan, 0.0], np.float32))
    assert cohort.excluded["people with codes of both sexes, read as unknown"] == 1


@pytest.mark.parametrize(("one", "other"), [("Basel", "basel"), ("Basel", "Basel "), ("1", "01")])
def test_a_hospital_in_two_spellings_is_named(tmp_path: Path, one: str, other: str) -> None:
    homes = pa.array([one] * 4 + [other] * 3)
    with pytest.raises(DataError, match="differ only in spelling: write each hospital in one way"):
        read(tmp_path, events(home=homes), options=describe(read={"min_people": 1, "hospital": "home"}))


def test_an_empty_name_is_no_hospital(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 events that make an example have no hospital"):
        read(tmp_path, events(home=pa.array([" "] * 4 + ["b"] * 3)), options=describe(read={"hospital": "home"}))


def labelled(folder: Path, files: dict[str, list[tuple[int | None, float | None, bool]]], labels: str) -> Any:
    for name, rows in files.items():
        subject, hour, value = zip(*rows, strict=True)
        columns = {"subject_id": pa.array(subject, pa.int64()), "prediction_time": times(hour), "boolean_value": value}
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(columns), folder / name)
    options = describe(index=None, outcome={"codes": []}, read={"min_people": 1, "labels": labels})
    return read(folder, options=options)


LABELS: list[tuple[int | None, float | None, bool]] = [(1, 24.0, True), (2, 24.0, False)]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ((1, None, True), "column prediction_time: a row without one"),
        ((None, 24.0, True), "column subject_id: a row without one"),
        ((1, 24.0, False), "a person has two labels at one time"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, extra: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelled(tmp_path, {"labels.parquet": [*LABELS, extra]}, "labels.parquet")


def test_a_label_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    cohort = labelled(tmp_path, {"labels.parquet": LABELS * 2}, "labels.parquet")
    assert cohort.y.tolist() == [1, 0]
    assert cohort.excluded["labels that are given twice"] == 2


def test_labels_of_two_tasks_are_not_one_outcome(tmp_path: Path) -> None:
    files = {"labels/death/0.parquet": LABELS, "labels/return/0.parquet": [(1, 25.0, False), (2, 25.0, True)]}
    with pytest.raises(DataError, match=r"labels of several tasks \(death, return\)"):
        labelled(tmp_path, files, "labels")
    assert labelled(tmp_path, files, "labels/death").y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("subjects", "names", "message"),
    [
        ([1, 2, 1], ["train", "held_out", "held_out"], "a subject is in two splits"),
        ([1, 2], ["Train", "held_out"], "a split is called Train; MEDS calls them train, tuning, held_out"),
        ([1, 2], ["train", "test"], "a split is called test"),
        ([1, None], ["train", "held_out"], "column subject_id: a row without one"),
        ([1, 2], ["train", None], "column split: a row without one"),
    ],
)
def test_wrong_splits_are_named(tmp_path: Path, subjects: Any, names: Any, message: str) -> None:
    (tmp_path / "metadata").mkdir()
    table = pa.table({"subject_id": pa.array(subjects, pa.int64()), "split": pa.array(names, pa.string())})
    parquet.write_table(table, tmp_path / "metadata" / "subject_splits.parquet")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": [{"name": "LAB", "range": [0, 10**400]}]}, "range: a number is too large"),
        ({"sex": {"female": ["G"], "male": ["G"]}}, "G stands for both sexes"),
        ({"read": {"hospital": "subject_id"}}, "hospital: subject_id is a column of MEDS"),
    ],
)
def test_a_description_that_cannot_hold_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        describe(**changes)
