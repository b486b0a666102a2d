"""Groups of a site's patients, and which of them are too small to be told.

A group, or a class within it, that fewer patients than the policy's minimum make up is suppressed: its examples
are in no table that leaves. Tables are sums, so the total less the told groups is a table too: while that is of fewer
patients than the minimum, the smallest told group is suppressed as well. A group of nobody is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import SiteError
from common.metrics.subgroups import SEXES, band_indices, name_bands
from common.sections.evaluation import SubgroupsConfig
from sites.cohort import Cohort

MIN_PATIENTS = 5
"""A hospital's histogram cells rest on at least so many people, whatever its policy; a simulation's by its policy."""


@dataclass(frozen=True)
class ReleasableTables:
    """What may leave: of each table name, the mask of examples to count, and the classes that are left out.

    `rows`: bool `(examples,)` by table; `classes`: bool `(classes,)` by table, true where suppressed; `suppressed`:
    tables that are withheld whole.
    """

    rows: Mapping[str, npt.NDArray[np.bool_]]
    classes: Mapping[str, npt.NDArray[np.bool_]]
    suppressed: tuple[str, ...] = ()


def index_people(cohort: Cohort) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the people who have examples, sorted, and each example's index among them."""
    people = sorted({cohort.persons[i] for i in np.unique(cohort.patient)})
    of_person = {name: i for i, name in enumerate(people)}
    index = np.asarray([of_person.get(name, 0) for name in cohort.persons], dtype=np.int64)
    return people, index[cohort.patient] if len(cohort.y) else np.zeros(0, np.int64)


def assign_groups(cohort: Cohort, wanted: SubgroupsConfig) -> dict[str, tuple[tuple[str, ...], npt.NDArray[np.int64]]]:
    """Return of each attribute the names of its groups and every person's, in the order of `people_of`.

    A person with several recordings belongs where the first of them says, so that each is in one group. Attributes
    that the data do not have are left out.

    Raises:
        SiteError: a column is no feature of the task.
    """
    people, owner = index_people(cohort)
    _, first = np.unique(owner, return_index=True)
    patient = cohort.patient[first] if len(people) else np.zeros(0, np.int64)
    found: dict[str, tuple[tuple[str, ...], npt.NDArray[np.int64]]] = {}
    if wanted.sex and cohort.sex is not None:
        found["sex"] = (SEXES, np.where(np.isin(cohort.sex, (0, 1)), cohort.sex, 2)[patient].astype(np.int64))
    if wanted.age and cohort.age is not None:
        found["age"] = (name_bands(wanted.age), band_indices(cohort.age[patient], wanted.age))
    for name, edges in wanted.columns.items():
        if name not in cohort.task.features:
            raise SiteError(f"evaluation.subgroups.columns: {name} is no feature of {cohort.task.name}")
        values = cohort.features[:, cohort.task.features.index(name)].astype(np.float64)
        order = np.argsort(owner, kind="stable")
        parts = np.split(values[order], np.searchsorted(owner[order], np.arange(1, len(people))))
        middle = [float(np.median(part[~np.isnan(part)])) if (~np.isnan(part)).any() else np.nan for part in parts]
        found[name] = (name_bands(edges), band_indices(middle[: len(people)], edges))
    return found


def select_releasable_tables(
    cohort: Cohort, wanted: SubgroupsConfig, minimum: int, whole: str, prefix: str
) -> ReleasableTables:
    """Return what may leave of a cohort: of all its examples (table `whole`) and of each group (`prefix` NAME=GROUP).

    Args:
        cohort: test patients.
        wanted: the groups.
        minimum: patients that a table, group or class needs.
        whole: the name of the table of all.
        prefix: begins the names of the groups' tables.
    """
    people, owner = index_people(cohort)
    classes = len(cohort.task.classes)
    has = np.zeros((len(people), classes), dtype=bool)
    of_class = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(classes)
    for c in range(classes):
        has[owner[of_class[:, c]], c] = True
    groups = assign_groups(cohort, wanted)
    everyone = np.append(has.sum(0), len(people))
    hidden = (everyone > 0) & (everyone < minimum)
    states = {}
    for attribute, (names, index) in groups.items():
        member = index == np.arange(len(names))[:, None]
        table = np.concatenate([member @ has.astype(np.int64), member.sum(1)[:, None]], axis=1)
        states[attribute] = (table[:, -1] > 0, _small(table, minimum))
    rows: dict[str, npt.NDArray[np.bool_]] = {}
    left_out: dict[str, npt.NDArray[np.bool_]] = {}
    gone = []

    def add(name: str, chosen: npt.NDArray[np.bool_], state: npt.NDArray[np.bool_]) -> None:
        if state[-1] or (hidden[-1] and len(people)):
            gone.append(name)
            return
        left_out[name] = state[:-1] | hidden[:-1]
        told = of_class[:, ~left_out[name]].any(1) if cohort.y.ndim == 1 else np.ones(len(owner), bool)
        rows[name] = chosen & told

    add(whole, np.ones(len(owner), bool), hidden)
    for attribute, (names, index) in groups.items():
        there, state = states[attribute]
        for g in np.flatnonzero(there).tolist():
            add(f"{prefix}{attribute}={names[g]}", index[owner] == g, state[g])
    return ReleasableTables(rows, left_out, tuple(gone))


def _small(table: npt.NDArray[np.int64], minimum: int) -> npt.NDArray[np.bool_]:
    """Return which cells to suppress of patients by group and class `(groups, classes + 1)`, the last column all."""
    hide = (table > 0) & (table < minimum)
    while True:
        hide |= hide[:, -1:]
        left = (table * hide).sum(0)
        short = np.flatnonzero((left > 0) & (left < minimum) & (~hide & (table > 0)).any(0))
        if not len(short):
            return hide
        column = short[-1]
        hide[np.where(hide[:, column] | (table[:, column] == 0), np.inf, table[:, column]).argmin(), column] = True
