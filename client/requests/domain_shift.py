"""The columns in which hospitals are compared, and what a site sends of them (common/distance.py)."""

from __future__ import annotations

import numpy as np

from client.evaluation.small_groups import MIN_PATIENTS
from client.site_context import SiteContext
from common import distance, scaling
from common.config import RunConfig
from common.distance import Floats
from common.errors import SiteError
from common.scaling import Scaling
from sites.cohort import Cohort
from sites.comparison_columns import column_names, column_table


def handle_domain_shift(place: SiteContext, cohort: Cohort, config: RunConfig, base: bytes) -> dict[str, Floats]:
    """Return a site's moments, or, over the scaling of all that came, its summary.

    Raises:
        SiteError: the run is private, there are too few people or columns, or the scaling is of others.
    """
    if config.privacy.on or place.policy.needs_privacy:
        raise SiteError("domain shift: aggregates of patients would leave that no epsilon counts")
    least = max(place.policy.min_cell_patients, 1 if place.simulated else MIN_PATIENTS)
    if cohort.people() < max(least, place.policy.min_training_patients):
        raise SiteError(f"policy: fewer than {max(least, place.policy.min_training_patients)} people to compare")
    if not column_names(cohort.task):
        raise SiteError("domain shift: this task has no columns to compare, only a signal that is no ECG")
    values = column_table(cohort)
    if not base:
        return scaling.compute_column_moments(values)
    found = Scaling.from_bytes(base)
    if found.centre.shape != (values.shape[1],):
        raise SiteError(f"the scaling is of {found.centre.size} columns, this task has {values.shape[1]}")
    z = (values.astype(np.float64) - found.centre) / found.spread
    person = np.unique(np.asarray(cohort.persons, dtype=object), return_inverse=True)[1][cohort.patient]
    return distance.summarise_columns(z, person, least, config.seed).arrays()
