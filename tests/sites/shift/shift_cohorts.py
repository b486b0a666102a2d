"""Small cohorts of ECGs for the tests of simulated differences, and what physics says of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from common.sections.shift import ShiftConfig
from common.settings import validate_settings
from common.task import Task
from sites import shift
from sites.cohort import Cohort, Windows
from sites.ecg import beats

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
PAIR = ("lead 1", "lead 2", "lead 1 minus median beat", "lead 2 minus median beat")
CLASSES = ("N", "S", "V")


def make_options(**options: Any) -> ShiftConfig:
    return validate_settings(ShiftConfig, options, "shift")


def shifted(cohort: Cohort, seed: int = 1, site: str = "north", **options: Any) -> tuple[Cohort, Mapping[str, str]]:
    return shift.apply_shift(cohort, make_options(**options), seed, site)


def ecg(
    x: np.ndarray, rate: float = 500.0, names: Sequence[str] = TWELVE, each: int = 1, features: tuple[str, ...] = ()
) -> Cohort:
    """A cohort of `x` `(examples, leads, samples)`, `each` examples a recording; a third in each split."""
    n = len(x)
    task = Task(
        "ecg", "multiclass", CLASSES, CLASSES, x.shape[1], x.shape[2], rate, features, tuple(names[: x.shape[1]])
    )
    owner = np.arange(n) // each
    patients = tuple(f"r{i:04d}" for i in range(owner[-1] + 1))
    values = np.tile(np.arange(len(features), dtype=np.float32), (n, 1))
    split = (owner % 3).astype(np.int8)
    return Cohort(task, x.astype(np.float32), values, np.arange(n) % 3, owner, patients, patients, split)


def flat(n: int = 6, leads: int = 12, seconds: float = 10.0, rate: float = 500.0, **more: Any) -> Cohort:
    return ecg(np.zeros((n, leads, round(seconds * rate))), rate, **more)


def window(n: int = 40, each: int = 10) -> Cohort:
    """Beats as the window view of sites/ecg/beats.py gives them, with the names of its features."""
    rng = np.random.default_rng(3)
    names = beats.window_feature_names(2)
    lead = rng.normal(0, 0.2, (n, 2, beats.SAMPLES))
    return ecg(np.concatenate([lead, lead - np.median(lead, 0)], 1), beats.RATE, PAIR, each, names)


SIGNAL_OPTIONS: dict[str, dict[str, Any]] = {
    "lead_swap": {"probability": 1.0},
    "wander": {"mv": 0.3},
    "hum": {"mv": 0.2, "mains": 60},
    "emg": {"mv": 0.1},
    "gain": {"factor": 1.3, "spread": 0.2},
    "sampling_rate": {"hz": 90},
    "resolution": {"bits": 6},
}
COLUMNS = (
    "chol",
    "chol measured",
    "age",
    "ph points",
    "ph measured",
    "HR",
    "HR change",
    "HR times in 24 h",
    "male",
    "cp=1",
    "cp=2",
    "log bun",
    "bun measured",
)


def chart(n: int = 3000, each: int = 2) -> Cohort:
    """An EHR: chol and ph are missing in places, and say so."""
    rng = np.random.default_rng(10)
    task = Task("chart", "multiclass", ("0", "1"), ("0", "1"), 0, 0, 0.0, COLUMNS, (), units=True, missing=True)
    values = rng.normal(5, 1, (n, len(COLUMNS))).astype(np.float32)
    for column, flag in ((0, 1), (3, 4)):
        values[:, flag] = rng.random(n) < 0.7
        values[values[:, flag] == 0, column] = np.nan
    values[:, 7] = rng.integers(0, 5, n)
    values[:, 9:11] = rng.integers(0, 3, n)[:, None] == (1, 2)
    values[:, 12] = 1
    owner = np.arange(n) // each
    names = tuple(f"s{i}" for i in range(n // each))
    split = (owner % 3).astype(np.int8)
    return Cohort(task, np.zeros((n, 0, 0), np.float32), values, np.arange(n) % 2, owner, names, names, split)


def hours(dense: bool = False) -> tuple[Cohort, Cohort]:
    """Patients of 1 to 9 hours, each hour a window of four; with the same windows as a dense array."""
    rng = np.random.default_rng(11)
    lengths = rng.integers(1, 10, 200)
    ends = np.cumsum(lengths)
    rows = rng.normal(80, 5, (ends[-1] + 7, 2)).astype(np.float32)  # the last hours are nobody's here
    rows[:, 1] = 1
    first = np.repeat(ends - lengths, lengths)
    x = Windows(rows, np.arange(ends[-1]), first, 4)
    owner = np.repeat(np.arange(200), lengths)
    names = tuple(f"s{i}" for i in range(200))
    task = Task("chart", "multiclass", ("0", "1"), ("0", "1"), 2, 4, 1 / 3600, (), ("HR", "HR measured"), True, True)
    n, features = len(owner), np.zeros((len(owner), 0), np.float32)
    split = (owner % 3).astype(np.int8)
    cohort = Cohort(task, x, features, np.arange(n) % 2, owner, names, names, split)
    return cohort, replace(cohort, x=x.dense())
