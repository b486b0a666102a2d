"""Case mix: people are left out, without replacement, until shares of age, sex and class are as configured.

The unit is the person, on each side of the split separately, so that training, validation and test patients all have
the configured shares. Shares of age, sex and class that are configured together hold together: each kind of person
(older woman with the event, ...) is kept in a proportion that raking gives (iterative proportional fitting; Deming,
Stephan 1940, Annals of Mathematical Statistics 11(4):427-444), scaled so that as many people stay as possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from common.sections.shift import Where
from sites.cohort import SPLITS, Cohort
from sites.shift.site_shift import Mask, Notes, SiteShift, class_index, has_class, selected_rows

UNKNOWN = -1


@dataclass(frozen=True)
class _Mix:
    """A share of people of one kind.

    Attributes:
        option: the option that requests it.
        words: the kind, in words.
        share: the share of the kind among people of known kind.
        where: the sides of the split that it applies to.
        mark: returns 1 (of the kind), 0 or UNKNOWN for each of the cohort's persons.
    """

    option: str
    words: str
    share: float
    where: Where
    mark: Callable[[Cohort, Mask], npt.NDArray[np.int64]]


def adjust_case_mix(cohort: Cohort, at: SiteShift, notes: Notes) -> Cohort:
    """Return the cohort with its mix of ages, sexes and classes as configured."""
    mixes = [mix for mix in (_age(cohort, at), _sex(cohort, at), _prevalence(cohort, at)) if mix]
    if not mixes:
        return cohort
    _, code = _persons(cohort)
    person = code[cohort.patient]
    stays = np.ones(len(cohort.y), dtype=np.bool_)
    gone: set[int] = set()
    for name, side in _sides(cohort, "all"):
        present = np.unique(person[side])
        applied = [mix for mix in mixes if (side & selected_rows(cohort, mix.where)).any()]
        if not applied:
            continue
        marks = np.stack([mix.mark(cohort, side)[present] for mix in applied], axis=1)
        rng = at.rng(",".join(mix.option for mix in applied), name)
        out = present[~draw_remaining(marks, [mix.share for mix in applied], rng)]
        stays &= ~(side & np.isin(person, out))
        gone |= set(out.tolist())
    if gone:
        what = "people left out by shift: " + ", ".join(mix.option for mix in mixes)
        cohort = replace(cohort.take(stays), excluded={**cohort.excluded, what: len(gone)})
    for mix in mixes:
        notes[mix.option] = _words(cohort, mix, len(gone))
    return cohort


def _age(cohort: Cohort, at: SiteShift) -> _Mix | None:
    option = at.options.age_mix
    if option is None:
        return None
    if cohort.age is None:
        raise at.error("age_mix", f"{cohort.task.name} has no ages of its patients")
    names, code = _persons(cohort)
    oldest = np.full(len(names), -np.inf)
    known = np.isfinite(cohort.age)
    np.maximum.at(oldest, code[known], cohort.age[known].astype(np.float64))
    mark = np.where(np.isfinite(oldest), oldest >= option.from_age, UNKNOWN).astype(np.int64)
    words = f"people of {option.from_age:g} years or more"
    return _Mix("age_mix", words, option.older, option.where, lambda cohort, side: mark)


def _sex(cohort: Cohort, at: SiteShift) -> _Mix | None:
    option = at.options.sex_mix
    if option is None:
        return None
    if cohort.sex is None:
        raise at.error("sex_mix", f"{cohort.task.name} has no sexes of its patients")
    names, code = _persons(cohort)
    mark = np.full(len(names), UNKNOWN, dtype=np.int64)
    known = cohort.sex >= 0
    mark[code[known]] = cohort.sex[known] == 0
    return _Mix("sex_mix", "women", option.women, option.where, lambda cohort, side: mark)


def _prevalence(cohort: Cohort, at: SiteShift) -> _Mix | None:
    option = at.options.prevalence
    if option is None:
        return None
    if option.class_name is None and not cohort.task.binary:
        raise at.error("prevalence", f"set `class_name` to one of the classes: {', '.join(cohort.task.classes)}")
    index = class_index(cohort, option.class_name or cohort.task.classes[-1], at, "prevalence")

    def mark(cohort: Cohort, side: Mask) -> npt.NDArray[np.int64]:
        names, code = _persons(cohort)
        marks = np.zeros(len(names), dtype=np.int64)
        marks[code[cohort.patient[side & has_class(cohort, index)]]] = 1
        return marks

    return _Mix("prevalence", f"people with {cohort.task.classes[index]}", option.share, option.where, mark)


def _persons(cohort: Cohort) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return all persons, sorted, and the index of each recording's person."""
    names = sorted(set(cohort.persons))
    index = {name: i for i, name in enumerate(names)}
    return names, np.asarray([index[name] for name in cohort.persons], dtype=np.int64)


def _sides(cohort: Cohort, where: Where) -> list[tuple[str, Mask]]:
    allowed = selected_rows(cohort, where)
    sides = [(name, allowed & (cohort.split == code)) for code, name in enumerate(SPLITS)]
    return [(name, side) for name, side in [*sides, ("unsplit", allowed & (cohort.split < 0))] if side.any()]


def draw_remaining(marks: npt.NDArray[np.int64], wanted: Sequence[float], rng: np.random.Generator) -> Mask:
    """Return which people stay, so that the share of 1 in each column of marks is as wanted, within about one person.

    Args:
        marks: `(people, columns)` of 1, 0 and UNKNOWN; an unknown mark counts as the rarer kind, which stays.
        wanted: share of 1 among 1 and 0, for each column.
        rng: draws which people of a kind stay.

    Returns:
        `(people,)`; all True if a group that should have people is empty or would be emptied.
    """
    everyone = np.ones(len(marks), dtype=np.bool_)
    columns = [(marks[:, i] == 1, marks[:, i] == 0, share) for i, share in enumerate(wanted)]
    columns = [(yes, no, share) for yes, no, share in columns if (yes | no).any()]
    weight = np.ones(len(marks))
    for _ in range(200):
        before = weight.copy()
        for yes, no, share in columns:
            a, b = float(weight[yes].sum()), float(weight[no].sum())
            if (share > 0 and a <= 0) or (share < 1 and b <= 0):
                return everyone
            more = share * (a + b) / a if a > 0 else 0.0
            less = (1 - share) * (a + b) / b if b > 0 else 0.0
            weight *= np.where(yes, more, np.where(no, less, max(more, less)))
        if np.allclose(weight, before, rtol=1e-9, atol=0):
            break
    weight /= weight.max(initial=1e-300)
    stays = np.zeros(len(marks), dtype=np.bool_)
    for kind in np.unique(marks, axis=0):
        same = np.flatnonzero((marks == kind).all(axis=1))
        count = math.floor(len(same) * weight[same[0]] + 0.5 + 1e-9)
        stays[rng.permutation(same)[:count]] = True
    emptied = any(
        (share > 0 and not stays[yes].any()) or (share < 1 and not stays[no].any()) for yes, no, share in columns
    )
    return everyone if emptied else stays


def _words(cohort: Cohort, mix: _Mix, gone: int) -> str:
    _, code = _persons(cohort)
    parts = []
    for name, side in _sides(cohort, mix.where):
        mark = mix.mark(cohort, side)[np.unique(code[cohort.patient[side]])]
        parts.append(f"{name} {int((mark == 1).sum())} of {int((mark != UNKNOWN).sum())}")
    return f"{mix.words}, {mix.share:g} wanted: {', '.join(parts)}; {gone} people left out in all"
