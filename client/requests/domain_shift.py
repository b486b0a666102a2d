"""The columns in which hospitals are compared, and what a site sends of them (common/distance.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from client.evaluation.small_groups import MIN_PATIENTS
from client.gate.columns import floor_columns_by_class, floor_products
from client.gate.plausible_scaling import check_base_scaling
from client.gate.questions import find_error_growth
from client.gate.register import TOO_FEW, open_register
from client.gate.register_file import draw_error
from client.gate.tables import round_sums
from client.privacy.units import digest_people
from client.site import change_training, choose_summed_settings, load_site, without_detection
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
"""Largest number of different scalings and seeds with which a hospital summarises its columns in 30 days."""
QUESTION = "domain shift"
"""The kind under which the register counts them."""


def handle_domain_shift(context: SiteContext, request: DomainShiftRequest) -> DomainShiftReply:
    """Return aggregates of the comparison columns, as `sum_columns` does.

    Raises:
        SiteError: as `sum_columns`.
    """
    config = request.config
    if not context.simulated:  # sums of normal patients alone would rest on their outcomes
        config = choose_summed_settings(context, without_detection(config))
    site = load_site(context, config)
    # sums of random features would show single people, so they are of changed records
    train = site.train if context.simulated else change_training(context, config, site, fill=False)
    sums = sum_columns(context, train, request.config, request.base)
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
        question = digest_summary(base, config, digest_people(cohort))
        register.ask("", QUESTION, question, None, MAX_SUMMARIES_PER_MONTH)
    z = (values.astype(np.float64) - agreed.centre) / agreed.spread
    summary = distance.summarise_columns(z, person, minimum, config.seed).arrays()
    floor_products(summary["second"], np.clip(z, -distance.MAX_DEVIATIONS, distance.MAX_DEVIATIONS), person, floor)
    if context.simulated:
        return summary
    growth = find_error_growth(context.policy, register.count_questions("", QUESTION, question))
    key, deviation = register.read_secret() + question.encode(), context.policy.count_noise * growth
    cells = answer_cells(z, person, minimum, lambda cell: draw_error(key, cell.encode(), deviation))
    rounded = {name: value if name == "rows" else round_sums(value) for name, value in summary.items()}
    return {**rounded, "cells": cells}


def digest_summary(base: bytes, config: RunConfig, people: str) -> str:
    """Return a digest of what a summary depends on: were other data one question, their errors would be the same.

    Args:
        base: the scaling.
        config: the run.
        people: a digest of those who are summarised: more of them may have come.
    """
    about = f"\x1f{config.seed}\x1f{config.data.model_dump_json()}\x1f{people}"
    return hashlib.sha256(base + about.encode()).hexdigest()


def answer_cells(z: Floats, person: npt.NDArray[np.int64], minimum: int, error: Callable[[str], int]) -> Floats:
    """Return histograms of columns as they may leave, `(columns, HISTOGRAM_BINS + 1)`.

    The number of people in each bin has an error; bins of fewer than `minimum` people by that number are 0, also where
    nobody is. The others have the examples that this number of people has, to multiples of 5. By exact numbers, narrow
    bins would show which values occur.

    Args:
        z: scaled columns `(examples, columns)`; NaN: missing.
        person: `(examples,)`, the person of each example, from 0.
        minimum: the smallest number of people.
        error: by how many people the bin of this name is off.
    """
    bins = distance.histogram_bins(z)
    width, persons = distance.HISTOGRAM_BINS + 1, int(person.max(initial=0)) + 1
    cells = np.zeros((z.shape[1], width))
    for column in range(z.shape[1]):
        examples = np.bincount(bins[:, column], minlength=width)
        people = np.bincount(np.unique(person * width + bins[:, column]) % width, minlength=width)
        answered = people + np.asarray([error(f"{column} {cell}") for cell in range(width)])
        each = np.where(people > 0, examples / np.maximum(people, 1), len(z) / persons)
        rounded = np.maximum(np.floor(answered * each / COUNT_GRAIN + 0.5), 1) * COUNT_GRAIN
        cells[column] = np.where(answered < minimum, 0, rounded)
    return cells
