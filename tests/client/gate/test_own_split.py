from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.gate.own_split import WAITING, apply_own_split
from client.gate.register import Register
from client.policy import SitePolicy
from common.errors import LeakError
from sites.cohort import Cohort, Patient
from tests import tiny

POLICY = SitePolicy()


def data(people: int, first: int = 0, published: str | None = None) -> tuple[Cohort, list[Patient]]:
    """Return people `first` to `people`, each with their own examples whatever the number of others."""
    whole = tiny.cohort(1, people=200, each=2)
    cohort = whole.take(np.isin(whole.patient, np.arange(first, people)))
    names = cohort.patients
    patients = [
        Patient(id=names[i], person=names[i], examples=tuple(np.bincount(whole.y[whole.patient == i], minlength=3)),
                published=published and ("test" if i % 4 == 0 else "train"))
        for i in range(first, people)
    ]  # fmt: skip
    return cohort, patients


def sides(cohort: Cohort) -> dict[str, int]:
    return {cohort.persons[i]: int(side) for i, side in zip(cohort.patient, cohort.split, strict=True)}


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "north" / "register.sqlite", "north")


def test_it_is_drawn_once_and_kept(register: Register) -> None:
    first = sides(apply_own_split(register, "heart", *data(80), POLICY))
    shares = np.bincount(list(first.values()), minlength=3) / 80
    assert shares.tolist() == pytest.approx([0.6, 0.15, 0.25], abs=0.02)
    again = sides(apply_own_split(Register(register.path, "north"), "heart", *data(80), POLICY))
    assert again == first


def test_another_hospital_draws_another(register: Register, tmp_path: Path) -> None:
    other = Register(tmp_path / "south" / "register.sqlite", "south")
    drawn = [sides(apply_own_split(each, "heart", *data(80), POLICY)) for each in (register, other)]
    assert drawn[0] != drawn[1]


def test_a_published_split_is_taken(register: Register) -> None:
    cohort, patients = data(80, published="yes")
    found = sides(apply_own_split(register, "heart", cohort, patients, POLICY))
    assert {name for name, side in found.items() if side == 2} == {p.person for p in patients if p.published == "test"}


def test_people_who_come_later_wait_and_nobody_crosses(register: Register) -> None:
    first = sides(apply_own_split(register, "heart", *data(80), POLICY))
    waiting = apply_own_split(register, "heart", *data(99), POLICY)
    assert sides(waiting) == first
    assert waiting.excluded[WAITING] == 2 * 19
    more = sides(apply_own_split(register, "heart", *data(100), POLICY))
    assert {name: side for name, side in more.items() if name in first} == first
    fresh = [side for name, side in more.items() if name not in first]
    assert len(fresh) == 20
    for side in (1, 2):
        assert fresh.count(side) == 0 or fresh.count(side) >= POLICY.min_cell_patients


def test_a_new_draw_is_made_on_purpose(register: Register) -> None:
    first = sides(apply_own_split(register, "heart", *data(80), POLICY))
    assert register.redraw("heart") == 80
    second = sides(apply_own_split(register, "heart", *data(80), POLICY))
    assert first.keys() == second.keys()
    assert first != second
    assert sides(apply_own_split(register, "heart", *data(80), POLICY)) == second


def test_a_person_in_two_recordings_is_on_one_side(register: Register) -> None:
    cohort, patients = data(80)
    one = patients[0].person
    both = tuple(one if i == 1 else name for i, name in enumerate(cohort.persons))
    from dataclasses import replace

    merged = replace(cohort, persons=both)
    people = [replace(item, person=one) if i == 1 else item for i, item in enumerate(patients)]
    found = apply_own_split(register, "heart", merged, people, POLICY)
    assert len({int(side) for i, side in zip(found.patient, found.split, strict=True) if i in (0, 1)}) == 1
    assert LeakError  # the guard of every split runs here as well
