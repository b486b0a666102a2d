"""A labelled data set as an anomaly task: what is normal, what is abnormal, what is unmeasured."""

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
    """Return a site's cohort with the task of telling normal from abnormal examples.

    Left out, and counted: what a recorder that is off gives (a signal that is flat in every lead, a row without a
    measured value), because it is easily reconstructed and so would count as normal; and, unless the run trains on
    everything, abnormal training examples.

    Raises:
        ConfigError: `detection.normal` names a class that the data do not have, or all of them.
    """
    wanted = config.detection
    normal = [cohort.task.classes.index(name) for name in detection.resolve_normal_classes(cohort.task, wanted)]
    has = cohort.y.astype(bool) if cohort.y.ndim == 2 else cohort.y[:, None] == np.arange(len(cohort.task.classes))
    kinds = np.delete(has, normal, axis=1)
    found = replace(
        cohort,
        task=detection.to_detection_task(cohort.task, wanted),
        y=np.asarray(kinds.any(1), np.int64),
        kinds=kinds,
        utility=None,
    )
    out = {FLAT: _flat(found), UNMEASURED: _unmeasured(found)}
    if wanted.train_on == "normal":
        out[ABNORMAL] = (found.y == 1) & (found.split == SPLITS.index("train"))
    keep, counted = np.ones(len(found.y), np.bool_), dict(found.excluded)
    for why, gone in out.items():
        if number := int((gone & keep).sum()):
            counted[why] = counted.get(why, 0) + number
        keep &= ~gone
    return replace(found if keep.all() else found.take(keep), excluded=counted)


def _flat(cohort: Cohort) -> npt.NDArray[np.bool_]:
    if isinstance(cohort.x, Windows) or not cohort.task.channels:
        return np.zeros(len(cohort.y), np.bool_)
    leads = [i for i, name in enumerate(cohort.task.channel_names) if not name.endswith("minus median beat")]
    return np.asarray((cohort.x[:, leads] == cohort.x[:, leads, :1]).all((1, 2)))


def _unmeasured(cohort: Cohort) -> npt.NDArray[np.bool_]:
    if not cohort.task.missing:
        return np.zeros(len(cohort.y), np.bool_)
    gone = np.isnan(cohort.features).all(1)
    if isinstance(cohort.x, Windows):
        rows, first = np.cumsum(~np.isnan(cohort.x.rows).all(1)), cohort.x.end - cohort.x.samples
        before = np.maximum(first, cohort.x.first - 1)
        return np.asarray(gone & (rows[cohort.x.end] - np.where(before >= 0, rows[before], 0) == 0))
    return np.asarray(gone & np.isnan(cohort.x).all((1, 2)))
