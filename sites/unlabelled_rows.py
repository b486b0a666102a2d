"""Rows to score, of unlabelled recordings and tables, and what was excluded from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.task import Task
from sites.cohort import Cohort, Windows

ALL_MISSING = "every value is missing"
"""The reason for excluding a row without a measured value."""


@dataclass(frozen=True)
class Exclusion:
    """One exclusion from scoring.

    Attributes:
        record: the recording or the table's record.
        reason: why, in words.
        sample: sample of an excluded window; none for other exclusions.
        seconds: time of that sample.
        rows: number of excluded rows; 0 means the whole record.
    """

    record: str
    reason: str
    sample: int | None = None
    seconds: float | None = None
    rows: int = 0


@dataclass(frozen=True)
class ScorableRows:
    """The rows to score of one recording or table.

    Attributes:
        cohort: the rows; their labels are meaningless.
        columns: arrays `(rows,)` that identify each row.
        exclusions: what was excluded.
        rate: Hz of the column `sample`; 0 where there is none.
        about: further information for the reader of the scores, such as the leads that were used.
        cleared: number of implausible cells that were read as not measured, by column and limits.
        suspicions: what looks wrong but may be right, counted by reason (sites/suspicions.py).
    """

    cohort: Cohort
    columns: Mapping[str, npt.NDArray[Any]]
    exclusions: tuple[Exclusion, ...] = ()
    rate: float = 0.0
    about: Mapping[str, str] = field(default_factory=dict)
    cleared: Mapping[str, int] = field(default_factory=dict)
    suspicions: Mapping[str, int] = field(default_factory=dict)


def unlabelled_cohort(
    task: Task,
    x: npt.NDArray[np.float32] | Windows,
    features: npt.NDArray[np.float32],
    names: tuple[str, ...],
    synthetic: bool,
    owner: npt.NDArray[np.int64] | None = None,
) -> Cohort:
    """Return examples without labels: all count as of the first class.

    Args:
        task: what is predicted.
        x: signals, `(examples, channels, samples)`.
        features: `(examples, features)`.
        names: the patients.
        synthetic: whether the data were generated.
        owner: index into `names` of each example; default: all are of the first.

    Raises:
        DataError: an input is infinite, or NaN where the task has none missing.
    """
    n, classes = len(x), len(task.classes)
    return Cohort(
        task,
        x if isinstance(x, Windows) else np.ascontiguousarray(x, dtype=np.float32),
        np.ascontiguousarray(features, dtype=np.float32),
        np.zeros((n, classes) if task.kind == "multilabel" else n, np.int64),
        np.zeros(n, np.int64) if owner is None else owner,
        names,
        names,
        np.full(n, -1, np.int8),
        synthetic=synthetic,
        utility=np.zeros((n, 2), np.float32) if task.utility else None,
    )


def nothing_to_score(task: Task, exclusions: tuple[Exclusion, ...]) -> ScorableRows:
    """Return no row, where none of some records can be scored."""
    x = np.zeros((0, task.channels, task.samples), np.float32)
    cohort = unlabelled_cohort(task, x, np.zeros((0, len(task.features)), np.float32), (), False)
    return ScorableRows(cohort, {"record": np.zeros(0, object)}, exclusions)
