"""The privacy budget of differentially private training (Abadi et al. 2016, arXiv:1607.00133): levels, noise, charges.

Levels. Neighbouring data sets differ in one unit, which is added or removed:
- `patient`: the unit is a person with all their recordings and examples. A step draws people, each with probability q,
  takes at most `examples` examples of each (drawn anew at each step), and clips the gradient of their mean loss as one.
  Protected is whether a person took part at this hospital, and everything that they contributed.
- `record`: the unit is one example (a heartbeat, an hour). Only that example is protected: a person with a thousand of
  them has no useful guarantee.
- `hospital`: the unit is a hospital's contribution (client/privacy/hospital_level.py).
The first two levels do not protect: results on validation and test patients, who are other people; the number of units
that train, if the policy declares it public (client/privacy/noisy_counts.py); facts about a hospital as a whole. The
server sees each site's update, and the guarantee holds against it: noise is added here, before an update leaves.

A round is charged to the site's ledger (client/privacy/ledger.py) before it trains, for all its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from client import input_scaling
from client.privacy.accounting import GaussianSteps, compute_epsilon, count_steps, solve_noise
from client.privacy.charges import Charge, LedgerRow
from client.privacy.data_digest import digest_folder
from client.privacy.ledger import TRAIN, Ledger, get_ledger_path
from client.privacy.units import (
    PEOPLE_KEY,
    STATISTICS_ROUND,
    UNIT_NAMES,
    count_units,
    digest_cohort,
    digest_people,
)
from client.site import Site
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import ConfigError, SiteError
from common.reports import PrivacySpent
from common.requests import TrainRequest
from common.task import Task
from common.trees import grows_trees


@dataclass(frozen=True)
class DpSgdPlan:
    """How a round of DP-SGD trains.

    Attributes:
        level: `patient` or `record`.
        q: probability that a unit takes part in a step.
        sigma: standard deviation of the noise, in clipping norms.
        clip: largest norm of a unit's gradient.
        steps: steps of this round.
        examples: most examples of a unit in a step.
        private: whether noise and sampling are secret; false only in tests.
        units: number of units reported to the server; 0 means the true number.
    """

    level: str
    q: float
    sigma: float
    clip: float
    steps: int
    examples: int
    private: bool = True
    units: int = 0


def needs_noisy_sums(config: RunConfig, task: Task) -> bool:
    """Return whether a private run pays for noisy sums of inputs before it trains."""
    privacy = config.privacy
    return (
        input_scaling.resolve_scaling(config.data, task) == "standard"
        and privacy.statistics_share > 0
        and privacy.kind != "hospital"
    )


def get_planned_steps(config: RunConfig) -> GaussianSteps | None:
    """Return all steps of a run whose noise is given, or None if the noise is to be solved."""
    privacy = config.privacy
    if privacy.sigma is None:
        return None
    return GaussianSteps(get_participation(config), privacy.sigma, count_run_steps(config))


def get_participation(config: RunConfig) -> float:
    """Return the probability that a unit takes part in a step; every unit takes part in each round of a forest."""
    return 1.0 if grows_trees(config.model.name) else config.privacy.participation


def count_run_steps(config: RunConfig) -> int:
    """Return how many private steps a run plans."""
    rounds = config.federation.rounds
    if config.privacy.kind == "hospital" or grows_trees(config.model.name):
        return rounds
    return count_steps(rounds, config.training.epochs, config.privacy.sampling)


def solve_sums_noise(config: RunConfig, rows: Sequence[LedgerRow] = (), run: str = "") -> float:
    """Return the noise of the sums over patients, in clipping norms, with which they spend their share of epsilon.

    The share is `privacy.statistics_share` of the run's epsilon, or, if the run gives its noise instead, of the epsilon
    that sums and steps spend together. A run that has been charged for its sums keeps their noise.

    Args:
        config: the run.
        rows: the site's charges.
        run: the run's id in them.

    Raises:
        ConfigError: the epsilon cannot be kept.
    """
    before = next((row.sigma for row in rows if row.run == run and row.round == STATISTICS_ROUND), None)
    if before is not None:
        return before
    privacy, given = config.privacy, get_planned_steps(config)
    share, target = privacy.statistics_share, privacy.epsilon
    if given is not None:
        target = compute_epsilon([given], privacy.delta, privacy.accountant) / (1 - share)
    assert target is not None
    return solve_noise(share * target, privacy.delta, 1.0, 1, privacy.accountant)


def solve_training_noise(
    config: RunConfig, rows: Sequence[LedgerRow] = (), run: str = "", statistics: bool = False
) -> float:
    """Return the noise of a run's steps, in clipping norms: as configured, or solved for all steps that the run plans.

    A run that has been charged before keeps its noise: solving takes seconds, and a hospital's client may be a new
    process for each message. Each charge is checked against the budget whatever the noise.

    Args:
        config: the run.
        rows: rows of the site's ledger.
        run: the run's id in these rows.
        statistics: whether noisy sums for scaling are charged to the same epsilon.

    Raises:
        ConfigError: the epsilon cannot be kept.
    """
    privacy = config.privacy
    before = next((row.sigma for row in rows if row.run == run and row.round != STATISTICS_ROUND), None)
    if before is not None:
        return before
    if privacy.sigma is not None:
        return privacy.sigma
    assert privacy.epsilon is not None
    others = (GaussianSteps(1.0, solve_sums_noise(config, rows, run), 1),) if statistics else ()
    return solve_noise(
        privacy.epsilon, privacy.delta, get_participation(config), count_run_steps(config), privacy.accountant, others
    )


def plan_run_charges(
    context: SiteContext, site: Site, config: RunConfig, rows: Sequence[LedgerRow], run: str
) -> list[Charge]:
    """Return what a run would be charged in all, from its sums to its last round.

    Args:
        context: the site's context.
        site: whose patients would train.
        config: the run.
        rows: the rows of the site's ledger so far.
        run: the run's id.

    Raises:
        ConfigError: no noise keeps the run within its epsilon.
    """
    charges = []
    sums = needs_noisy_sums(config, site.task)
    if sums:
        spent = GaussianSteps(1.0, solve_sums_noise(config, rows, run), 1)
        charges.append(build_charge(context, site, run, config, spent, STATISTICS_ROUND))
    sigma = solve_training_noise(config, rows, run, sums)
    steps = GaussianSteps(get_participation(config), sigma, count_run_steps(config))
    return [*charges, build_charge(context, site, run, config, steps, config.federation.rounds)]


def open_ledger(context: SiteContext, site: Site, split: str = TRAIN) -> Ledger:
    """Return a site's ledger, bound to the content of a hospital's data folder or of a simulated site's cohort.

    Args:
        context: the site's context.
        site: with inputs unscaled, as its content is what a simulated ledger is bound to.
        split: whose ledger: of those who train, of validation or of test patients.

    Raises:
        SiteError: the node was started without a state folder.
    """
    if context.state is None:
        raise SiteError("privacy needs a folder for the ledger of what was spent: give --state")
    path = get_ledger_path(context.state, site.name, split)
    if context.data is not None:
        return Ledger(path, digest_folder(context.data, path.with_name("data-digests.json")))
    return Ledger(path, digest_cohort(site))


def start_private_round(
    context: SiteContext, site: Site, request: TrainRequest, units: int
) -> tuple[DpSgdPlan, PrivacySpent]:
    """Charge a round of a checked run, and return its training plan and the report of the charge.

    Args:
        context: the site's context.
        site: the site whose patients train.
        request: the request of the round.
        units: number of units reported to the server (client/privacy/noisy_counts.py).

    Raises:
        BudgetSpent: the round would overspend; nothing trains.
        ConfigError: the strategy trains something that is not charged.
    """
    config, privacy = request.config, request.config.privacy
    if request.method.control or request.method.pull is not None:
        raise ConfigError(f"federation.strategy={config.federation.strategy.name}: not with privacy: use fedavg")
    steps = count_steps(1, config.training.epochs, privacy.sampling)
    ledger = open_ledger(context, site)
    rows = ledger.rows()
    sigma = solve_training_noise(config, rows, request.run_id, needs_noisy_sums(config, site.task))
    secure = privacy.noise == "secure"
    plan = DpSgdPlan(privacy.kind, privacy.sampling, sigma, privacy.clip, steps, privacy.examples, secure, units)
    row = charge_ledger(
        context,
        site,
        build_charge(context, site, request.run_id, config, GaussianSteps(plan.q, sigma, steps), request.round),
    )
    sums = [earlier.sigma for earlier in rows if earlier.run == request.run_id and earlier.round == STATISTICS_ROUND]
    return plan, report_spending(row, rows, plan.clip, units, statistics=sums[-1] if sums else None)


def charge_ledger(context: SiteContext, site: Site, wanted: Charge) -> LedgerRow:
    """Charge the ledger, and store a digest of the training patients in it.

    By that digest `check_private_training` refuses later runs on other patients. It is not stored where the policy
    allows several splits, nor in private training at level hospital.

    Raises:
        BudgetSpent: the charge would overspend; nothing was charged.
        DataError: the ledger cannot be used.
    """
    ledger = open_ledger(context, site)
    if wanted.level != "hospital" and not context.policy.several_splits:
        ledger.store_text(PEOPLE_KEY, digest_people(site.train))
    return ledger.charge(wanted)


def build_charge(
    context: SiteContext, site: Site, run: str, config: RunConfig, spent: GaussianSteps, number: int
) -> Charge:
    """Return what to charge for a round.

    Args:
        context: the site's context.
        site: the site, whose training patients are charged.
        run: the run's id.
        config: the run.
        spent: the noisy steps of the round.
        number: the round, or STATISTICS_ROUND for sums before the first.
    """
    privacy = config.privacy
    return Charge(
        run,
        number,
        privacy.kind,
        UNIT_NAMES[privacy.kind],
        count_units(site.train, privacy.kind),
        spent,
        privacy.delta,
        privacy.accountant,
        privacy.epsilon,
        context.policy.epsilon_limit,
        privacy.noise == "secure",
    )


def report_spending(
    row: LedgerRow,
    rows: Sequence[LedgerRow],
    clip: float,
    units: int,
    *,
    noise_at: Literal["site", "server"] | None = None,
    statistics: float | None = None,
) -> PrivacySpent:
    """Return what a site reports of a charge: the plan and the epsilon spent, nothing that depends on patients' values.

    Args:
        row: the charge.
        rows: the charges before it.
        clip: the clipping norm.
        units: number of units reported to the server, which may differ from the ledger's.
        noise_at: who adds the noise; at level hospital only.
        statistics: noise of the run's sums over patients, if it paid for them.
    """
    return PrivacySpent(
        level=row.level,
        unit=row.unit,
        q=row.q,
        sigma=row.sigma,
        steps=row.steps,
        delta=row.delta,
        accountant=row.accountant,
        epsilon_run=row.epsilon_run,
        epsilon=row.epsilon,
        private=row.private,
        clip=clip,
        units=units,
        noise_at=noise_at,
        statistics=statistics,
        lost_steps=sum(earlier.steps for earlier in rows if (earlier.run, earlier.round) == (row.run, row.round)),
    )
