"""Groups of a site's patients, and suppression of those that are too small to be reported.

A group, or a class within it, of fewer patients than the policy's minimum is suppressed: its examples are in no table
that leaves. Tables are sums, so the total minus the reported groups is a table too: while that is of fewer patients
than the minimum, the smallest reported group is suppressed as well. Empty groups are left out.
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
"""Fewest people behind a hospital's aggregates of inputs, whatever its policy; simulations may allow fewer."""


@dataclass(frozen=True)
class ReleasableTables:
    """Which tables may leave, and what they may count.

    Attributes:
        rows: by table, the examples to count: bool `(examples,)`.
        classes: by table, the suppressed classes: bool `(classes,)`.
        suppressed: names of the tables that are suppressed as a whole.
    """

    rows: Mapping[str, npt.NDArray[np.bool_]]
    classes: Mapping[str, npt.NDArray[np.bool_]]
    suppressed: tuple[str, ...] = ()


def index_people(cohort: Cohort) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the persons who have examples, sorted, and each example's index among them, `(examples,)`."""
    people = sorted({cohort.persons[i] for i in np.unique(cohort.patient)})
    index_by_person = {name: i for i, name in enumerate(people)}
    index = np.asarray([index_by_person.get(name, 0) for name in cohort.persons], dtype=np.int64)
    return people, index[cohort.patient] if len(cohort.y) else np.zeros(0, np.int64)


def assign_groups(cohort: Cohort, wanted: SubgroupsConfig) -> dict[str, tuple[tuple[str, ...], npt.NDArray[np.int64]]]:
    """Return each attribute's group names and every person's group, in the order of `index_people`.

    Sex and age are those of a person's first recording, columns the person's median, so that each person is in one
    group. Attributes that the data lack are left out.

    Raises:
        SiteError: a column is not a feature of the task.
    """
    people, owner = index_people(cohort)
    _, first = np.unique(owner, return_index=True)
    patient = cohort.patient[first] if len(people) else np.zeros(0, np.int64)
    groups: dict[str, tuple[tuple[str, ...], npt.NDArray[np.int64]]] = {}
    if wanted.sex and cohort.sex is not None:
        groups["sex"] = (SEXES, np.where(np.isin(cohort.sex, (0, 1)), cohort.sex, 2)[patient].astype(np.int64))
    if wanted.age and cohort.age is not None:
        groups["age"] = (name_bands(wanted.age), band_indices(cohort.age[patient], wanted.age))
    for name, edges in wanted.columns.items():
        if name not in cohort.task.features:
            raise SiteError(f"evaluation.subgroups.columns: {name} is not a feature of {cohort.task.name}")
        values = cohort.features[:, cohort.task.features.index(name)].astype(np.float64)
        order = np.argsort(owner, kind="stable")
        parts = np.split(values[order], np.searchsorted(owner[order], np.arange(1, len(people))))
        medians = [float(np.median(part[~np.isnan(part)])) if (~np.isnan(part)).any() else np.nan for part in parts]
        groups[name] = (name_bands(edges), band_indices(medians[: len(people)], edges))
    return groups


def select_releasable_tables(
    cohort: Cohort, wanted: SubgroupsConfig, minimum: int, whole: str, prefix: str
) -> ReleasableTables:
    """Return which tables of a cohort may leave: of all examples (`whole`), and of each group (`prefix` NAME=GROUP).

    Args:
        cohort: test patients.
        wanted: the groups.
        minimum: fewest patients of a table, group or class.
        whole: name of the table of all examples.
        prefix: of the names of the groups' tables.
    """
    people, owner = index_people(cohort)
    classes = len(cohort.task.classes)
    has = np.zeros((len(people), classes), dtype=bool)
    in_class = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(classes)
    for c in range(classes):
        has[owner[in_class[:, c]], c] = True
    groups = assign_groups(cohort, wanted)
    everyone = np.append(has.sum(0), len(people))
    hidden = (everyone > 0) & (everyone < minimum)
    states = {}
    for attribute, (names, index) in groups.items():
        member = index == np.arange(len(names))[:, None]
        table = np.concatenate([member @ has.astype(np.int64), member.sum(1)[:, None]], axis=1)
        states[attribute] = (table[:, -1] > 0, _select_small_cells(table, minimum))
    rows: dict[str, npt.NDArray[np.bool_]] = {}
    hidden_classes: dict[str, npt.NDArray[np.bool_]] = {}
    suppressed = []

    def add(name: str, chosen: npt.NDArray[np.bool_], state: npt.NDArray[np.bool_]) -> None:
        if state[-1] or (hidden[-1] and len(people)):
            suppressed.append(name)
            return
        hidden_classes[name] = state[:-1] | hidden[:-1]
        reported = in_class[:, ~hidden_classes[name]].any(1) if cohort.y.ndim == 1 else np.ones(len(owner), bool)
        rows[name] = chosen & reported

    add(whole, np.ones(len(owner), bool), hidden)
    for attribute, (names, index) in groups.items():
        present, state = states[attribute]
        for g in np.flatnonzero(present).tolist():
            add(f"{prefix}{attribute}={names[g]}", index[owner] == g, state[g])
    return ReleasableTables(rows, hidden_classes, tuple(suppressed))


def _select_small_cells(table: npt.NDArray[np.int64], minimum: int) -> npt.NDArray[np.bool_]:
    """Return which cells to suppress in a table of patients by group and class, `(groups, classes + 1)`.

    The last column counts all patients of a group.
    """
    hide = (table > 0) & (table < minimum)
    while True:
        hide |= hide[:, -1:]
        remainder = (table * hide).sum(0)  # what can be computed by subtraction
        short = np.flatnonzero((remainder > 0) & (remainder < minimum) & (~hide & (table > 0)).any(0))
        if not len(short):
            return hide
        column = short[-1]
        hide[np.where(hide[:, column] | (table[:, column] == 0), np.inf, table[:, column]).argmin(), column] = True
