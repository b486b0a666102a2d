"""The utility of alarms against cases by hand, the organisers' printed example, and a plain loop."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sites.datasets.sepsis import utility
from tests.sites.datasets.sepsis import sepsis_slow

FIRST = np.array([0])


def cohort(rng: np.random.Generator, patients: int) -> list[list[int]]:
    """Return labels of patients: healthy ones, ill from the first hour, in the middle, in the last hour."""
    result = []
    for _ in range(patients):
        hours = int(rng.integers(1, 40))
        offset = int(rng.choice([hours, 0, hours - 1, rng.integers(hours)]))
        result.append([0] * offset + [1] * (hours - offset))
    return result


def joined(labels: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    hours = np.array([len(item) for item in labels])
    return np.concatenate(labels), np.cumsum(hours) - hours


def test_the_example_that_the_organisers_print() -> None:
    """compute_prediction_utility([0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]) gives 3.388888888888889."""
    worth = utility.hourly_utility(np.array([0, 0, 0, 0, 1, 1]), FIRST)
    assert worth[range(6), [0, 0, 1, 1, 1, 1]].sum() == pytest.approx(3.388888888888889, abs=1e-6)


def test_every_hour_of_one_patient_by_hand() -> None:
    """The label rises at row 8, so sepsis begins at row 14: alarms gain from row 2 on, most at row 8, until row 17."""
    worth = utility.hourly_utility(np.array([0] * 8 + [1] * 12), FIRST)
    alarm = [-0.05, -0.05, 0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1]
    alarm += [8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9, 0, 0, 0]
    silence = [0.0] * 9 + [-2 * k / 9 for k in range(1, 10)] + [0, 0]
    np.testing.assert_allclose(worth, np.stack([silence, alarm], 1), atol=1e-7)
    assert worth.dtype == np.float32


def test_who_never_has_sepsis_and_who_has_it_from_the_first_hour() -> None:
    worth = utility.hourly_utility(np.array([0, 0, 1, 1, 1]), np.array([0, 2]))
    np.testing.assert_allclose(worth, [[0, -0.05], [0, -0.05], [0, 1], [-2 / 9, 8 / 9], [-4 / 9, 7 / 9]], atol=1e-7)


def test_all_hours_of_many_patients_equal_a_plain_loop() -> None:
    labels = cohort(np.random.default_rng(1), 300)
    slow = [
        [sepsis_slow.worth(label, t, alarm) for alarm in (False, True)] for label in labels for t in range(len(label))
    ]
    flat, first = joined(labels)
    for kind in (np.uint8, np.int64, np.float32, np.bool_):
        np.testing.assert_allclose(utility.hourly_utility(flat.astype(kind), first), slow, atol=1e-6)


def test_nobody_has_sepsis_or_nobody_is_there() -> None:
    np.testing.assert_allclose(utility.hourly_utility(np.zeros(5, int), np.array([0, 1])), [[0, -0.05]] * 5)
    assert utility.hourly_utility(np.zeros(0, int), np.zeros(0, int)).shape == (0, 2)
    assert np.isnan(utility.normalised_utility(utility.hourly_utility(np.zeros(5, int), FIRST), np.ones(5)))
    assert np.isnan(utility.normalised_utility(np.zeros((0, 2)), np.zeros(0)))


def test_the_scale_is_that_of_the_organisers() -> None:
    """Their best alarms stand from 12 hours before sepsis to 3 after; inaction is silence throughout."""
    rng = np.random.default_rng(2)
    labels = cohort(rng, 200)
    flat, first = joined(labels)
    worth = utility.hourly_utility(flat, first)
    alarm = rng.random(len(flat)) < 0.3
    observed = best = inaction = 0.0
    at = 0
    for label in labels:
        offset = label.index(1) + 6 if 1 in label else 10_000
        for t in range(len(label)):
            observed += sepsis_slow.worth(label, t, bool(alarm[at]))
            best += sepsis_slow.worth(label, t, offset - 12 <= t <= offset + 3)
            inaction += sepsis_slow.worth(label, t, False)
            at += 1
    assert utility.normalised_utility(worth, alarm) == pytest.approx(
        (observed - inaction) / (best - inaction), rel=1e-5
    )
    assert utility.normalised_utility(worth, np.zeros(len(flat))) == 0
    assert utility.normalised_utility(worth, worth[:, 1] > worth[:, 0]) == pytest.approx(1)
    assert utility.normalised_utility(worth, worth[:, 1] < worth[:, 0]) < 0


def test_a_false_alarm_costs_by_hand() -> None:
    """One ill from the first of three hours (best 1 + 10/9 + 11/9), one healthy: two false alarms cost 0.1."""
    worth = utility.hourly_utility(np.array([1, 1, 1, 0, 0, 0]), np.array([0, 3]))
    best = 1 + 10 / 9 + 11 / 9
    assert utility.normalised_utility(worth, np.array([1, 0, 0, 1, 1, 0])) == pytest.approx((1 - 0.1) / best, rel=1e-6)


def test_a_million_and_a_half_hours_take_a_fifth_of_a_second() -> None:
    hours = np.full(36_324, 39)
    first = np.cumsum(hours) - hours
    label = np.zeros(int(hours.sum()), np.uint8)
    for offset in first[::13]:
        label[offset + 29 : offset + 39] = 1
    best = np.inf
    for _ in range(5):
        start = time.thread_time()  # others may want the processor too
        worth = utility.hourly_utility(label, first)
        best = min(best, time.thread_time() - start)
    assert len(worth) > 1_400_000
    assert best < 0.2


def test_the_hours_until_sepsis_equal_a_plain_loop() -> None:
    labels = cohort(np.random.default_rng(6), 60)
    reported = []
    for item in labels:
        offset = item.index(1) + utility.AHEAD if 1 in item else np.nan
        reported += [offset - row for row in range(len(item))]
    np.testing.assert_array_equal(utility.hours_until_sepsis(*joined(labels)), np.asarray(reported, np.float32))
    assert utility.hours_until_sepsis(np.zeros(0), np.zeros(0, int)).shape == (0,)
