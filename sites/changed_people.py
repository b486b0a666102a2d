"""People whose sex or age changes between their examples, or who have two examples at one time: two people as one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort

TWO_SEXES = "people whose sex changes between their examples: two people under one name? (not left out)"
TWO_AGES = "people whose age changes by more than their time passes: two people under one name? (not left out)"
ONE_TIME = "examples at the same time as another one of the same person: counted twice? (not left out)"
SEXES, AGES = ("male", "female", "sex", "gender"), ("age",)
YEAR_HOURS = 365.25 * 24


def count_changed_people(cohort: Cohort) -> dict[str, int]:
    """Return how many people change as no one person does, by the words under which they are counted."""
    names = [name.lower() for name in cohort.task.features]
    if not cohort.task.units and not cohort.task.missing:
        return {}
    number = {name: i for i, name in enumerate(dict.fromkeys(cohort.persons))}
    owner = np.asarray([number[name] for name in cohort.persons], np.int64)[cohort.patient]
    notes: dict[str, int] = {}
    sexes = [_span(owner, cohort.features[:, i], len(number)) for i, name in enumerate(names) if name in SEXES]
    if changed := int(np.any([span > 0 for span in sexes], axis=0).sum()) if sexes else 0:
        notes[TWO_SEXES] = changed
    if cohort.hours is None or (cohort.task.channels and not cohort.task.missing):
        return notes
    passed = np.bincount(owner, np.nan_to_num(cohort.hours), minlength=len(number)) / YEAR_HOURS
    ages = [_span(owner, cohort.features[:, i], len(number)) for i, name in enumerate(names) if name in AGES]
    if changed := int(np.any([span > passed + 1 for span in ages], axis=0).sum()) if ages else 0:
        notes[TWO_AGES] = changed
    if same := int((cohort.hours == 0).sum()):
        notes[ONE_TIME] = same
    return notes


def _span(owner: npt.NDArray[np.int64], values: npt.NDArray[np.floating], people: int) -> npt.NDArray[np.float64]:
    """Return the difference of each person's largest and smallest value, negative without a value."""
    low, high = np.full(people, np.inf), np.full(people, -np.inf)
    known = ~np.isnan(values)
    np.minimum.at(low, owner[known], values[known])
    np.maximum.at(high, owner[known], values[known])
    span: npt.NDArray[np.float64] = high - low
    return span
