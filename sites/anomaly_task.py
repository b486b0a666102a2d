"""A labelled data set as an anomaly task: examples become normal or abnormal, and empty ones are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from common import detection
from common.config import RunConfig
from sites.cohort import SPLITS, Cohort, Windows

FLAT = "examples whose signal is flat in every lead"

UNMEASURED = "examples of which nothing was measured"

ABNORMAL = "abnormal training examples, not trained on"


def to_anomaly_task(cohort: Cohort, config: RunConfig) -> Cohort:
    """Return a cohort with normal and abnormal as its two classes.

    Left out and counted: examples of a recorder that is off (a signal that is flat in every lead, a row without a
    measured value), which are easily reconstructed and would count as normal; and abnormal training examples, unless
    the run trains on everything.

    Raises:
        ConfigError: `detection.normal` names a class that the data do not have, or all of them.
    """
    wanted = config.detection
    normal = [cohort.task.classes.index(name) for name in detection.resolve_normal_classes(cohort.task, wanted)]
    has = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(len(cohort.task.classes))
    kinds = np.delete(has, normal, axis=1)
    anomalies = replace(
        cohort,
        task=detection.to_detection_task(cohort.task, wanted),
        y=np.asarray(kinds.any(1), np.int64),
        kinds=kinds,
        utility=None,
    )
    unusable = {FLAT: _is_flat(anomalies), UNMEASURED: _is_unmeasured(anomalies)}
    if wanted.train_on == "normal":
        unusable[ABNORMAL] = (anomalies.y == 1) & (anomalies.split == SPLITS.index("train"))
    keep, excluded = np.ones(len(anomalies.y), np.bool_), dict(anomalies.excluded)
    for reason, mask in unusable.items():
        if count := int((mask & keep).sum()):
            excluded[reason] = excluded.get(reason, 0) + count
        keep &= ~mask
    return replace(anomalies if keep.all() else anomalies.take(keep), excluded=excluded)


def _is_flat(cohort: Cohort) -> npt.NDArray[np.bool_]:
    if isinstance(cohort.x, Windows) or not cohort.task.channels:
        return np.zeros(len(cohort.y), np.bool_)
    leads = [i for i, name in enumerate(cohort.task.channel_names) if not name.endswith("minus median beat")]
    return np.asarray((cohort.x[:, leads] == cohort.x[:, leads, :1]).all((1, 2)))


def _is_unmeasured(cohort: Cohort) -> npt.NDArray[np.bool_]:
    if not cohort.task.missing:
        return np.zeros(len(cohort.y), np.bool_)
    empty = np.isnan(cohort.features).all(1)
    if isinstance(cohort.x, Windows):
        rows, first = np.cumsum(~np.isnan(cohort.x.rows).all(1)), cohort.x.end - cohort.x.samples
        before = np.maximum(first, cohort.x.first - 1)
        return np.asarray(empty & (rows[cohort.x.end] - np.where(before >= 0, rows[before], 0) == 0))
    return np.asarray(empty & np.isnan(cohort.x).all((1, 2)))
