"""The case mix, against statistics and counting by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ConfigError
from sites.cohort import Cohort
from sites.shift import people
from tests.sites.shift.shift_cohorts import ecg, shifted


def left(a: int, b: int, share: float, unknown: int = 0, seed: int = 0) -> tuple[int, int, int]:
    """How many of `a` marked, `b` others and some unknown people stay."""
    marks = np.repeat([1, 0, -1], (a, b, unknown))[:, None]
    stays = people.draw_remaining(marks, [share], np.random.default_rng(seed))
    return tuple(int((marks[stays, 0] == mark).sum()) for mark in (1, 0, -1))  # type: ignore[return-value]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.floats(0, 1), st.integers(0, 9))
def test_the_fewest_are_left_out_that_bring_the_share(a: int, b: int, share: float, unknown: int) -> None:
    x, y, z = left(a, b, share, unknown)
    assert z == unknown
    assert x == a or y == b  # one group alone is thinned
    if (x, y) == (a, b):
        return
    # of all numbers that the thinned group could have, this one misses the wanted odds by half a person at most
    if x == a and share > 0:
        assert abs(y - a * (1 - share) / share) <= 0.5 + 1e-6
    if y == b and share < 1:
        assert abs(x - b * share / (1 - share)) <= 0.5 + 1e-6
    assert x > 0 or share == 0
    assert y > 0 or share == 1


def test_whom_to_leave_out_by_hand() -> None:
    assert left(10, 30, 0.5) == (10, 10, 0)
    assert left(30, 10, 0.25, unknown=3) == (3, 10, 3)
    assert left(10, 30, 0.25) == (10, 30, 0)
    assert left(10, 30, 1.0) == (10, 0, 0)
    assert left(10, 30, 0.0) == (0, 30, 0)
    assert left(0, 30, 0.5) == (0, 30, 0)  # nobody has it: nobody goes
    assert left(5, 3, 0.05) == (5, 3, 0)  # the nearest share would leave nobody who has it
    assert left(0, 0, 0.5, unknown=4) == (0, 0, 4)


def test_shares_that_are_asked_together_hold_together() -> None:
    cohort = crowd(900)
    mixes = {"age_mix": {"older": 0.6}, "sex_mix": {"women": 0.5}, "prevalence": {"share": 0.3, "class_name": "V"}}
    result, notes = shifted(cohort, **mixes)
    for total, wanted in (("older", 0.6), ("women", 0.5), ("V", 0.3)):
        for yes, no, _ in shares(result, total):
            assert yes / (yes + no) == pytest.approx(wanted, abs=4 / (yes + no))
    gone = cohort.people() - result.people()
    assert result.excluded == {"people left out by shift: age_mix, sex_mix, prevalence": gone}
    assert list(notes) == ["age_mix", "sex_mix", "prevalence"]
    assert result.people() > 150


def crowd(n: int = 400) -> Cohort:
    """People of two recordings of three examples; a fifth has V in one of them; ages 20 to 99, some unknown."""
    rng = np.random.default_rng(9)
    cohort = ecg(np.arange(n * 6).reshape(-1, 1, 1), names=("a",), each=3)
    persons = tuple(f"p{i // 2:03d}" for i in range(2 * n))
    y = np.zeros(n * 6, np.int64)
    y[np.arange(0, n * 6, 6)[rng.random(n) < 0.2] + 4] = 2
    age = np.repeat(rng.integers(20, 100, n).astype(np.float32), 2)
    age[rng.choice(n, n // 10, replace=False) * 2] = np.nan
    age[:20] = np.nan
    sex = np.repeat(rng.choice([0, 1, 1], n), 2).astype(np.int8)
    sex[20:40] = -1
    split = np.repeat(np.arange(n) % 3, 6).astype(np.int8)
    return replace(cohort, persons=persons, y=y, age=age, sex=sex, split=split)


def shares(cohort: Cohort, total: str) -> list[tuple[int, int, int]]:
    """For each split: people who are marked, who are not, and who are unknown, counted one by one."""
    result = []
    for code in range(3):
        marks: dict[str, float] = {}
        for row in np.flatnonzero(cohort.split == code):
            which = cohort.patient[row]
            who = cohort.persons[which]
            if total == "V":
                marks[who] = max(marks.get(who, 0), float(cohort.y[row] == 2))
            elif total == "older":
                mine = [cohort.age[i] for i, name in enumerate(cohort.persons) if name == who]
                known = [one for one in mine if not np.isnan(one)]
                marks[who] = float(max(known) >= 65) if known else -1
            else:
                marks[who] = {0: 1.0, 1: 0.0, -1: -1.0}[int(cohort.sex[which])]
        values = list(marks.values())
        result.append((values.count(1.0), values.count(0.0), values.count(-1.0)))
    return result


@pytest.mark.parametrize(
    ("option", "total", "wanted"),
    [
        ({"prevalence": {"share": 0.5, "class_name": "V"}}, "V", 0.5),
        ({"prevalence": {"share": 0.05, "class_name": "V"}}, "V", 0.05),
        ({"age_mix": {"older": 0.8}}, "older", 0.8),
        ({"sex_mix": {"women": 0.6}}, "women", 0.6),
    ],
)
def test_people_are_left_out_whole_until_the_share_is_as_wanted(
    option: dict[str, Any], total: str, wanted: float
) -> None:
    cohort = crowd()
    before = shares(cohort, total)
    result, notes = shifted(cohort, **option)
    after = shares(result, total)
    (name,) = option
    for (yes, no, unknown), (had, had_not, had_unknown) in zip(after, before, strict=True):
        assert abs(yes / (yes + no) - wanted) <= 0.5 / min(yes, no) + 1e-9
        assert yes == had or no == had_not
        assert unknown == had_unknown
    remaining = {result.persons[i] for i in result.patient}
    for who in remaining:  # all of a person stays, bit by bit
        rows = [i for i in range(len(cohort.y)) if cohort.persons[cohort.patient[i]] == who][:6]
        assert np.isin(cohort.x[rows, 0, 0], result.x[:, 0, 0]).all()
    gone = cohort.people() - len(remaining)
    assert result.excluded == {f"people left out by shift: {name}": gone}
    assert notes[name].endswith(f"; {gone} people left out in all")
    assert f"train {after[0][0]} of {after[0][0] + after[0][1]}, validation" in notes[name]


def test_shares_of_what_hangs_together_hold_together_too() -> None:
    rng = np.random.default_rng(12)
    older = rng.random(3000) < 0.4
    event = rng.random(3000) < np.where(older, 0.7, 0.1)
    marks = np.stack([older, event], axis=1).astype(np.int64)
    stays = people.draw_remaining(marks, [0.2, 0.5], np.random.default_rng(0))
    np.testing.assert_allclose(marks[stays].mean(0), [0.2, 0.5], atol=2 / stays.sum())
    kinds = [(marks == kind).all(1) for kind in ((0, 0), (0, 1), (1, 0), (1, 1))]
    remaining = np.array([stays[kind].mean() for kind in kinds])
    assert remaining.max() == 1  # as many as can stay
    odds = [
        (marks[rows] == (1, 1)).all(1).sum() / (marks[rows] == (1, 0)).all(1).sum() for rows in (stays, stays | True)
    ]
    odds_young = [(marks[r] == (0, 1)).all(1).sum() / (marks[r] == (0, 0)).all(1).sum() for r in (stays, stays | True)]
    # raking keeps the odds ratio: how the two hang together
    assert odds[0] / odds_young[0] == pytest.approx(odds[1] / odds_young[1], rel=0.05)


def test_who_stands_on_both_sides_of_a_leaky_split_is_left_out_of_one() -> None:
    cohort = crowd().with_split((np.arange(2400) % 3).astype(np.int8))
    result, _ = shifted(cohort, sex_mix={"women": 0.6, "where": "test"})
    for name in ("train", "validation"):
        np.testing.assert_array_equal(result.part(name).x, cohort.part(name).x)
    assert result.part("test").people() < cohort.part("test").people()


def test_one_side_of_the_split_alone() -> None:
    cohort = crowd()
    result, notes = shifted(cohort, prevalence={"share": 0.6, "class_name": "V", "where": "test"})
    before, after = shares(cohort, "V"), shares(result, "V")
    assert after[:2] == before[:2]
    assert after[2] != before[2]
    assert "train" not in notes["prevalence"]
    assert [cohort.part("train").people(), result.part("train").people()] == [134, 134]


def test_what_the_data_do_not_know_is_named() -> None:
    cohort = crowd()
    with pytest.raises(ConfigError, match=r"shift\.north\.age_mix: ecg has no ages"):
        shifted(replace(cohort, age=None), age_mix={"older": 0.5})
    with pytest.raises(ConfigError, match="sex_mix: ecg has no sexes"):
        shifted(replace(cohort, sex=None), sex_mix={"women": 0.5})
    with pytest.raises(ConfigError, match="prevalence: set `class_name` to one of the classes: N, S, V"):
        shifted(cohort, prevalence={"share": 0.5})
