"""eICU's tables that are wrong: each is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from common.errors import DataError
from sites.datasets import eicu
from tests.sites.datasets.eicu.eicu_tables import make_options, rewrite


def wrong_cell(column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda result: result.assign(**{column: [value, *result[column][1:]]})


def fahrenheit(result: pd.DataFrame) -> pd.DataFrame:
    celsius = result["temperature"].astype(float)
    return result.assign(temperature=(celsius * 1.8 + 32).where(celsius > 0, -1.0))


def exchanged(one: str, other: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda result: result.assign(**{one: result[other], other: result[one]})


BAD = [
    ("patient", lambda t: t.drop(columns="uniquepid"), "patient.csv.gz: no column uniquepid"),
    ("patient", lambda t: pd.concat([t, t[:2]]), "patient.csv.gz: 2 rows repeat the patientunitstayid"),
    ("patient", wrong_cell("patientunitstayid", ""), "patient.csv.gz: 1 rows have no patientunitstayid"),
    ("patient", wrong_cell("patientunitstayid", "9007199254740993"), "are not whole numbers below 2^53"),
    ("patient", wrong_cell("hospitalid", "4711"), "patient.csv.gz: 1 stays are at hospitals that hospital.csv.gz does"),
    ("patient", wrong_cell("uniquepid", ""), "rows without uniquepid or hospitalid"),
    ("patient", wrong_cell("age", "4711"), "patient.csv.gz: 1 cells of the column age are not an age"),
    ("patient", wrong_cell("age", "x4711"), "patient.csv.gz: 1 cells of the column age are not an age"),
    ("patient", wrong_cell("hospitaldischargestatus", "x4711"), "hospitaldischargestatus are none of Alive, Expired"),
    ("patient", lambda t: t[:3], "no site has both outcomes and the number of"),
    ("patient", lambda t: t.assign(hospitaldischargestatus="Alive"), "no site has both outcomes and the number of"),
    ("hospital", lambda t: t.drop(columns="region"), "hospital.csv.gz: no column region"),
    ("hospital", lambda t: pd.concat([t, t[:1]]), "hospital.csv.gz: a hospital has two rows"),
    ("apacheApsVar", lambda t: t.drop(columns=["wbc", "ph"]), "apacheApsVar.csv.gz: no column wbc, ph"),
    ("apacheApsVar", wrong_cell("wbc", "x4711"), "apacheApsVar.csv.gz: 1 cells of the column wbc are not numbers"),
    ("apacheApsVar", wrong_cell("wbc", "-4711"), "apacheApsVar.csv.gz: the column wbc holds numbers below 0"),
    ("apacheApsVar", lambda t: pd.concat([t, t[:1]]), "apacheApsVar.csv.gz: 1 rows repeat the patientunitstayid"),
    ("apacheApsVar", fahrenheit, "apacheApsVar.csv.gz: the column temperature cannot be in °C"),
    ("apacheApsVar", lambda t: t.assign(glucose="5.5"), "the column glucose cannot be in mg/dL"),
    ("apacheApsVar", lambda t: t.assign(fio2="0.5"), "the column fio2 cannot be in %"),
    ("apacheApsVar", exchanged("hematocrit", "temperature"), "the column temperature cannot be in °C"),
    ("apacheApsVar", exchanged("albumin", "creatinine"), "the column albumin cannot be in g/dL"),
    ("apacheApsVar", exchanged("pco2", "pao2"), "pco2 is mostly larger than pao2"),
    ("apachePredVar", lambda t: t.drop(columns="aids"), "apachePredVar.csv.gz: no column aids"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "line"), BAD, ids=[f"{i}-{line[:40]}" for i, (*_, line) in enumerate(BAD)])
def test_a_wrong_table_is_one_clear_line(
    mine: Path, store: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], line: str
) -> None:
    rewrite(mine, name, change)
    with pytest.raises(DataError) as caught:
        eicu.patients(mine, make_options(), store)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_a_missing_or_damaged_table_is_one_clear_line(mine: Path, store: Path) -> None:
    with pytest.raises(DataError, match="no data folder"):
        eicu.patients(mine / "nowhere", make_options(), store)
    path = mine / "eicu-crd-demo" / "apachePredVar.csv.gz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not gzip"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"apachePredVar.csv.gz: cannot be read as a table"):
            eicu.patients(mine, make_options(), store)
    path.unlink()
    with pytest.raises(DataError, match=r"no table apachePredVar.csv.gz"):
        eicu.patients(mine, make_options(), store)
