"""Columns by which the data of hospitals are compared: features, and hand-crafted features of an ECG."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.task import Task
from sites.cohort import Cohort, Windows
from sites.ecg import features


def column_names(task: Task) -> tuple[str, ...]:
    """Return the names of the columns: the task's features, then hourly channels or hand-crafted features of an ECG."""
    if not task.channels:
        return task.features
    if task.rate_hz < 1:
        return (*task.features, *task.channel_names)
    return (*task.features, *features.feature_names(task)) if _is_ecg(task) else task.features


def column_table(cohort: Cohort) -> npt.NDArray[np.float32]:
    """Return the columns of `column_names`, `(examples, columns)`; NaN: missing.

    Of hourly channels, the last hour is used.
    """
    task = cohort.task
    if not task.channels:
        return cohort.features
    if isinstance(cohort.x, Windows):
        more = cohort.x.rows[cohort.x.end]
    elif task.rate_hz < 1:
        more = cohort.x[:, :, -1]
    elif _is_ecg(task):
        more = features.feature_table(cohort)
    else:
        return cohort.features
    return np.concatenate([cohort.features, more], axis=1)


def _is_ecg(task: Task) -> bool:
    try:
        features.signal_kind(task)
    except DataError:
        return False
    return True
