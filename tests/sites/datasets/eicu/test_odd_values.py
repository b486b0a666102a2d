"""Values of eICU's tables as hospitals export them: other units, impossible numbers, codes and words that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import DataError
from sites.cohort import Cohort
from tests.sites.datasets.eicu.test_odd_tables import Edit, copy, generated, scored, store, whole

__all__ = ["generated", "store"]  # fixtures


def cleared(cohort: Cohort) -> dict[str, int]:
    return {name: number for name, number in cohort.excluded.items() if name.endswith("read as not measured")}


def in_unit(column: str, factor: float, offset: float = 0.0, *, stays: set[str] | None = None) -> Edit:
    """Return what gives a column's measured values in another unit, at some stays."""

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        value = frame[column].astype(float)
        chosen = (value != -1) & (frame["patientunitstayid"].isin(stays or set()) if stays is not None else True)
        return frame.assign(**{column: value.where(~chosen, value * factor + offset)})

    return edit


OTHER_UNITS = {
    "glucose in mmol/L": ("glucose", 1 / 18, 0.0),
    "creatinine in µmol/L": ("creatinine", 88.4, 0.0),
    "temperature in °F": ("temperature", 1.8, 32.0),
}


@pytest.mark.parametrize(("column", "factor", "offset"), OTHER_UNITS.values(), ids=OTHER_UNITS)
@pytest.mark.parametrize("scoring", [False, True])
def test_another_unit_at_one_hospital_is_refused_by_name(
    generated: Path, tmp_path: Path, store: Path, column: str, factor: float, offset: float, scoring: bool
) -> None:
    patients = pd.read_csv(generated / "eicu-crd-demo" / "patient.csv.gz", dtype=str)
    stays = set(patients["patientunitstayid"][patients["hospitalid"] == "67"])
    folder = copy(generated, tmp_path / "case", "apacheApsVar", in_unit(column, factor, offset, stays=stays))
    with pytest.raises(DataError, match=rf"apacheApsVar\.csv\.gz: hospital 67: the column {column} cannot be in"):
        (scored if scoring else whole)(folder, store)


@pytest.mark.parametrize(
    ("column", "value"),
    [("glucose", 5.5), ("creatinine", 88), ("temperature", 98.6), ("meanbp", 0), ("glucose", 0), ("sodium", 9999)],
)
def test_an_implausible_cell_becomes_missing_and_is_counted_by_column(
    generated: Path, tmp_path: Path, store: Path, column: str, value: float
) -> None:
    stay = whole(generated, store).patients[3]

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{column: frame[column].where(frame["patientunitstayid"] != stay, str(value))})

    folder = copy(generated, tmp_path / "case", "apacheApsVar", edit)
    cohort, rows = whole(folder, store), scored(folder, store)
    counted = cleared(cohort)
    assert [(name.partition(" ")[0], number) for name, number in counted.items()] == [(column, 1)]
    assert rows.cleared == counted
    index = cohort.task.features.index(column)
    assert np.isnan(cohort.features[3, index])
    assert np.isnan(rows.cohort.features[rows.cohort.patients.index(stay), index])


@pytest.mark.parametrize(("channel", "value"), [("ast", 0), ("ca", 1.1), ("dbp", 0), ("weight", 9999), ("k", 400)])
def test_every_hourly_value_has_limits(
    generated: Path, tmp_path: Path, store: Path, channel: str, value: float
) -> None:
    folder = copy(generated, tmp_path / "case")
    hourly = tmp_path / "yaib-demo" / "eicu_demo"
    hourly.mkdir(parents=True)
    for path in (generated / "yaib-demo" / "eicu_demo").glob("*.parquet"):
        frame = pd.read_parquet(path)
        if channel in frame:
            frame.loc[7, channel] = value
        frame.to_parquet(hourly / path.name, index=False)
    before = cleared(whole(generated, store, view="hours"))  # generated values go down to 0
    after = cleared(whole(folder, store, view="hours"))
    assert [name.partition(" ")[0] for name in after if after[name] == before.get(name, 0) + 1] == [channel]
    assert scored(folder, store, view="hours").cleared == after


@pytest.mark.parametrize("edit", [str.lower, str.upper, lambda word: word[:1], lambda word: f" {word} "])
def test_sex_is_read_in_any_spelling(generated: Path, tmp_path: Path, store: Path, edit: Callable[[str], str]) -> None:
    folder = copy(generated, tmp_path / "case", "patient", lambda t: t.assign(gender=t["gender"].map(edit)))
    plain, cohort = whole(generated, store), whole(folder, store)
    assert plain.sex is not None
    assert cohort.sex is not None
    assert set(plain.sex.tolist()) == {0, 1}
    np.testing.assert_array_equal(cohort.sex, plain.sex)


