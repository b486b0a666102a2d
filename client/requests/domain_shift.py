"""The columns in which hospitals are compared, and what a site sends of them (common/distance.py)."""

from __future__ import annotations

import hashlib

import numpy as np

from client.evaluation.small_groups import MIN_PATIENTS
from client.gate.columns import floor_columns_by_class, floor_products
from client.gate.plausible_scaling import check_base_scaling
from client.gate.register import TOO_FEW, open_register
from client.gate.tables import round_sums
from client.site import load_summed_site
from client.site_context import SiteContext
from common import distance, scaling
from common.config import RunConfig
from common.distance import Floats
from common.errors import SiteError
from common.replies import DomainShiftReply
from common.reports import DomainShiftReport
from common.requests import DomainShiftRequest
from common.scaling import Scaling
from sites.cohort import Cohort
from sites.comparison_columns import column_names, column_table

COUNT_GRAIN = 5
"""Counts of a summary that leaves a hospital are multiples of this."""
MAX_SUMMARIES_PER_MONTH = 20
"""Largest number of different scalings over which a hospital summarises its columns in 30 days."""


def handle_domain_shift(context: SiteContext, request: DomainShiftRequest) -> DomainShiftReply:
    """Return aggregates of the comparison columns, as `sum_columns` does.

    Raises:
        SiteError: as `sum_columns`.
    """
    site = load_summed_site(context, request.config)
    sums = sum_columns(context, site.train, request.config, request.base)
    return DomainShiftReply(site.name, DomainShiftReport(columns=column_names(site.task)), sums=sums)


def sum_columns(context: SiteContext, cohort: Cohort, config: RunConfig, base: bytes) -> dict[str, Floats]:
    """Return a site's aggregates for one of the two steps of the comparison.

    Args:
        context: the site.
        cohort: its training examples.
        config: the run.
        base: empty in the first step, which returns the moments of each column; in the second step the scaling that
            the server computed from them, with which the columns are scaled before they are summarised.

    Raises:
        SiteError: the run is private, there are too few people or columns, or the scaling is of other columns.
    """
    if config.privacy.on or context.policy.needs_privacy:
        raise SiteError("domain shift: aggregates of patients would leave that no epsilon counts")
    minimum = max(context.policy.min_cell_patients, 1 if context.simulated else MIN_PATIENTS)
    if cohort.people() < max(minimum, context.policy.min_training_patients):
        raise SiteError(TOO_FEW)
    if not column_names(cohort.task):
        raise SiteError("domain shift: this task has no columns to compare, only a signal that is no ECG")
    person = np.unique(np.asarray(cohort.persons, dtype=object), return_inverse=True)[1][cohort.patient]
    floor = 1 if context.simulated else minimum
    values = floor_columns_by_class(column_table(cohort), person, cohort.y, floor)
    if not base:
        return scaling.compute_column_moments(values)
    agreed = Scaling.from_bytes(base)
    if agreed.centre.shape != (values.shape[1],):
        raise SiteError(f"the scaling is of {agreed.centre.size} columns, this task has {values.shape[1]}")
    if not context.simulated:
        check_base_scaling(agreed, scaling.compute_column_moments(values))
        register = open_register(context)
        register.ask("", "domain shift", hashlib.sha256(base).hexdigest(), None, MAX_SUMMARIES_PER_MONTH)
    z = (values.astype(np.float64) - agreed.centre) / agreed.spread
    summary = distance.summarise_columns(z, person, minimum, config.seed).arrays()
    floor_products(summary["second"], np.clip(z, -distance.MAX_DEVIATIONS, distance.MAX_DEVIATIONS), person, floor)
    return summary if context.simulated else {name: coarsen_sums(name, value) for name, value in summary.items()}


def coarsen_sums(name: str, values: Floats) -> Floats:
    """Return a part of a summary as it may leave: counts to multiples of 5, sums to three significant digits."""
    if name != "cells":
        return values if name == "rows" else round_sums(values)
    return np.where(values == distance.SUPPRESSED, values, np.floor(values / COUNT_GRAIN + 0.5) * COUNT_GRAIN)
