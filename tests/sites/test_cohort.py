from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.errors import DataError
from common.task import Task
from sites.cohort import SPLITS, Cohort, join_cohorts

TASK = Task("t", "multiclass", ("N", "V"), ("n", "v"), 1, 4, 125.0, ("rr", "height"), ("lead",))


def cohort(n: int = 6, patients: tuple[str, ...] = ("a", "b", "c"), persons: tuple[str, ...] | None = None) -> Cohort:
    rng = np.random.default_rng(n)
    return Cohort(
        TASK,
        rng.normal(size=(n, 1, 4)).astype(np.float32),
        rng.normal(size=(n, 2)).astype(np.float32),
        np.arange(n) % 2,
        np.arange(n) % len(patients),
        patients,
        persons or patients,
        (np.arange(n) % 3).astype(np.int8),
        {"what": n},
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": np.zeros((6, 1, 5), np.float32)}, r"x has shape \(6, 1, 5\), not \(6, 1, 4\)"),
        ({"x": np.zeros((5, 1, 4), np.float32)}, "x has shape"),
        ({"features": np.zeros((6, 3), np.float32)}, r"features has shape \(6, 3\), not \(6, 2\)"),
        ({"patient": np.zeros(5, np.int64)}, "patient has shape"),
        ({"split": np.zeros((6, 1), np.int8)}, "split has shape"),
        ({"y": np.array([0, 1, 0, 1, 0, 2])}, "a label is outside the 2 classes"),
        ({"y": np.array([0, 1, 0, 1, 0, -1])}, "a label is outside the 2 classes"),
        ({"persons": ("a", "b")}, "patients and persons differ in number"),
        ({"x": np.full((6, 1, 4), np.nan, np.float32)}, "NaN or infinite"),
        ({"x": np.full((6, 1, 4), np.inf, np.float32)}, "NaN or infinite"),
        ({"features": np.full((6, 2), -np.inf, np.float32)}, "NaN or infinite"),
        ({"patient": np.array([0, 1, 2, 0, 1, 3])}, "an example belongs to none of the 3 patients"),
        ({"patient": np.array([0, 1, 2, 0, 1, -1])}, "an example belongs to none of the 3 patients"),
    ],
)
def test_a_cohort_that_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        replace(cohort(), **change)


def test_an_infinity_is_not_hidden_by_its_opposite() -> None:
    x = np.zeros((6, 1, 4), np.float32)
    x[0, 0, :2] = np.inf, -np.inf
    with pytest.raises(DataError, match="NaN or infinite"):
        replace(cohort(), x=x)


def test_an_empty_cohort_is_one() -> None:
    empty = cohort().take(np.zeros(6, bool))
    assert empty.people() == 0
    assert empty.class_counts() == (0, 0)
    assert empty.patients == ("a", "b", "c")
    assert empty.summary() == {"patients": 0, "examples": 0, "classes": [0, 0]}


def test_a_mask_and_indices_take_the_same_rows() -> None:
    whole = cohort()
    chosen = np.array([True, False, True, True, False, False])
    one, other = whole.take(chosen), whole.take(np.flatnonzero(chosen))
    for field in ("x", "features", "y", "patient", "split"):
        np.testing.assert_array_equal(getattr(one, field), getattr(whole, field)[chosen])
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    back = whole.take(np.array([5, 0]))
    np.testing.assert_array_equal(back.y, whole.y[[5, 0]])


def test_parts_are_the_rows_of_a_split() -> None:
    whole = cohort(7)
    parts = {name: whole.part(name) for name in SPLITS}
    assert [len(parts[name].y) for name in SPLITS] == [3, 2, 2]
    np.testing.assert_array_equal(parts["test"].x, whole.x[[2, 5]])
    nothing = whole.with_split(np.full(7, -1, np.int8))
    assert sum(len(nothing.part(name).y) for name in SPLITS) == 0


def test_people_are_counted_once_however_many_recordings_they_have() -> None:
    shared = cohort(6, persons=("x", "x", "y"))
    assert shared.people() == 2
    assert shared.take(np.array([0, 1])).people() == 1
    assert cohort(6).people() == 3


def test_a_summary_counts_patients_examples_and_classes() -> None:
    whole = cohort(7, persons=("x", "x", "y"))
    assert whole.summary() == {"patients": 2, "examples": 7, "classes": [4, 3]}
    assert whole.part("train").summary() == {"patients": 1, "examples": 3, "classes": [2, 1]}
    assert whole.part("validation").summary() == {"patients": 1, "examples": 2, "classes": [1, 1]}


def test_joining_keeps_every_row_with_its_own_patient() -> None:
    one, other = cohort(6), replace(cohort(4, ("a", "d")), synthetic=True, excluded={"what": 1, "else": 2})
    both = join_cohorts([one, other])
    np.testing.assert_array_equal(both.x, np.concatenate([one.x, other.x]))
    owners = [both.patients[i] for i in both.patient]
    assert owners == [one.patients[i] for i in one.patient] + [other.patients[i] for i in other.patient]
    assert both.excluded == {"what": 7, "else": 2}
    assert both.synthetic
    assert join_cohorts([one]).people() == one.people()
    with pytest.raises(DataError, match="every site is empty"):
        join_cohorts([])
