"""Codes for a missing value within a column's range are reported, and honest columns are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from common.task import Task
from sites.code_values import describe_code_value, find_code_values
from sites.cohort import Cohort, Windows
from sites.suspicions import PERHAPS_ALIKE, note_suspicions

TABLE = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("hr", "lab"), (), units=True, missing=True)
N = 400


def rates() -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).integers(60, 111, N).astype(np.float64)


def lab() -> npt.NDArray[np.float64]:
    return np.round(np.random.default_rng(1).lognormal(1, 1, N), 1) + 0.1


def with_code(values: npt.NDArray[np.float64], code: float, every: int = 40) -> npt.NDArray[np.float64]:
    values = values.copy()
    values[::every] = code
    return values


@pytest.mark.parametrize("code", [0, -1, -7, -9, 7, 200, 222, 777, 997, 9998, 999.9, -1000, 32767, -2147483648, 1e10])
def test_a_code_apart_from_all_other_values_is_found(code: float) -> None:
    assert find_code_values(with_code(rates(), code)) == {code: 10}


@pytest.mark.parametrize(("code", "count"), [(88, 80), (99, 80)])
def test_a_code_among_the_values_is_found_by_how_often_it_occurs(code: float, count: int) -> None:
    values = with_code(np.random.default_rng(3).permutation(np.tile(np.arange(60, 110), 8)).astype(float), code, 5)
    assert find_code_values(values) == {code: int((values == code).sum())}


def test_several_codes_are_found() -> None:
    values = with_code(rates(), -9)
    values[1::40], values[2::40], values[3::40] = -8, 888, 999
    assert find_code_values(values) == {-9: 10, -8: 10, 888: 10, 999: 10}


@pytest.mark.parametrize("seed", range(20))
def test_honest_columns_hold_no_code(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, 5, N).astype(float),
        rng.poisson(2, N).astype(float),
        np.round(rng.lognormal(3, 1.5, N)),
        np.round(rng.normal(98, 2, N)).clip(70, 100),
        rng.normal(0, 1, N),
        np.where(rng.random(N) < 0.7, 0, np.round(rng.exponential(20, N))),
        np.where(rng.random(N) < 0.5, np.round(rng.normal(37, 1, N)), np.round(rng.normal(37, 1, N), 2)),
        np.full(N, np.nan),
    ]
    assert [find_code_values(column) for column in columns] == [{}] * len(columns)


def cohort(task: Task, **changes: object) -> Cohort:
    names = tuple(map(str, range(N)))
    features = np.stack([with_code(rates(), 0), with_code(lab(), 999)], axis=1).astype(np.float32)
    features[1, 1] = np.nan
    arguments = {
        "x": np.zeros((N, 0, 0), np.float32), "features": features, "y": np.arange(N) % 2, "patient": np.arange(N),
        "patients": names, "persons": names, "split": np.zeros(N, np.int8), "excluded": {"rows": 3},
    } | changes  # fmt: skip
    return Cohort(task, **arguments)  # type: ignore[arg-type]


def test_codes_are_counted_by_column_and_stay() -> None:
    plain = cohort(TABLE)
    noted = note_suspicions(plain)
    assert noted.excluded == {"rows": 3, describe_code_value("hr", 0): 10, describe_code_value("lab", 999): 10}
    assert noted.features is plain.features


def test_0_is_not_judged_where_the_data_set_states_a_range() -> None:
    noted = note_suspicions(cohort(TABLE), {"hr", "lab"})
    assert list(noted.excluded) == ["rows", describe_code_value("lab", 999)]


def test_a_number_that_is_no_usual_code_is_not_shown() -> None:
    assert describe_code_value("lab", 437.5).startswith("lab of one number, apart from")


def test_codes_in_tables_of_hours_are_counted_once() -> None:
    task = replace(TABLE, features=(), channels=1, samples=4, rate_hz=1 / 3600, channel_names=("crp",))
    rows = with_code(lab(), 99999)[:, None].astype(np.float32)
    first = np.arange(N) // 8 * 8
    hours = Windows(rows, np.arange(N), first, 4)
    names = {"features": np.zeros((N, 0), np.float32)}
    noted = note_suspicions(cohort(task, x=hours, **names))
    assert noted.excluded == {"rows": 3, describe_code_value("crp", 99999): 10}
    table = rows.reshape(N // 4, 4)[:, None]
    names |= {"y": np.arange(N // 4) % 2, "patient": np.arange(N // 4), "features": np.zeros((N // 4, 0), np.float32)}
    people = {name: tuple(map(str, range(N // 4))) for name in ("patients", "persons")}
    noted = note_suspicions(cohort(task, x=table, split=np.zeros(N // 4, np.int8), **names, **people))
    assert noted.excluded == {"rows": 3, describe_code_value("crp", 99999): 10}


def test_signals_are_not_judged() -> None:
    names = {"features": np.ones((N, 2), np.float32)}
    signals = cohort(replace(TABLE, units=False, missing=False), **names)
    assert note_suspicions(signals) is signals


def test_patients_who_may_be_one_person_are_counted() -> None:
    people = ("A 1", "A_1", "B2", "b-02", "C3", *map(str, range(N - 5)))
    signals = cohort(replace(TABLE, units=False), features=np.ones((N, 2), np.float32), persons=people, patients=people)
    assert note_suspicions(signals).excluded == {"rows": 3, PERHAPS_ALIKE: 2}
