"""Scaling of a site's inputs: the statistics it sends for a federated scaling, and its cohort scaled by one.

The scaling itself, which the server computes from all sites' statistics, is in common/scaling.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from client.evaluation.small_groups import index_people
from client.gate.columns import floor_columns, floor_columns_by_class
from common import scaling
from common.errors import SiteError
from common.scaling import Arrays, Scaling
from common.sections.data import DataConfig
from common.task import Task
from sites.cohort import Cohort, Windows

ScalingKind = Literal["none", "standard", "site", "quantile", "bins"]
"""How inputs are scaled: not at all, by all sites' mean and deviation, by the site's own, or by all sites' ranks.

`bins`: by ranks, and missing values stay missing.
"""


def resolve_scaling(config: DataConfig, task: Task) -> ScalingKind:
    """Return how a task's inputs are scaled; `auto` means `standard` if they have units of measurement, else `none`."""
    if config.scaling == "auto":
        return "standard" if task.units else "none"
    return config.scaling


def compute_input_moments(cohort: Cohort, floor: int = 1) -> Arrays:
    """Return counts, missing values, sums and sums of squares of each input, `(features + channels,)` each.

    Args:
        cohort: the examples.
        floor: no value, and no lack of one, is counted of fewer people (client/gate/columns.py).
    """
    parts = [scaling.compute_column_moments(values) for values in _input_tables(cohort, floor)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compute_input_histogram(cohort: Cohort, base: Scaling, floor: int = 1) -> Arrays:
    """Return the number of values in each bin of a standard scaling `base`, `(features + channels, CELLS)`.

    Args:
        cohort: the examples.
        base: places the bins.
        floor: as in `compute_input_moments`.
    """
    wide = cohort.features.shape[1]
    features, signals = _input_tables(cohort, floor)
    parts = [
        scaling.count_rank_bins(features, base.centre[:wide], base.spread[:wide]),
        scaling.count_rank_bins(signals, base.centre[wide:], base.spread[wide:]),
    ]
    return {"histogram": np.concatenate(parts)}


def fit_scaling(cohorts: Sequence[Cohort], kind: ScalingKind) -> Scaling | None:
    """Return the scaling that a federation of the cohorts' sites would compute, or None if there is nothing to scale.

    Args:
        cohorts: the training examples of each site.
        kind: what to compute; `standard` and `site` differ only in whose cohorts they are given.
    """
    cohorts = [cohort for cohort in cohorts if len(cohort.y)]
    if kind == "none" or not cohorts:
        return None
    base = scaling.fit_standard_scaling(scaling.add_statistics(compute_input_moments(cohort) for cohort in cohorts))
    if kind not in ("quantile", "bins"):
        return base
    merged = scaling.add_statistics(compute_input_histogram(cohort, base) for cohort in cohorts)
    return replace(scaling.fit_quantile_scaling(base, merged["histogram"]), keeps_missing=kind == "bins")


def apply_scaling(cohort: Cohort, scale: Scaling | None) -> Cohort:
    """Return the cohort with its inputs scaled and missing values set to 0, the mean of scaled inputs.

    For anomaly detection missing values stay NaN: an autoencoder's loss leaves them out.

    Args:
        cohort: a site's examples.
        scale: of features, then channels; None leaves the scale as it is.

    Raises:
        SiteError: the scaling is of another number of inputs.
    """
    wide, width = cohort.features.shape[1], cohort.features.shape[1] + cohort.task.channels
    if scale is None:
        if not cohort.task.missing or cohort.task.anomaly:
            return cohort
        scale = Scaling(np.zeros(width), np.ones(width))
    if scale.centre.shape != (width,):
        raise SiteError(f"the scaling is of {scale.centre.size} inputs, this task has {width}")
    keep = cohort.task.anomaly
    features = scale.apply(cohort.features, keep_missing=keep)
    if isinstance(cohort.x, Windows):
        rows = scale.apply(cohort.x.rows, wide, keep_missing=keep)
        pad = scale.apply(cohort.x.padding[None], wide, keep_missing=keep)[0]
        return replace(cohort, x=replace(cohort.x, rows=rows, pad=pad), features=features)
    if not cohort.task.channels:
        return replace(cohort, features=features)
    x = scale.apply(_signal_values(cohort), wide, keep_missing=keep)
    x = x.reshape(len(cohort.y), cohort.task.samples, cohort.task.channels).transpose(0, 2, 1)
    return replace(cohort, x=np.ascontiguousarray(x), features=features)


def _input_tables(cohort: Cohort, floor: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the features `(examples, features)` and the signal's values `(values, channels)`, floored."""
    signals = _signal_values(cohort)
    if floor <= 1 or not len(cohort.y):
        return cohort.features, signals
    owner = index_people(cohort)[1]
    each = np.repeat(owner, len(signals) // len(owner))
    return floor_columns_by_class(cohort.features, owner, cohort.y, floor), floor_columns(signals, each, floor)


def _signal_values(cohort: Cohort) -> npt.NDArray[np.float32]:
    """Return the signal's values `(values, channels)`; of each window only its last row, so that none counts twice."""
    if isinstance(cohort.x, Windows):
        return cohort.x.rows[cohort.x.end]
    return cohort.x.transpose(0, 2, 1).reshape(len(cohort.y) * cohort.task.samples, cohort.task.channels)
