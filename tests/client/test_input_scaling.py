"""A cohort's inputs under a scaling, against scaling an array of all values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client import input_scaling
from client.training.batches import choose_device, load_tensors
from common.errors import SiteError
from common.scaling import Scaling
from common.sections.data import DataConfig
from common.task import Task
from sites.cohort import Cohort, Windows
from tests import tiny

HOURS = Task(
    "h", "multiclass", ("no", "yes"), ("n", "y"), 2, 3, 0.0, ("age",), ("hr", "hr measured"), units=True, missing=True
)


def hourly(seed: int, stays: tuple[int, ...] = (4, 1, 6)) -> Cohort:
    rng = np.random.default_rng(seed)
    n = sum(stays)
    rows = rng.normal(80, 10, size=(n, 2)).astype(np.float32)
    rows[:, 1] = rng.random(n) < 0.6
    rows[rows[:, 1] == 0, 0] = np.nan
    first = np.repeat(np.cumsum([0, *stays[:-1]]), stays)
    windows = Windows(rows, np.arange(n), first, 3, np.array([np.nan, 0], np.float32))
    names = tuple(f"{seed}-{i}" for i in range(len(stays)))
    owner = np.repeat(np.arange(len(stays)), stays)
    age = rng.normal(60, 15, size=(n, 1)).astype(np.float32)
    y = rng.integers(0, 2, n)
    return Cohort(HOURS, windows, age, y, owner, names, names, np.full(n, -1, np.int8))


def test_windows_are_padded_with_missing_values() -> None:
    whole = hourly(1)
    dense = whole.x.dense()
    assert dense.shape == whole.x.shape == (11, 2, 3)
    np.testing.assert_array_equal(dense[3, 0], whole.x.rows[1:4, 0])
    np.testing.assert_array_equal(dense[5, 1], [0, 0, whole.x.rows[5, 1]])
    assert np.isnan(dense[4, 0, :2]).all()
    some = whole.take(np.array([10, 3]))
    np.testing.assert_array_equal(some.x.dense(), dense[[10, 3]])


def test_scaled_windows_are_the_windows_of_scaled_hours() -> None:
    cohorts = [hourly(1), hourly(2, (3, 5))]
    result = input_scaling.fit_scaling(cohorts, "standard")
    assert result is not None
    rows = np.concatenate([item.x.rows for item in cohorts]).astype(np.float64)
    age = np.concatenate([item.features for item in cohorts])
    np.testing.assert_allclose(result.centre, [age.mean(), np.nanmean(rows[:, 0]), rows[:, 1].mean()], rtol=1e-6)
    np.testing.assert_allclose(result.spread, [age.std(), np.nanstd(rows[:, 0]), rows[:, 1].std()], rtol=1e-5)
    scaled = input_scaling.apply_scaling(cohorts[0], result)
    centre, spread = result.centre[1:, None], result.spread[1:, None]
    slow = np.nan_to_num((cohorts[0].x.dense() - centre) / spread, nan=0.0)
    np.testing.assert_allclose(scaled.x.dense(), slow, atol=1e-5)
    cut, _, _ = load_tensors(scaled, choose_device("cpu"))
    import torch

    np.testing.assert_allclose(cut(torch.tensor([0, 4, 7, 10])).numpy(), slow[[0, 4, 7, 10]], atol=1e-5)


def test_a_dense_signal_is_scaled_by_channel() -> None:
    whole = hourly(3)
    dense = replace(whole, x=whole.x.dense())
    result = input_scaling.fit_scaling([dense], "quantile")
    assert result is not None
    assert len(result.ranks) == 3
    one = input_scaling.apply_scaling(dense, input_scaling.fit_scaling([dense], "standard"))
    flat = dense.x[:, 0].ravel().astype(np.float64)
    wanted = np.nan_to_num((flat - np.nanmean(flat)) / np.nanstd(flat), nan=0.0)
    np.testing.assert_allclose(one.x[:, 0].ravel(), wanted, atol=1e-5)


def test_unscaled_inputs_have_no_missing_values() -> None:
    whole = hourly(4)
    bare = input_scaling.apply_scaling(whole, None)
    assert not np.isnan(bare.x.dense()).any()
    np.testing.assert_array_equal(bare.x.rows[whole.x.rows[:, 1] == 1], whole.x.rows[whole.x.rows[:, 1] == 1])
    beats = tiny.cohort(1)
    assert input_scaling.apply_scaling(beats, None) is beats
    with pytest.raises(SiteError, match="of 5 inputs, this task has 3"):
        input_scaling.apply_scaling(whole, Scaling(np.zeros(5), np.ones(5)))


def test_only_inputs_with_units_are_scaled_by_themselves() -> None:
    assert input_scaling.resolve_scaling(DataConfig(), HOURS) == "standard"
    assert input_scaling.resolve_scaling(DataConfig(), tiny.TASK) == "none"
    assert input_scaling.resolve_scaling(DataConfig(scaling="site"), tiny.TASK) == "site"
    assert input_scaling.fit_scaling([hourly(1)], "none") is None
