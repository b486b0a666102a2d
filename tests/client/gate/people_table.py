"""A small table of people whose records tests change."""

from __future__ import annotations

import numpy as np

from common.task import Task
from sites.cohort import Cohort

SECRET = bytes(range(32))
TASK = Task("table", "binary", ("no", "yes"), ("no", "yes"), 0, 0, 0.0, ("number", "code"), ())


def table(people: int, rows: int = 1, seed: int = 0, task: Task = TASK) -> Cohort:
    """Return people with a number, a code of three values and an outcome; a patient's outcome is that of all rows."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(people), rows)
    features = np.stack([rng.normal(5, 2, people * rows), rng.integers(0, 3, people)[owner]], axis=1)
    names = tuple(f"p{number}" for number in range(people))
    y = rng.integers(0, 2, people)[owner]
    empty = np.zeros((people * rows, 0, 0), np.float32)
    split = np.full(people * rows, -1, np.int8)
    return Cohort(task, empty, features.astype(np.float32), y, owner, names, names, split)
