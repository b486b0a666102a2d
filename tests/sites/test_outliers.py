"""Outliers of tables: one absurd cell does not move what all sites share, and honest tails are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from client import input_scaling
from common.task import Task
from sites.cohort import Cohort, Windows
from sites.outliers import FAR, MIN_DISTINCT, clear_outliers

TABLE = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("a", "b", "a measured"), (), units=True)
MISSING = replace(TABLE, missing=True)


def site(seed: int, task: Task = MISSING, n: int = 120) -> Cohort:
    """Return a site whose column `a` tells the classes apart, and `b` a little; a third is for the test."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    features = np.stack([140 + 20 * y + rng.normal(0, 13, n), 5 + 0.3 * y + rng.normal(0, 1, n), np.ones(n)], axis=1)
    names = tuple(f"{seed}-{i}" for i in range(n))
    split = np.where(np.arange(n) % 3 == 2, 2, 0).astype(np.int8)
    empty = np.zeros((n, 0, 0), np.float32)
    return Cohort(task, empty, features.astype(np.float32), y, np.arange(n), names, names, split)


def spoilt(cohort: Cohort, value: float, row: int = 0, column: int = 0) -> Cohort:
    features = cohort.features.copy()
    features[row, column] = value
    return replace(cohort, features=features)


def pooled_auroc(cohorts: list[Cohort]) -> float:
    scaling = input_scaling.fit_scaling([cohort.part("train") for cohort in cohorts], "standard")
    scaled = [input_scaling.apply_scaling(cohort, scaling) for cohort in cohorts]
    train, test = ([cohort.part(name) for cohort in scaled] for name in ("train", "test"))
    model = LogisticRegression(C=0.01)
    model.fit(np.concatenate([c.features for c in train]), np.concatenate([c.y for c in train]))
    odds = model.decision_function(np.concatenate([c.features for c in test]))
    return float(roc_auc_score(np.concatenate([c.y for c in test]), odds))


@pytest.mark.parametrize("task", [TABLE, MISSING])
@pytest.mark.parametrize("value", [9999, -9999, 1e6])
def test_one_absurd_cell_at_one_of_three_sites_changes_next_to_nothing(task: Task, value: float) -> None:
    honest = [site(seed, task) for seed in (1, 2, 3)]
    wrong = [spoilt(honest[0], value), *honest[1:]]
    before = pooled_auroc(honest)
    assert before > 0.8
    assert pooled_auroc(wrong) < before - 0.05
    assert abs(pooled_auroc([clear_outliers(cohort) for cohort in wrong]) - before) < 0.01


def test_a_cleared_cell_is_missing_and_counted_and_no_other_changes() -> None:
    cohort = clear_outliers(spoilt(site(1), 9999, row=2))
    assert cohort.excluded == {"a far outside the hospital's own values, read as not measured": 1}
    assert np.isnan(cohort.features[2, 0])
    assert cohort.features[2, 2] == 0
    cohort.features[2] = site(1).features[2]
    np.testing.assert_array_equal(cohort.features, site(1).features)


def test_where_nothing_may_be_missing_it_is_the_nearest_usual_value() -> None:
    cohort = clear_outliers(spoilt(spoilt(site(1, TABLE), 9999), -9999, row=3))
    assert cohort.excluded == {"a far outside the hospital's own values, read as the nearest usual value": 2}
    usual = np.delete(cohort.features[:, 0], [0, 3])
    assert np.median(usual) < cohort.features[0, 0] < usual.max()
    assert usual.min() < cohort.features[3, 0] < np.median(usual)


def test_limits_are_those_of_the_training_examples() -> None:
    whole = site(1)
    high = whole.features[whole.split == 2, 0].argmax()
    row = int(np.flatnonzero(whole.split == 2)[high])
    tested = spoilt(whole, 9999, row)
    assert np.isnan(clear_outliers(tested).features[row, 0])
    untrained = replace(tested, split=np.full(len(tested.y), 2, np.int8))
    assert np.isnan(clear_outliers(untrained).features[row, 0])


def test_honest_columns_are_the_same_object() -> None:
    rng = np.random.default_rng(4)
    honest = site(1)
    n = len(honest.y)
    tail = np.exp(rng.normal(4, 1.5, n))  # a laboratory value: from 1 to thousands
    rare = np.where(rng.random(n) < 0.02, 30.0, 0.0)
    features = np.stack([tail, rare, np.ones(n)], axis=1).astype(np.float32)
    cohort = replace(honest, features=features)
    assert clear_outliers(cohort) is cohort


def test_bounded_columns_and_columns_of_few_values_are_not_judged() -> None:
    cohort = spoilt(site(1), 9999)
    assert clear_outliers(cohort, {"a"}) is cohort
    few = cohort.features.copy()
    few[:, 0] = np.arange(len(few)) % (MIN_DISTINCT - 2)
    few[0, 0] = 9999
    few = replace(cohort, features=few)
    assert clear_outliers(few) is few


def test_how_far_is_too_far() -> None:
    values = np.linspace(0, 100, 101)
    for beyond, cleared in ((95 + FAR * 90 - 1, False), (95 + FAR * 90 + 200, True)):
        cohort = replace(site(1), features=np.tile(np.append(values, [beyond] * 19)[:, None], 3).astype(np.float32))
        assert (clear_outliers(cohort) is not cohort) == cleared


@pytest.mark.parametrize("dense", [True, False])
def test_channels_are_judged_too(dense: bool) -> None:
    task = replace(MISSING, channels=2, samples=3, features=(), channel_names=("hr", "hr measured"))
    base = site(1)
    n = len(base.y)
    rows = np.stack([np.random.default_rng(2).normal(80, 10, n + 2), np.ones(n + 2)], axis=1).astype(np.float32)
    rows[5] = 9999, 1
    windows = Windows(rows, np.arange(2, n + 2), np.zeros(n, np.int64), 3)
    whole = replace(base, task=task, features=np.zeros((n, 0), np.float32), x=windows.dense() if dense else windows)
    cohort = clear_outliers(whole)
    x = cohort.x.dense() if isinstance(cohort.x, Windows) else cohort.x
    assert np.isnan(x[3, 0]).tolist() == [False, False, True]
    assert x[3, 1].tolist() == [1, 1, 0]
    np.testing.assert_array_equal(x[10:], windows.dense()[10:])
    assert list(cohort.excluded) == ["hr far outside the hospital's own values, read as not measured"]
