"""A few people whose values are in another unit are counted, and honest people are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.task import Task
from sites.cohort import Cohort, Windows
from sites.person_units import (
    count_apart,
    count_units_of_people,
    describe_reversed,
    describe_unit_of_people,
    find_factors,
)
from sites.suspicions import note_suspicions

PEOPLE = 150


def make_cohort(values: np.ndarray, name: str = "Calcium", rows: int = 4, *, windows: bool = False) -> Cohort:
    """Return a cohort of one column whose values are `(people, rows)`."""
    flat = values.reshape(-1, 1).astype(np.float32)
    n = len(flat)
    names = tuple(f"p{i}" for i in range(len(values)))
    task = Task(
        "t", "multiclass", ("no", "yes"), ("n", "y"), int(windows), 3 if windows else 0, 0.0,
        () if windows else (name,), (name,) if windows else (), units=True, missing=True,
    )  # fmt: skip
    first = np.arange(n) // rows * rows
    x = Windows(flat, np.arange(n), first, 3) if windows else np.zeros((n, 0, 0), np.float32)
    features = np.zeros((n, 0), np.float32) if windows else flat
    owner = np.repeat(np.arange(len(values)), rows)
    return Cohort(task, x, features, (owner % 5 == 0).astype(np.int64), owner, names, names, np.full(n, -1, np.int8))


def calcium(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(8.3, 0.7, (PEOPLE, 1)) + np.random.default_rng(seed).normal(
        0, 0.2, (PEOPLE, 4)
    )


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("people", [1, 3, 20])
def test_people_in_another_unit_are_counted(people: int, windows: bool) -> None:
    values = calcium(people)
    values[5 : 5 + people] *= 0.2495  # mmol/L, within the range of cells
    cohort = make_cohort(values, windows=windows)
    assert count_units_of_people(cohort) == {describe_unit_of_people("Calcium"): people}
    assert note_suspicions(cohort).excluded == {describe_unit_of_people("Calcium"): people}


@pytest.mark.parametrize("seed", range(30))
def test_honest_people_are_not_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert count_units_of_people(make_cohort(calcium(seed))) == {}
    for name, spread in (("Creatinine", 0.6), ("BUN", 0.7), ("TroponinI", 2.0), ("AST", 1.0), ("WBC", 0.5)):
        values = rng.lognormal(1, spread, (PEOPLE, 4))
        assert count_units_of_people(make_cohort(values, name)) == {}


def test_one_sick_person_far_from_the_others_is_not_counted() -> None:
    values = calcium(1)
    values[3] = 5.0  # half way to mmol/L, as nobody else
    assert count_units_of_people(make_cohort(values)) == {}


def test_few_people_and_columns_without_units_are_not_judged() -> None:
    values = calcium(2)
    values[3] *= 0.2495
    assert count_units_of_people(make_cohort(values[:90])) == {}
    assert count_units_of_people(make_cohort(values, "score")) == {}


@pytest.mark.parametrize(("name", "factor"), [("log glucose", 1 / 18.016), ("hgb", 10.0), ("potassium", 3.91)])
def test_factors_are_those_of_the_molar_masses(name: str, factor: float) -> None:
    assert factor in find_factors(name)


@pytest.mark.realdata
def test_the_public_hourly_data_hold_one_stay_apart() -> None:
    """A stay has pressures of 20 over 11 with a mean pressure of 86 mmHg: kPa."""
    table = Path("data/yaib-demo/eicu_demo/dyn.parquet")
    if not table.is_file():
        pytest.skip("no hourly cohort")
    hours = pd.read_parquet(table)
    for name in hours.columns:
        medians = hours.groupby("stay_id")[name].median().dropna().to_numpy(float) if find_factors(name) else None
        people = [count_apart(medians, factor) for factor in find_factors(name)] if medians is not None else []
        assert max(people, default=0) == (name == "sbp"), name


def test_a_person_whose_mean_pressure_is_above_the_systolic_one_is_counted() -> None:
    rng = np.random.default_rng(0)
    systolic = rng.normal(120, 15, (30, 6))
    mean = systolic * 0.7 + rng.normal(0, 3, systolic.shape)
    task = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("SBP", "MAP"), (), units=True, missing=True)
    names = tuple(f"p{i}" for i in range(30))

    def notes() -> dict[str, int]:
        features = np.stack([systolic.ravel(), mean.ravel()], 1).astype(np.float32)
        n = len(features)
        empty = np.zeros((n, 0, 0), np.float32)
        owner = np.repeat(np.arange(30), 6)
        return count_units_of_people(
            Cohort(task, empty, features, np.zeros(n, np.int64), owner, names, names, np.full(n, -1, np.int8))
        )

    assert notes() == {}
    systolic[4, 0] = 20  # one odd row is none
    assert notes() == {}
    systolic[4] *= 0.1333  # kPa, within the range of cells
    assert notes() == {describe_reversed("MAP", "SBP"): 1}


def test_a_pressure_that_is_somewhat_larger_and_derived_columns_are_not_counted() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(100, 5, (30, 6, 2)).reshape(-1, 2).astype(np.float32)
    values[:, 1] = values[:, 0] * 1.1  # the mean pressure of another hour
    task = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("SBP", "MAP"), (), units=True, missing=True)
    n, names = len(values), tuple(f"p{i}" for i in range(30))
    owner = np.repeat(np.arange(30), 6)
    cohort = Cohort(
        task, np.zeros((n, 0, 0), np.float32), values, np.zeros(n, np.int64), owner, names, names,
        np.full(n, -1, np.int8),
    )  # fmt: skip
    assert count_units_of_people(cohort) == {}
    for name in ("TroponinI recency", "SBP 6 h mean", "systolic trend"):
        assert find_factors(name) == ()
    for name in ("TroponinI", "troponin", "systolic", "Diastolic blood pressure"):
        assert find_factors(name)