def test_a_sex_in_words_that_are_not_known_is_refused(generated: Path, tmp_path: Path, store: Path) -> None:
    folder = copy(generated, tmp_path / "case", "patient", lambda t: t.assign(gender="1"))
    with pytest.raises(DataError, match=r"patient\.csv\.gz: \d+ cells of the column gender are none of f, female"):
        whole(folder, store)


CELLS: dict[str, tuple[str, str, str, str]] = {
    "an age of 90+": ("patient", "age", "90+", "cells of the column age are not an age in years"),
    "an age of -1": ("patient", "age", "-1", "cells of the column age are not an age in years"),
    "an age of 300": ("patient", "age", "300", "cells of the column age are not an age in years"),
    "missing as -9999": ("apacheApsVar", "glucose", "-9999", "glucose holds numbers below 0 other than -1"),
    "missing as -": ("apacheApsVar", "glucose", "-", "cells of the column glucose are not numbers"),
    "thousands": ("apacheApsVar", "urine", "1,234.5", "cells of the column urine are not numbers"),
}


@pytest.mark.parametrize(("table", "column", "value", "line"), CELLS.values(), ids=CELLS)
def test_a_cell_that_cannot_be_understood_is_refused(
    generated: Path, tmp_path: Path, store: Path, table: str, column: str, value: str, line: str
) -> None:
    folder = copy(generated, tmp_path / "case", table, lambda t: t.assign(**{column: [value, *t[column].iloc[1:]]}))
    for read in (whole, scored):
        with pytest.raises(DataError, match=line):
            read(folder, store)


@pytest.mark.parametrize(("column", "value"), [("age", ">89"), ("age", "NaN"), ("gender", "Unknown")])
def test_an_unknown_age_or_sex_and_one_above_89_are_read(
    generated: Path, tmp_path: Path, store: Path, column: str, value: str
) -> None:
    first = whole(generated, store).patients[0]

    def edit(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{column: table[column].where(table["patientunitstayid"] != first, value)})

    cohort = whole(copy(generated, tmp_path / "case", "patient", edit), store)
    assert cohort.age is not None
    assert cohort.sex is not None
    assert {">89": cohort.age[0] == 90, "NaN": np.isnan(cohort.age[0]), "Unknown": cohort.sex[0] == -1}[value]


WORDS: dict[str, tuple[str, Edit, str]] = {
    "another source": (
        "patient",
        lambda t: t.assign(unitadmitsource="Notaufnahme"),
        "the column unitadmitsource are none of",
    ),
    "other diagnoses": ("apachePredVar", lambda t: t.assign(admitdiagnosis="I21.4"), "is one of APACHE's diagnoses"),
}


@pytest.mark.parametrize(("table", "edit", "what"), WORDS.values(), ids=WORDS)
def test_words_that_eicu_does_not_have_are_refused(
    generated: Path, store: Path, tmp_path: Path, table: str, edit: Edit, what: str
) -> None:
    folder = copy(generated, tmp_path / "case", table, edit)
    for read in (whole, scored):
        with pytest.raises(DataError, match=what):
            read(folder, store)


CODES = [
    ("apacheApsVar", "intubated", "2"), ("apacheApsVar", "vent", "0.5"), ("apacheApsVar", "verbal", "15"),
    ("apacheApsVar", "eyes", "0"), ("apachePredVar", "diabetes", "9"), ("apachePredVar", "electivesurgery", "2"),
    ("apacheApsVar", "glucose", "999"), ("apacheApsVar", "urine", "9999"), ("patient", "age", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column", "value"), CODES)
def test_codes_that_a_column_does_not_have_are_missing_and_counted(
    generated: Path, store: Path, tmp_path: Path, table: str, column: str, value: str
) -> None:
    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[frame.index[:9], column] = value
        return frame

    result = scored(copy(generated, tmp_path / "case", table, edit), store)
    assert sum(result.cleared.values()) in range(5, 10)  # some of the nine stays lack the other tables
    assert all(what.startswith(f"{column} o") for what in result.cleared)


def test_heights_in_inches_and_weights_in_pounds_are_refused(generated: Path, store: Path, tmp_path: Path) -> None:
    for column, value in (("admissionheight", "67"), ("admissionweight", "177")):
        folder = copy(generated, tmp_path / column, "patient", lambda t, c=column, v=value: t.assign(**{c: v}))
        with pytest.raises(DataError, match=f"the column {column} cannot be in"):
            scored(folder, store, columns=(column,))


def test_urea_in_mmol_is_refused_where_a_hospital_has_many_stays(generated: Path, store: Path, tmp_path: Path) -> None:
    folder = copy(generated, tmp_path / "case", "apacheApsVar", lambda t: t.assign(bun="6.4"))
    with pytest.raises(DataError, match="the column bun cannot be in mg/dL"):
        scored(folder, store)
