"""The columns in which hospitals are compared, and what a site sends of them (common/distance.py)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from client.place import Place
from common import distance, scaling
from common.config import RunConfig
from common.distance import Floats
from common.errors import DataError, SiteError
from common.scaling import Scaling
from common.task import Task
from sites import ecg_features
from sites.cohort import Cohort, Windows

LEAST = 5
"""A hospital's histogram cells rest on at least so many people, whatever its policy; a simulation's by its policy."""


def names(task: Task) -> tuple[str, ...]:
    """Return the columns of a task: its features, a table's last hour, hand-crafted features of an ECG."""
    if not task.channels:
        return task.features
    if task.rate_hz < 1:
        return (*task.features, *task.channel_names)
    return (*task.features, *ecg_features.names(task)) if _is_ecg(task) else task.features


def table(cohort: Cohort) -> npt.NDArray[np.float32]:
    """Return the columns `(examples, columns)`, NaN missing."""
    task = cohort.task
    if not task.channels:
        return cohort.features
    if isinstance(cohort.x, Windows):
        more = cohort.x.rows[cohort.x.end]
    elif task.rate_hz < 1:
        more = cohort.x[:, :, -1]
    elif _is_ecg(task):
        more = ecg_features.table(cohort)
    else:
        return cohort.features
    return np.concatenate([cohort.features, more], axis=1)


def _is_ecg(task: Task) -> bool:
    try:
        ecg_features.kind(task)
    except DataError:
        return False
    return True


def answer(place: Place, cohort: Cohort, config: RunConfig, base: bytes) -> dict[str, Floats]:
    """Return a site's moments, or, over the scaling of all that came, its summary.

    Raises:
        SiteError: the run is private, there are too few people or columns, or the scaling is of others.
    """
    if config.privacy.on or place.policy.needs_privacy:
        raise SiteError("domain shift: aggregates of patients would leave that no epsilon counts")
    least = max(place.policy.min_cell_patients, 1 if place.simulated else LEAST)
    if cohort.people() < max(least, place.policy.min_training_patients):
        raise SiteError(f"policy: fewer than {max(least, place.policy.min_training_patients)} people to compare")
    if not names(cohort.task):
        raise SiteError("domain shift: this task has no columns to compare, only a signal that is no ECG")
    values = table(cohort)
    if not base:
        return scaling.moments(values)
    found = Scaling.from_bytes(base)
    if found.centre.shape != (values.shape[1],):
        raise SiteError(f"the scaling is of {found.centre.size} columns, this task has {values.shape[1]}")
    z = (values.astype(np.float64) - found.centre) / found.spread
    person = np.unique(np.asarray(cohort.persons, dtype=object), return_inverse=True)[1][cohort.patient]
    return distance.summarise(z, person, least, config.seed).arrays()
