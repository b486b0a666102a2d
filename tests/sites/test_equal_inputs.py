"""People with the inputs of another person are counted, whatever they are called; chance does not make any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from common.task import Task
from sites import equal_inputs
from sites.cohort import Cohort, Windows
from sites.equal_inputs import (
    EQUAL_EXAMPLES,
    EQUAL_PEOPLE,
    count_equal_examples,
    count_equal_people,
    example_keys,
)
from sites.suspicions import EVENT_SHARE, note_suspicions

WIDE = 20


def make_cohort(values: np.ndarray, persons: Sequence[str], y: np.ndarray | None = None) -> Cohort:
    """Return one example of each recording, of persons."""
    n, width = values.shape
    names = tuple(f"f{i}" for i in range(width))
    task = Task("t", "multiclass", ("alive", "died"), ("", ""), 0, 0, 0.0, names, (), missing=True)
    empty = np.zeros((n, 0, 0), np.float32)
    labels = np.zeros(n, np.int64) if y is None else y
    own = tuple(map(str, range(n)))
    return Cohort(
        task, empty, values.astype(np.float32), labels, np.arange(n), own, tuple(persons), np.full(n, -1, np.int8)
    )


def people(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def slow_count(cohort: Cohort) -> int:
    """Return how many people have every example of an earlier person, by comparing all pairs."""
    sets: dict[str, set[bytes]] = {}
    for row, owner in zip(cohort.features, cohort.patient, strict=True):
        sets.setdefault(cohort.persons[owner], set()).add(row.tobytes())
    names = list(sets)
    return sum(any(sets[name] == sets[other] for other in names[:at]) for at, name in enumerate(names))


@pytest.mark.parametrize("copies", [0, 1, 17, 40])
def test_copies_under_other_names_are_counted(copies: int) -> None:
    values = np.random.default_rng(copies).normal(size=(40, WIDE))
    both = make_cohort(np.concatenate([values, values[:copies]]), people(40 + copies))
    assert count_equal_people(both) == slow_count(both) == copies
    assert note_suspicions(both).excluded.get(EQUAL_PEOPLE, 0) == copies


def test_recordings_of_one_person_may_be_equal() -> None:
    values = np.random.default_rng(1).normal(size=(40, WIDE))
    assert count_equal_people(make_cohort(np.concatenate([values, values]), people(40) * 2)) == 0


def test_equal_examples_of_one_person_are_counted() -> None:
    values = np.random.default_rng(5).normal(size=(40, WIDE))
    twice = make_cohort(np.concatenate([values, values[:7], values[:2]]), people(40) + people(7) + people(2))
    assert count_equal_examples(twice) == 9
    assert note_suspicions(twice).excluded == {EQUAL_EXAMPLES: 9}
    assert count_equal_examples(make_cohort(values, people(40))) == 0
    timed = replace(twice, hours=np.ones(49, np.float32))
    assert count_equal_examples(timed) == 0  # rows of a table in time, in which nothing may be measured anew
    signals = replace(timed.task, channels=1, samples=1, channel_names=("lead",))
    assert count_equal_examples(replace(timed, task=signals, x=np.zeros((49, 1, 1), np.float32))) == 9


def test_coarse_inputs_and_sparse_examples_say_nothing() -> None:
    rng = np.random.default_rng(2)
    assert count_equal_people(make_cohort(rng.integers(0, 3, (60, 2)), people(60))) == 0
    sparse = np.full((60, WIDE), np.nan)
    sparse[:, 0], sparse[:, 1:8] = rng.integers(18, 90, 60), 1.0
    assert count_equal_people(make_cohort(sparse, people(60))) == 0
    assert count_equal_people(make_cohort(np.zeros((1, 3)), ["p"])) == 0


def test_half_of_the_first_examples_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(100, WIDE)).astype(np.float32)
    rows[50:56] = rows[0:6]  # of the sixth person's ten hours six are the first one's, and four others come after
    rows[90:94] = rows[0:4]
    base = make_cohort(np.zeros((100, 1)), people(100))
    task = replace(base.task, channels=WIDE, samples=1, channel_names=tuple(f"c{i}" for i in range(WIDE)))
    hours = Windows(rows, np.arange(100), np.repeat(np.arange(0, 100, 10), 10), 1)
    owner = np.repeat(np.arange(10), 10)
    cohort = replace(base, task=task, x=hours, patient=owner, patients=tuple(people(10)), persons=tuple(people(10)))
    assert count_equal_people(cohort) == 1
    monkeypatch.setattr(equal_inputs, "MOST_VALUES", 10 * 4 * (WIDE + 1))  # four hours of each: also the tenth
    assert count_equal_people(cohort) == 2
    assert len(np.unique(example_keys(cohort))) == 90


@pytest.mark.parametrize(("events", "noted"), [(0, False), (20, False), (21, True), (40, True)])
def test_a_share_of_events_that_no_hospital_has_is_noted(events: int, noted: bool) -> None:
    rng = np.random.default_rng(4)
    died = (np.arange(40) < events).astype(np.int64)
    cohort = make_cohort(rng.normal(size=(40, WIDE)), people(40), died)
    text = EVENT_SHARE.format("died")
    assert note_suspicions(cohort, (), (0.0, 0.5)).excluded == ({text: events} if noted else {})
    assert note_suspicions(cohort).excluded == {}
    few = cohort.take(np.arange(19))
    assert note_suspicions(few, (), (0.0, 0.1)).excluded == {}


@pytest.mark.parametrize("copied", [0, 6, 12])
def test_a_person_of_several_coarse_examples_is_found_by_all_of_them(copied: int) -> None:
    """Of five inputs one pair of equal rows may be chance; a dozen equal rows of two people are not."""
    rng = np.random.default_rng(3)
    people_count, rows = 130, 12
    columns = [
        np.repeat(rng.integers(40, 80, people_count), rows),
        np.repeat(rng.integers(0, 2, people_count), rows),
        rng.integers(60, 110, people_count * rows),
        rng.integers(350, 390, people_count * rows) / 10,
        rng.integers(50, 300, people_count * rows) / 100,
    ]
    values = np.stack(columns, 1).astype(float)
    names = np.repeat(people(people_count), rows).tolist()
    both = make_cohort(np.concatenate([values, values[:copied]]), [*names, *["copy"] * copied])
    assert count_equal_people(both) == (copied > 0)
