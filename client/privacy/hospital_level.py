"""Privacy of whole hospitals (McMahan et al. 2018, arXiv:1710.06963, with a hospital for the user).

Neighbouring federations differ in one hospital: it takes part with all its patients, or it contributes nothing at all.
A round adds up contributions min(w, cap) * clip(update, C): the update is the change of all shared weights, clipped to
norm C, and w is the hospital's weight by `federation.weights`. The server divides by a public number,
`privacy.weight_total`, never by the sum of the weights: that sum changes when one hospital leaves, and so would every
other hospital's part of the mean. So one hospital moves the sum by at most cap * C, however unequal hospitals are, and
noise of sigma * cap * C makes a round one Gaussian mechanism.

Protected is everything that a hospital's update reveals: of its patients, equipment and practice, up to whether it took
part. Not protected are its counts in the handshake, its results on its own validation and test patients, and a person
who was at two hospitals.

Noise at the `site`: each hospital adds all of it, so the guarantee also holds against the server. Noise at the
`server`: it is added once, to the sum; the guarantee holds against everyone who gets the models, and the server is
trusted to add the noise. Only there may hospitals be sampled (`privacy.hospital_sampling`): each draws by itself, in
secret, anew in each round and independently of the others, and sends zeros if it is not drawn. Every round is charged,
drawn or not. With noise at the site the server would see who was drawn, so sampling would gain nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.privacy import budget
from client.privacy.accounting import GaussianSteps
from client.site import Site
from client.site_context import SiteContext
from common import noise
from common.arrays import Weights
from common.errors import ConfigError, NotFiniteError, SiteError
from common.reports import PrivacySpent
from common.requests import TrainRequest
from common.seeds import seed_for


@dataclass(frozen=True)
class ContributionPlan:
    """How a hospital's update becomes its contribution to the round's sum.

    Attributes:
        weight: the hospital's weight, at most `cap`.
        cap: largest weight of a hospital.
        clip: largest norm of an update.
        sigma: standard deviation of the noise, in units of cap * clip.
        noisy: whether the noise is added here.
        source: random source of the noise.
        drawn: whether the hospital takes part in this round.
    """

    weight: float
    cap: float
    clip: float
    sigma: float
    noisy: bool
    source: noise.RandomSource
    drawn: bool = True


def start_hospital_round(
    context: SiteContext, site: Site, request: TrainRequest, weight: float
) -> tuple[ContributionPlan, PrivacySpent]:
    """Charge a round to the ledger; return the plan of the contribution and the spending that the site reports.

    Args:
        context: the site's context.
        site: the site whose patients train.
        request: the round's training request.
        weight: the hospital's weight by `federation.weights`, before the cap.

    Raises:
        BudgetSpent: the round would exceed the privacy budget; it is not trained.
        ConfigError: the strategy is not fedavg.
    """
    config, wanted = request.config, request.config.privacy
    if config.federation.strategy.name != "fedavg" or request.method.keeps_state or request.proximal:
        raise ConfigError("privacy.level=hospital: contributions are summed: use federation.strategy=fedavg")
    rows = budget.open_ledger(context, site).rows()
    sigma = budget.solve_training_noise(config, rows, request.run_id)
    spent = GaussianSteps(wanted.participation, sigma, 1)
    row = budget.charge_ledger(
        context, site, budget.build_charge(context, site, request.run_id, config, spent, request.round)
    )
    secure = wanted.noise == "secure"
    seed = seed_for(config.seed, site.name, request.round, "hospital")
    source: noise.RandomSource = noise.SecureSource() if secure else noise.SeededSource(seed)
    drawn = wanted.participation >= 1 or bool(len(noise.draw_units(source, 1, wanted.participation)))
    plan = ContributionPlan(
        min(weight, wanted.site_weight_cap),
        wanted.site_weight_cap,
        wanted.clip,
        sigma,
        wanted.noise_at == "site",
        source,
        drawn,
    )
    return plan, budget.report_spending(row, rows, wanted.clip, 1, noise_at=wanted.noise_at)


def build_contribution(sent: Weights, trained: Weights, plan: ContributionPlan) -> Weights:
    """Return the arrays that a hospital adds to the round's sum, by name, in the shapes of `trained`.

    Its norm is at most cap * clip before the noise.

    Args:
        sent: the weights that the server sent.
        trained: the weights after training.
        plan: weight, clipping norm and noise.

    Raises:
        NotFiniteError: a weight is not finite.
        SiteError: an array holds integers, which cannot be noised.
    """
    if any(not np.issubdtype(value.dtype, np.floating) for value in trained.values()):
        raise SiteError("privacy.level=hospital: the model has integer arrays, which cannot be noised: use another")
    flat = np.concatenate(
        [(value.astype(np.float64) - sent[name].astype(np.float64)).ravel() for name, value in trained.items()]
    )
    if not np.isfinite(flat).all():
        raise NotFiniteError("a weight is not a finite number: lower training.lr")
    limit = plan.clip * noise.clip_margin(len(flat), plan.sigma)
    norm = float(np.linalg.norm(flat))
    flat *= plan.weight * min(1.0, limit / norm) if norm and plan.drawn else 0.0
    if plan.noisy:
        flat = noise.add_noise(flat, plan.sigma * plan.cap * plan.clip, plan.source)
    parts = np.split(flat, np.cumsum([value.size for value in trained.values()])[:-1])
    return {
        name: part.reshape(value.shape).astype(np.float32)
        for (name, value), part in zip(trained.items(), parts, strict=True)
    }
