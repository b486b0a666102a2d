"""Table 1: who the patients of each hospital are, with counts of few people hidden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.table_one import TableOneRow, format_people, format_quartiles
from sites.cohort import Cohort

MIN_FOR_QUARTILES = 20
"""Fewest people for a median and quartiles: no value of theirs is then one of a few."""


def build_table_one(hospitals: dict[str, Cohort], floor: int) -> tuple[TableOneRow, ...]:
    """Return the table over hospitals.

    People are counted, not rows: of a person with several rows the first is taken. A number of fewer than `floor`
    people, or of all but fewer than `floor`, is written as `<5` or `>95` (with a floor of 5 and 100 people).

    Args:
        hospitals: examples of each hospital, by name; all of one task.
        floor: fewest people whose number is stated.
    """
    firsts = {name: _first_rows(cohort) for name, cohort in hospitals.items()}
    task = next(iter(hospitals.values())).task
    rows = [TableOneRow("patients", tuple(str(len(rows)) for rows in firsts.values()))]
    for code, label in enumerate(task.classes):
        rows.append(TableOneRow(label, tuple(_count_class(cohort, code, floor) for cohort in hospitals.values())))
    ages = [cohort.age for cohort in hospitals.values()]
    if "age" not in task.features and all(age is not None for age in ages):
        rows.append(TableOneRow("age", tuple(_quartiles(age) for age in ages if age is not None)))
    binary = set(task.binary_features)
    for column, name in enumerate(task.features):
        if name.endswith(" measured"):
            continue
        values = [cohort.features[firsts[site], column] for site, cohort in hospitals.items()]
        cells = tuple(_share(each, floor) if name in binary else _quartiles(each) for each in values)
        rows.append(TableOneRow(name, cells))
        if any(np.isnan(each).any() for each in values):
            missing = tuple(format_people(int(np.isnan(each).sum()), len(each), floor) for each in values)
            rows.append(TableOneRow(f"{name}, missing", missing))
    return tuple(rows)


def _first_rows(cohort: Cohort) -> npt.NDArray[np.int64]:
    """Return the first row of each person."""
    persons = np.asarray(cohort.persons, dtype=object)[cohort.patient]
    first: dict[str, int] = {}
    for row, name in enumerate(persons):
        first.setdefault(name, row)
    return np.fromiter(first.values(), np.int64, len(first))


def _count_class(cohort: Cohort, code: int, floor: int) -> str:
    has = cohort.y[:, code] == 1 if cohort.y.ndim == 2 else cohort.y == code
    persons = np.asarray(cohort.persons, dtype=object)[cohort.patient]
    return format_people(len(set(persons[has].tolist())), len(set(persons.tolist())), floor)


def _share(values: npt.NDArray[np.float32], floor: int) -> str:
    known = values[~np.isnan(values)]
    return format_people(int((known == 1).sum()), len(known), floor) if len(known) >= floor else "-"


def _quartiles(values: npt.NDArray[np.float32]) -> str:
    known = values[~np.isnan(values)].astype(np.float64)
    if len(known) < MIN_FOR_QUARTILES:
        return "-"
    low, middle, high = (float(value) for value in np.quantile(known, [0.25, 0.5, 0.75]))
    return format_quartiles(low, middle, high)
