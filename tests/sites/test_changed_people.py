"""People whose sex or age changes as no one person's does are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.task import Task
from sites.changed_people import ONE_TIME, TWO_AGES, TWO_SEXES, count_changed_people
from sites.cohort import Cohort

TASK = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("age", "male"), (), units=True, missing=True)
PEOPLE, ROWS = 30, 10


def make_cohort(hours: float | None = 1.0) -> Cohort:
    """Return hours of people of one age and sex each; the sex of some is not known in some hours."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(PEOPLE), ROWS)
    features = np.stack([rng.integers(20, 90, PEOPLE), rng.integers(0, 2, PEOPLE)], 1)[owner].astype(np.float32)
    features[::7, 1] = np.nan
    n = len(owner)
    names = tuple(f"p{i}" for i in range(PEOPLE))
    covered = None if hours is None else np.full(n, hours, np.float32)
    return Cohort(
        TASK, np.zeros((n, 0, 0), np.float32), features, np.zeros(n, np.int64), owner, names, names,
        np.full(n, -1, np.int8), hours=covered,
    )  # fmt: skip


def test_honest_people_are_not_counted() -> None:
    assert count_changed_people(make_cohort()) == {}
    years = make_cohort(hours=366 * 24.0)  # visits once a year
    years.features[:, 0] += np.tile(np.arange(ROWS), PEOPLE)
    assert count_changed_people(years) == {}
    assert count_changed_people(replace(years, hours=None)) == {}


@pytest.mark.parametrize("rows", [slice(3, 4), slice(0, 5)])
def test_a_changed_sex_or_age_is_counted(rows: slice) -> None:
    cohort = make_cohort()
    cohort.features[rows, 1] = 1 - cohort.features[8, 1]
    cohort.features[20:40:3, 0] += 15
    assert count_changed_people(cohort) == {TWO_SEXES: 1, TWO_AGES: 2}


def test_two_examples_at_one_time_are_counted() -> None:
    cohort = make_cohort()
    assert cohort.hours is not None
    cohort.hours[[4, 55]] = 0
    assert count_changed_people(cohort) == {ONE_TIME: 2}
