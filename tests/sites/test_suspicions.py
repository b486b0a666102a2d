"""What looks wrong in a whole hospital is noted: nobody with the event, one age, a share that is turned round."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from common.task import Task
from sites.cohort import Cohort
from sites.suspicions import EVENT_SHARE, NO_EVENT, ONE_AGE, note_suspicions

TASK = Task("t", "multiclass", ("alive", "died"), ("n", "y"), 0, 0, 0.0, ("score",), ())


def notes(y: npt.NDArray[np.int64], age: npt.NDArray[np.float32]) -> dict[str, int]:
    n = len(y)
    names = tuple(f"p{i}" for i in range(n))
    values = np.random.default_rng(0).normal(size=(n, 1)).astype(np.float32)
    empty = np.zeros((n, 0, 0), np.float32)
    cohort = Cohort(TASK, empty, values, y, np.arange(n), names, names, np.full(n, -1, np.int8), age=age)
    return dict(note_suspicions(cohort, event_share=(0.0, 0.5)).excluded)


def ages(n: int) -> npt.NDArray[np.float32]:
    return np.linspace(20, 90, n).astype(np.float32)


@pytest.mark.parametrize(
    ("people", "events", "expected"),
    [
        (120, 0, {NO_EVENT.format("died"): 120}),
        (120, 1, {}),
        (99, 0, {}),
        (120, 120, {EVENT_SHARE.format("died"): 120}),
    ],
)
def test_nobody_or_everybody_with_the_event_is_noted(people: int, events: int, expected: dict[str, int]) -> None:
    y = (np.arange(people) < events).astype(np.int64)
    assert notes(y, ages(people)) == expected


def test_one_age_of_all_people_is_noted() -> None:
    y = (np.arange(30) < 5).astype(np.int64)
    unknown = np.full(30, np.nan, np.float32)
    assert notes(y, np.zeros(30, np.float32)) == {ONE_AGE: 30}
    assert notes(y, ages(30)) == notes(y, unknown) == {}
    assert notes(y[:15], np.zeros(15, np.float32)) == {}
