"""A measurement that was filled in with one number where it is missing is noted."""

from __future__ import annotations

import numpy as np
import pytest

from common.task import Task
from sites.cohort import Cohort
from sites.filled_values import count_filled_values, describe_filled


def notes(values: np.ndarray, name: str) -> dict[str, int]:
    n = len(values)
    task = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, (name,), (), units=True, missing=True)
    names = tuple(f"p{i}" for i in range(n))
    empty, column = np.zeros((n, 0, 0), np.float32), values[:, None].astype(np.float32)
    return count_filled_values(
        Cohort(task, empty, column, np.zeros(n, np.int64), np.arange(n), names, names, np.full(n, -1, np.int8))
    )


@pytest.mark.parametrize("name", ["lact", "BaseExcess", "Glucose", "TroponinI"])
@pytest.mark.parametrize("fill", ["median", "zero"])
def test_a_fill_of_most_rows_is_noted(name: str, fill: str) -> None:
    values = np.random.default_rng(0).lognormal(1, 0.5, 500).round(1)
    missing = np.arange(500) % 5 > 0
    assert notes(values, name) == {}
    assert notes(np.where(missing, np.nan, values), name) == {}
    filled = np.where(missing, np.median(values) if fill == "median" else 0, values)
    assert list(notes(filled, name)) == [describe_filled(name)]
    assert notes(filled, name)[describe_filled(name)] >= 400
    assert notes(filled[:150], name) == {}  # too few to judge


@pytest.mark.parametrize("name", ["FiO2", "bnd", "HR times in 24 h", "score"])
def test_columns_in_which_one_number_is_usual_are_not_noted(name: str) -> None:
    values = np.random.default_rng(0).lognormal(1, 0.5, 500).round(1)
    assert notes(np.where(np.arange(500) % 5 > 0, 0, values), name) == {}


def test_scores_of_few_values_are_not_noted() -> None:
    assert notes(np.repeat([0.0, 1.0, 2.0, 3.0], [400, 50, 30, 20]), "lact") == {}
