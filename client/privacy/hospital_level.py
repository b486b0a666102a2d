"""Privacy of whole hospitals (McMahan et al. 2018, arXiv:1710.06963, with a hospital for the user).

Neighbouring federations differ in one hospital: it takes part with all its patients, or its contribution is nothing at
all. A round adds up contributions min(w, cap) * clip(update, C): the update is the change of all weights that are
shared, clipped to norm C, and w is what the hospital weighs by `federation.weights`. The server divides by a public
number, `privacy.weight_total`, never by the weights that came: a mean over the weights that came would move also in
the others' parts when one hospital goes. So one hospital moves the sum by at most cap * C, however unequal they are,
and noise of sigma * cap * C makes a round one Gaussian mechanism.

What is protected: all that a hospital's update tells: of its patients, its equipment, its ways, up to whether it
took part. What is not: what it tells beside the update, which is its counts in the handshake and its figures on its own
validation and test patients; a person who was at two hospitals.

Noise at the `site`: each hospital adds all of it, so the promise holds against the server too. At the `server`: it is
added once, to the sum; it holds against those who get the models, and the server is trusted to add it. There a hospital
may take part by chance (`privacy.hospital_sampling`): it draws itself, in secret, each round anew and independent of
all others, and sends nothing but zeros if it is not drawn. Every round is charged, drawn or not. At the site there is
no such chance: the server would see who was drawn, and so nothing would be gained by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from client.privacy import budget
from client.privacy.accounting import GaussianSteps
from client.site_context import SiteContext
from common import noise
from common.arrays import Weights
from common.errors import ConfigError, SiteError
from common.requests import TrainRequest
from common.seeds import seed_for


@dataclass(frozen=True)
class ContributionPlan:
    """What a hospital's update becomes. `weight`: capped; `cap`, `clip`, `sigma`: as above; `drawn`: whether it counts.

    `noisy`: whether the noise is added here; `source`: of it.
    """

    weight: float
    cap: float
    clip: float
    sigma: float
    noisy: bool
    source: noise.RandomSource
    drawn: bool = True


def start_hospital_round(
    context: SiteContext, site: Any, request: TrainRequest, weight: float
) -> tuple[ContributionPlan, dict[str, Any]]:
    """Charge a round; return what the update becomes, and what the report tells.

    Raises:
        BudgetSpent: the round would overspend; nothing trains.
        ConfigError: the strategy is not fedavg.
    """
    config, wanted = request.config, request.config.privacy
    if config.federation.strategy.name != "fedavg" or request.method.keeps_state or request.proximal:
        raise ConfigError("privacy.level=hospital: contributions are summed, so it goes with fedavg alone")
    ledger = budget.open_ledger(context, site)
    sigma = budget.solve_training_noise(config, ledger.rows(), request.run_id)
    spent = GaussianSteps(wanted.participation, sigma, 1)
    row = budget.charge_ledger(
        context, site, budget.build_charge(context, site, request.run_id, config, spent, request.round)
    )
    secure = wanted.noise == "secure"
    seed = seed_for(config.seed, site.name, request.round, "hospital")
    source: noise.RandomSource = noise.SecureSource() if secure else noise.SeededSource(seed)
    drawn = wanted.participation >= 1 or bool(len(noise.draw_units(source, 1, wanted.participation)))
    share = ContributionPlan(
        min(weight, wanted.site_weight_cap),
        wanted.site_weight_cap,
        wanted.clip,
        sigma,
        wanted.noise_at == "site",
        source,
        drawn,
    )
    return share, budget.build_spending_report(row, wanted.clip, 1) | {"noise_at": wanted.noise_at}


def build_contribution(came: Weights, trained: Weights, share: ContributionPlan) -> Weights:
    """Return what a hospital adds to the round's sum, by name, in the shapes of `trained`.

    Its norm is at most cap * clip before the noise.

    Raises:
        SiteError: a weight is no finite number, or is not a number with a fraction.
    """
    if any(not np.issubdtype(value.dtype, np.floating) for value in trained.values()):
        raise SiteError("privacy.level=hospital: the model counts something in whole numbers, which cannot be noised")
    flat = np.concatenate(
        [(value.astype(np.float64) - came[name].astype(np.float64)).ravel() for name, value in trained.items()]
    )
    if not np.isfinite(flat).all():
        raise SiteError("a weight is not a finite number: lower training.lr")
    limit = share.clip * noise.clip_margin(len(flat), share.sigma)
    norm = float(np.linalg.norm(flat))
    flat *= share.weight * min(1.0, limit / norm) if norm and share.drawn else 0.0
    if share.noisy:
        flat = noise.add_noise(flat, share.sigma * share.cap * share.clip, share.source)
    parts = np.split(flat, np.cumsum([value.size for value in trained.values()])[:-1])
    return {
        name: part.reshape(value.shape).astype(np.float32)
        for (name, value), part in zip(trained.items(), parts, strict=True)
    }
