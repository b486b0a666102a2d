"""What can be scored of unlabelled recordings and tables, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.task import Task
from sites.cohort import Cohort, Windows

ALL_MISSING = "every value is missing"
"""Why a row is left out that holds no measured value."""


@dataclass(frozen=True)
class Exclusion:
    """What was not scored and why: a window at `sample`, or, without one, `rows` of a record, or (0) all of it."""

    record: str
    why: str
    sample: int | None = None
    seconds: float | None = None
    rows: int = 0


@dataclass(frozen=True)
class ScorableRows:
    """What can be scored of one recording or table: `cohort`, its labels meaningless, `columns` that say which row is
    which, each `(rows,)`, and what was left out.

    `rate`: Hz of the column `sample`, 0 where there is none; `about`: what was used, for whoever reads the scores.
    """

    cohort: Cohort
    columns: Mapping[str, npt.NDArray[Any]]
    left: tuple[Exclusion, ...] = ()
    rate: float = 0.0
    about: Mapping[str, str] = field(default_factory=dict)


def unlabelled_cohort(
    task: Task,
    x: npt.NDArray[np.float32] | Windows,
    features: npt.NDArray[np.float32],
    names: tuple[str, ...],
    synthetic: bool,
    owner: npt.NDArray[np.int64] | None = None,
) -> Cohort:
    """Return examples without labels (all of the first class) of one patient, or of those that `owner` points to.

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
