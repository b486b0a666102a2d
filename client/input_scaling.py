"""A site's inputs, scaled: what it sends for a federated scaling, and its cohort under one (common/scaling.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from common import scaling
from common.errors import SiteError
from common.scaling import Arrays, Scaling
from common.sections.data import DataConfig
from common.task import Task
from sites.cohort import Cohort, Windows

ScalingKind = Literal["none", "standard", "site", "quantile"]


def resolve_scaling(config: DataConfig, task: Task) -> ScalingKind:
    """Return how the inputs of a task are scaled: `auto` scales those that stand in units of their own."""
    if config.scaling == "auto":
        return "standard" if task.units else "none"
    return config.scaling


def compute_input_moments(cohort: Cohort) -> Arrays:
    """Return counts, missing, sums and squares, each `(features + channels,)`."""
    parts = [scaling.compute_column_moments(cohort.features), scaling.compute_column_moments(_hours(cohort))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compute_input_histogram(cohort: Cohort, base: Scaling) -> Arrays:
    """Return histograms `(features + channels, CELLS)` over the bins of `base`."""
    wide = cohort.features.shape[1]
    parts = [
        scaling.count_rank_bins(cohort.features, base.centre[:wide], base.spread[:wide]),
        scaling.count_rank_bins(_hours(cohort), base.centre[wide:], base.spread[wide:]),
    ]
    return {"histogram": np.concatenate(parts)}


def fit_scaling(cohorts: Sequence[Cohort], wanted: ScalingKind) -> Scaling | None:
    """Return the scaling of the examples of several sites, as a federation of them would agree on it."""
    cohorts = [cohort for cohort in cohorts if len(cohort.y)]
    if wanted == "none" or not cohorts:
        return None
    base = scaling.fit_standard_scaling(scaling.add_statistics(compute_input_moments(cohort) for cohort in cohorts))
    if wanted != "quantile":
        return base
    return scaling.fit_quantile_scaling(
        base, scaling.add_statistics(compute_input_histogram(cohort, base) for cohort in cohorts)["histogram"]
    )


def apply_scaling(cohort: Cohort, wanted: Scaling | None) -> Cohort:
    """Return the cohort with its inputs scaled and without NaN; a model that reconstructs sees what is missing.

    Raises:
        SiteError: the scaling is of another number of inputs.
    """
    wide, width = cohort.features.shape[1], cohort.features.shape[1] + cohort.task.channels
    if wanted is None:
        if not cohort.task.missing or cohort.task.anomaly:
            return cohort
        wanted = Scaling(np.zeros(width), np.ones(width))
    if wanted.centre.shape != (width,):
        raise SiteError(f"the scaling is of {wanted.centre.size} inputs, this task has {width}")
    keep = cohort.task.anomaly
    features = wanted.apply(cohort.features, keep_missing=keep)
    if isinstance(cohort.x, Windows):
        rows = wanted.apply(cohort.x.rows, wide, keep_missing=keep)
        pad = wanted.apply(cohort.x.padding[None], wide, keep_missing=keep)[0]
        return replace(cohort, x=replace(cohort.x, rows=rows, pad=pad), features=features)
    if not cohort.task.channels:
        return replace(cohort, features=features)
    x = wanted.apply(_hours(cohort), wide, keep_missing=keep)
    x = x.reshape(len(cohort.y), cohort.task.samples, cohort.task.channels).transpose(0, 2, 1)
    return replace(cohort, x=np.ascontiguousarray(x), features=features)


def _hours(cohort: Cohort) -> npt.NDArray[np.float32]:
    """Return the signal's values `(values, channels)`; of windows the last row of each, so that none counts twice."""
    if isinstance(cohort.x, Windows):
        return cohort.x.rows[cohort.x.end]
    return cohort.x.transpose(0, 2, 1).reshape(len(cohort.y) * cohort.task.samples, cohort.task.channels)
