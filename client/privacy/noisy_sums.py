"""Private sums over training units, from which the inputs' scaling is computed.

One release of the Gaussian mechanism (Dwork and Roth 2014, doi:10.1561/0400000042, appendix A): each unit's vector
(described in common/noisy_scaling.py) is clipped to norm CLIP_PER_ROOT_INPUT * sqrt(summed inputs), so that one unit
changes the sum by at most that much, and noise of `sigma` times that norm is added to every coordinate. The release is
charged before it is sent, as a separate row (round 0, q = 1, one step); the run's epsilon covers it and the training
steps together.

The ranges are public: those that the data set states (`bounds` in sites/datasets/), or `privacy.bounds`. They are
never computed from the data. With `privacy.statistics_share=0` nothing is summed: inputs are scaled by their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from client.privacy import budget
from client.privacy.accounting import GaussianSteps
from client.privacy.units import STATISTICS_ROUND, group_rows_by_unit
from client.site import Site
from client.site_context import SiteContext
from common import noise
from common.config import RunConfig
from common.errors import ConfigError
from common.noisy_scaling import NoisyMoments, inputs_with_units
from common.reports import PrivacySpent
from common.requests import ScalingRequest
from common.seeds import seed_for
from common.task import Task
from sites import datasets
from sites.cohort import Cohort, Windows

Floats = npt.NDArray[np.float64]

CLIP_PER_ROOT_INPUT = 0.6
"""Clipping norm of a unit's vector, divided by the square root of the number of summed inputs."""
MEASURED_WEIGHT = 0.25
"""Weight of the numbers of units in the vector, small because their noise matters less: they are only divisors."""
BLOCK_ROWS = 1 << 13
"""Rows that are summed at once, about."""


def get_public_ranges(task: Task, config: RunConfig) -> tuple[Floats, Floats]:
    """Return the public range of each input, features first, then channels: low and high, `(inputs,)` each.

    The first pattern of `privacy.bounds` that matches an input's name precedes what the data set states.

    Raises:
        ConfigError: an input has no public range.
    """
    stated = datasets.public_bounds(config)
    ranges = []
    for name in (*task.features, *task.channel_names):
        given = next((ends for pattern, ends in config.privacy.bounds.items() if fnmatchcase(name, pattern)), None)
        ends = given or stated.get(name)
        if ends is None:
            raise ConfigError(
                f"privacy: the input {name!r} has no public range, and its own would reveal patients' values: give "
                "privacy.bounds={NAME: [low, high]}, or set data.scaling=none"
            )
        ranges.append(ends)
    low, high = np.asarray(ranges, np.float64).reshape(-1, 2).T
    return low, high


def release_noisy_sums(
    context: SiteContext, site: Site, request: ScalingRequest, units: int
) -> tuple[NoisyMoments, PrivacySpent | None]:
    """Charge and return a site's noisy sums, and what the site reports of the charge (None if nothing is summed).

    Args:
        context: the site's context.
        site: whose training units are summed, with inputs unscaled.
        request: of the scaling phase.
        units: number of units reported to the server.

    Raises:
        BudgetSpent: the charge would overspend; nothing is summed.
        ConfigError: an input has no public range.
    """
    config, train = request.config, site.train
    low, high = get_public_ranges(site.task, config)
    width = int(inputs_with_units(low, high).sum())
    counted = width if site.task.missing else 1
    if not budget.needs_noisy_sums(config, site.task) or not width:
        zero = np.zeros(width)
        return NoisyMoments(np.zeros(counted), zero, zero, low, high, 0.0), None
    rows = budget.open_ledger(context, site).rows()
    sigma = budget.solve_sums_noise(config, rows, request.run_id)
    spent = GaussianSteps(1.0, sigma, 1)
    row = budget.charge_ledger(
        context, site, budget.build_charge(context, site, request.run_id, config, spent, STATISTICS_ROUND)
    )
    clip = CLIP_PER_ROOT_INPUT * math.sqrt(width)
    limit = clip * noise.clip_margin(counted + 2 * width, sigma)
    total = sum_clipped_units(train, config.privacy.kind, low, high, limit)
    secure = config.privacy.noise == "secure"
    source = noise.SecureSource() if secure else noise.SeededSource(seed_for(config.seed, site.name, "statistics"))
    sent = noise.add_noise(total, sigma * clip, source)
    measured = sent[:counted] / (MEASURED_WEIGHT if site.task.missing else MEASURED_WEIGHT * math.sqrt(width))
    moments = NoisyMoments(measured, sent[counted : counted + width], sent[counted + width :], low, high, sigma * clip)
    return moments, budget.report_spending(row, rows, clip, units)


def sum_clipped_units(train: Cohort, level: str, low: Floats, high: Floats, limit: float) -> Floats:
    """Return the sum of units' vectors `(measured, first, second)`, each clipped to norm `limit`.

    One unit added or removed changes it by at most `limit`.
    """
    chosen, missing = inputs_with_units(low, high), train.task.missing
    width = int(chosen.sum())
    total = np.zeros((width if missing else 1) + 2 * width)
    for rows, starts in _group_units(group_rows_by_unit(train, level)):
        sums = [np.add.reduceat(part[:, chosen], starts, axis=0) for part in _sum_values(train, rows, low, high)]
        measured, (first, second) = sums[0], (part / np.maximum(sums[0], 1) for part in sums[1:])
        weight = (
            MEASURED_WEIGHT * (measured > 0)
            if missing
            else np.full((len(measured), 1), MEASURED_WEIGHT * math.sqrt(width))
        )
        vector = np.concatenate([weight, first, second], axis=1)
        norm = np.sqrt((vector * vector).sum(1, keepdims=True))
        total += (vector * np.minimum(1.0, limit / np.maximum(norm, 1e-300))).sum(0)
    return total


def _group_units(units: list[npt.NDArray[np.int64]]) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the rows of some whole units, about BLOCK_ROWS at a time, and the position at which each unit begins."""
    block: list[npt.NDArray[np.int64]] = []
    size = 0
    for i, unit in enumerate(units):
        block.append(unit)
        size += len(unit)
        if size >= BLOCK_ROWS or i == len(units) - 1:
            yield np.concatenate(block), np.cumsum([0, *(len(rows) for rows in block[:-1])])
            block, size = [], 0


def _sum_values(train: Cohort, rows: npt.NDArray[np.int64], low: Floats, high: Floats) -> tuple[Floats, Floats, Floats]:
    """Return each row's number of measured values of each input, their sum and sum of squares, `(rows, inputs)` each.

    Values are mapped from their public range to -1 to 1, and clipped to it.
    """
    wide = train.features.shape[1]
    x = train.x.rows[train.x.end[rows]][:, :, None] if isinstance(train.x, Windows) else train.x[rows]
    parts: list[list[Floats]] = [[], [], []]
    for values, columns in ((train.features[rows][:, :, None], slice(0, wide)), (x, slice(wide, None))):
        ends = low[columns, None], high[columns, None]
        mapped = (np.clip(values.astype(np.float64), *ends) - (ends[0] + ends[1]) / 2) / ((ends[1] - ends[0]) / 2)
        measured = ~np.isnan(mapped)
        mapped = np.where(measured, mapped, 0.0)
        for part, summand in zip(parts, (measured, mapped, mapped * mapped), strict=True):
            part.append(summand.sum(2, dtype=np.float64))
    count, first, second = (np.concatenate(part, axis=1) for part in parts)
    return count, first, second
