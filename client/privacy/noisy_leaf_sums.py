"""Sums of leaves with differential privacy: the Gaussian mechanism on clipped parts of people.

A round's trees have splits that no patient affects (common/tree_plan.py), so its answer is one vector, the sums of
first and second derivatives in all leaves of its trees. Each unit's part of it is scaled down to a norm of at most
`privacy.clip` times the square root of the number of trees, and noise of `sigma` times that norm is added: one step of
the Gaussian mechanism in which every unit takes part, whatever the number of trees and leaves (Dwork and Roth 2014,
appendix A; Maddock et al. 2022, CCS, arXiv:2210.02910, release the leaves of such trees in this way). A round is
charged to the ledger before it is computed.
"""

from __future__ import annotations

import math

import numpy as np

from client.privacy import budget
from client.privacy.accounting import GaussianSteps
from client.privacy.units import STATISTICS_ROUND, group_rows_by_unit
from client.site import Site
from client.site_context import SiteContext
from client.training.leaf_sums import LeafRows
from common import noise
from common.replies import Sums
from common.reports import PrivacySpent
from common.requests import GrowRequest
from common.seeds import seed_for
from common.trees import Floats, Ints


def number_units(site: Site, level: str) -> Ints:
    """Return each training example's unit of a privacy level, counted from 0."""
    out = np.zeros(len(site.train.y), np.int64)
    for number, rows in enumerate(group_rows_by_unit(site.train, level)):
        out[rows] = number
    return out


def sum_clipped_parts(rows: LeafRows, unit: Ints, limit: float) -> tuple[Floats, Floats]:
    """Return the sums of leaves, `(trees, leaves, outputs)` of either derivative, over units' clipped parts.

    One unit added or removed changes both together by a norm of at most `limit`.

    Args:
        rows: the examples with their leaves.
        unit: each example's unit, counted from 0.
        limit: largest norm of a unit's part of all leaves, in both derivatives together.
    """
    count = int(unit.max()) + 1 if len(unit) else 0
    first, second = rows.measure_norms(unit, count)
    norm = np.sqrt(first**2 + second**2)
    return rows.sum_by_leaf(np.minimum(1.0, limit / np.maximum(norm, 1e-300))[unit])


def release_noisy_leaf_sums(
    context: SiteContext, site: Site, rows: LeafRows, request: GrowRequest, units: int
) -> tuple[Sums, PrivacySpent]:
    """Charge a round of a checked run, and return its noisy sums and the report of the charge.

    Args:
        context: the site's context.
        site: whose patients train, with inputs unscaled.
        rows: its training examples with their leaves.
        request: the request of the round.
        units: number of units reported to the server.

    Raises:
        BudgetSpent: the round would overspend; nothing is summed.
        ConfigError: the epsilon cannot be kept.
    """
    config, privacy = request.config, request.config.privacy
    charged = budget.open_ledger(context, site).rows()
    statistics = budget.needs_noisy_sums(config, site.task)
    sigma = budget.solve_training_noise(config, charged, request.run_id, statistics)
    spent = GaussianSteps(1.0, sigma, 1)
    row = budget.charge_ledger(
        context, site, budget.build_charge(context, site, request.run_id, config, spent, request.round)
    )
    norm = privacy.clip * math.sqrt(max(rows.shape[0], 1))
    size = math.prod(rows.shape)
    limit = norm * noise.clip_margin(2 * size, sigma)
    total = np.concatenate([sums.ravel() for sums in sum_clipped_parts(rows, number_units(site, privacy.kind), limit)])
    secure = privacy.noise == "secure"
    seed = seed_for(config.seed, site.name, request.round, "leaf sums")
    source = noise.SecureSource() if secure else noise.SeededSource(seed)
    sent = noise.add_noise(total, sigma * norm, source)
    sums = {"gradient": sent[:size].reshape(rows.shape), "hessian": sent[size:].reshape(rows.shape)}
    paid = [one.sigma for one in charged if one.run == request.run_id and one.round == STATISTICS_ROUND]
    return sums, budget.report_spending(row, charged, privacy.clip, units, statistics=paid[-1] if paid else None)
