"""Sums of utility over people: off by some people, so that the difference of two answers does not show one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.gate.disclosure import ReleaseRules
from client.gate.register import Register
from client.gate.tables import answer_sums
from client.policy import SitePolicy
from common.metrics import counts

RUN = "a" * 32


def rules(folder: Path, question: str) -> ReleaseRules:
    register = Register(folder / "register.sqlite", "north")
    return ReleaseRules.from_register(SitePolicy(), register, "sepsis", RUN, "validation", question)


def test_errors_are_those_of_people_times_the_largest_part() -> None:
    by_person = np.array([[1.0, 0.0], [-3.0, 0.0], [2.0, 0.5]])
    has = np.array([[True, False], [True, False], [True, True]])
    answered = answer_sums(by_person, has, 2, lambda groups: np.array([5, 1]))
    assert answered.tolist() == [0.0 + 2 * 3.0, 0.0]  # two people too many; too few people


def test_the_gain_of_one_person_does_not_show_between_two_questions(tmp_path: Path) -> None:
    """Exact sums of gain showed who has sepsis, and for how many hours the others stayed."""
    rng = np.random.default_rng(0)
    people, hours = 60, 20
    owner = np.repeat(np.arange(people), hours)
    sick = rng.random(people) < 0.3
    worth = np.stack([np.zeros(people * hours), np.where(np.repeat(sick, hours), 0.4, -0.05)], 1).astype(np.float32)
    right = 0
    for trial in range(40):
        person = trial % people
        gains = []
        for called in (owner > person, owner >= person):
            z = np.stack([np.zeros(len(owner)), np.where(called, 5.0, -5.0)], 1)
            truth = np.repeat(sick, hours).astype(np.int64)
            total = counts.count_predictions(z, truth, np.zeros_like(owner), 1, 62, worth=worth).total()
            each = counts.count_predictions(z, truth, owner, people, 62, worth=worth)
            released = rules(tmp_path, f"{trial} {len(gains)}").coarsen(total, each, [str(i) for i in range(people)])
            gains.append(released.gain[31:].sum())
        right += (gains[1] - gains[0] > 0) == sick[person]
    assert right < 33  # each of 40, when sums were exact


def test_sums_are_right_on_average(tmp_path: Path) -> None:
    by_person = np.random.default_rng(0).normal(size=(80, 1))
    has = np.ones((80, 1), dtype=bool)
    names = [str(i) for i in range(80)]
    answers = [
        answer_sums(by_person, has, 5, lambda groups, q=q: rules(tmp_path, str(q)).answer_sizes(names, groups, ""))
        for q in range(200)
    ]
    error = np.asarray(answers)[:, 0] - by_person.sum()
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(200)
    assert error.std() == pytest.approx(2 * np.abs(by_person).max(), rel=0.25)


def test_hours_and_first_warnings_do_not_show_one_person(tmp_path: Path) -> None:
    """Hours by class, and patients by the time of their first warning, of all people and of all but one."""
    rng = np.random.default_rng(0)
    people, hours = 60, 20
    owner, truth = np.repeat(np.arange(people), hours), rng.random(people * hours) < 0.1
    sick = rng.random(people) < 0.5
    until = np.where(np.repeat(sick, hours), np.tile(np.arange(hours, 0, -1.0), people), np.nan)
    z = np.stack([np.zeros(len(owner)), rng.normal(size=len(owner))], 1)
    sizes, warned = [], []
    for trial in range(30):
        released = []
        for without in (people, trial):
            rows = owner != without
            count = len(np.unique(owner[rows]))
            index = np.unique(owner[rows], return_inverse=True)[1]
            spent = np.ones(int(rows.sum()))

            def tally(
                group: np.ndarray, groups: int, rows: np.ndarray = rows, spent: np.ndarray = spent
            ) -> counts.Counts:
                return counts.count_predictions(
                    z[rows], truth[rows].astype(np.int64), group, groups, 62, hours=spent, until=until[rows]
                )

            each = tally(index, count)
            total = replace(tally(np.zeros_like(index), 1).total(), time=each.total().time, lead=each.total().lead)
            names = [str(number) for number in range(people) if number != without]
            released.append(rules(tmp_path, f"{trial} {without}").coarsen(total, each, names))
        sizes.append(float(released[0].time.sum() - released[1].time.sum()))
        warned.append(bool((released[0].lead != released[1].lead).any()))
    assert np.std(sizes) > hours  # each difference was the hours of the one person, 20
    assert 0 < np.mean(sizes) + hours < 5 * hours
