"""Wrong labels, against counting by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from common.errors import ConfigError
from sites.cohort import SPLITS, Cohort
from tests.sites.shift.shift_cohorts import ecg, shifted


def many(n: int = 6000, each: int = 3, **more: Any) -> Cohort:
    cohort = ecg(np.zeros((n, 1, 1)), names=("a",), each=each)
    return replace(cohort, **more)


@pytest.mark.parametrize("where", ["train", "test", "all"])
def test_the_wanted_share_of_labels_is_wrong_and_evenly_so(where: str) -> None:
    cohort = many()
    result, notes = shifted(cohort, label_noise={"probability": 0.15, "where": where})
    test = cohort.split == SPLITS.index("test")
    side = {"train": ~test, "test": test, "all": test | True}[where]
    wrong = result.y != cohort.y
    assert not wrong[~side].any()
    assert stats.binomtest(int(wrong.sum()), int(side.sum()), 0.15).pvalue > 0.001
    assert stats.chisquare(np.bincount((result.y - cohort.y)[wrong] % 3, minlength=3)[1:]).pvalue > 0.001
    assert notes["label_noise"].startswith(f"labels of {wrong.sum()} of {side.sum()} examples changed")
    assert (result.x == cohort.x).all()


def test_training_labels_alone_are_wrong_if_nothing_is_said() -> None:
    cohort = many()
    result, _ = shifted(cohort, label_noise={"probability": 1.0})
    np.testing.assert_array_equal(result.y != cohort.y, cohort.split != SPLITS.index("test"))


def test_wrong_labels_of_one_class_and_of_whole_recordings() -> None:
    cohort = many()
    to, _ = shifted(cohort, label_noise={"probability": 0.3, "to": "V", "where": "all"})
    wrong = to.y != cohort.y
    assert (to.y[wrong] == 2).all()
    assert stats.binomtest(int(wrong.sum()), int((cohort.y != 2).sum()), 0.3).pvalue > 0.001
    whole, _ = shifted(cohort, label_noise={"probability": 0.3, "by": "patient", "where": "all"})
    moves = ((whole.y - cohort.y) % 3).reshape(-1, 3)
    assert (moves == moves[:, :1]).all()
    assert stats.binomtest(int((moves[:, 0] > 0).sum()), len(moves), 0.3).pvalue > 0.001
    with pytest.raises(ConfigError, match=r"label_noise\.to: no class 'X': the classes are N, S, V"):
        shifted(cohort, label_noise={"probability": 0.3, "to": "X"})


def test_labels_that_stand_side_by_side_are_turned_one_by_one() -> None:
    rng = np.random.default_rng(8)
    cohort = many(3000)
    y = rng.integers(0, 2, (3000, 3))
    cohort = replace(cohort, task=replace(cohort.task, kind="multilabel"), y=y)
    result, _ = shifted(cohort, label_noise={"probability": 0.1, "where": "all"})
    for column in (result.y != y).T:
        assert stats.binomtest(int(column.sum()), 3000, 0.1).pvalue > 0.001
    to, _ = shifted(cohort, label_noise={"probability": 0.5, "to": "S", "where": "all"})
    np.testing.assert_array_equal(to.y[:, [0, 2]], y[:, [0, 2]])
    assert (to.y[:, 1] >= y[:, 1]).all()
    assert stats.binomtest(int((to.y != y).sum()), int((y[:, 1] == 0).sum()), 0.5).pvalue > 0.001


def test_an_early_warning_is_tested_on_true_labels_alone() -> None:
    cohort = many(30)
    task = replace(cohort.task, classes=("0", "1"), class_titles=("0", "1"), utility=True)
    cohort = replace(cohort, task=task, y=cohort.y % 2, utility=np.zeros((30, 2), np.float32))
    with pytest.raises(ConfigError, match=r"label_noise\.where: use train"):
        shifted(cohort, label_noise={"probability": 0.1, "where": "all"})
    assert (shifted(cohort, label_noise={"probability": 1.0})[0].y != cohort.y).any()
