"""Differentially private training (Abadi et al. 2016, arXiv:1607.00133): whom it protects, what it costs.

Levels. Neighbouring data sets differ in one unit, which is added or taken away:
- `patient`: the unit is a person with all their recordings and examples. A step draws people, each with chance q,
  takes at most `examples` of the examples of each (drawn anew at each step), and clips the gradient of their mean loss
  as one. What is protected: whether a person took part at this hospital, and all that they contributed.
- `record`: the unit is one example (a heartbeat, an hour). What is protected is that example alone: a person with a
  thousand of them has no promise worth the name.
- `hospital`: the unit is a hospital's contribution (client/privacy/hospital_level.py).
At the first two levels are not protected: the figures on validation and test patients, who are other people; how many
train, where the policy declares that public (client/privacy/noisy_counts.py); facts that hold for a whole hospital.
The server
sees each site's update: the promise holds for what it sees, because the noise is added here, before an update leaves.

A round is charged to the site's ledger (client/privacy/ledger.py) before it trains, for all its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from client import input_scaling
from client.privacy.accounting import GaussianSteps, compute_epsilon, count_steps, solve_noise
from client.privacy.data_digest import digest_folder
from client.privacy.ledger import Charge, Ledger, LedgerRow, get_ledger_path
from client.privacy.units import (
    STATISTICS_ROUND,
    TRAINING_PEOPLE_KEY,
    UNIT_NAMES,
    count_units,
    digest_cohort,
    digest_training_people,
)
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import ConfigError, SiteError
from common.requests import TrainRequest
from common.task import Task

if TYPE_CHECKING:
    from client.site import Site


@dataclass(frozen=True)
class DpSgdPlan:
    """How a round trains. `sigma`: noise in norms of `clip`; `steps`: of this round; `private`: false in tests.

    `units`: how many there are, as the server may know; 0: as many as there are.
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
    """Return whether a private run sums over patients before it trains."""
    privacy = config.privacy
    return (
        input_scaling.resolve_scaling(config.data, task) == "standard"
        and privacy.statistics_share > 0
        and privacy.kind != "hospital"
    )


def get_planned_steps(config: RunConfig) -> GaussianSteps | None:
    """Return the steps of a run whose noise is given; none: it is to be solved."""
    privacy = config.privacy
    return None if privacy.sigma is None else GaussianSteps(privacy.participation, privacy.sigma, _steps(config))


def _steps(config: RunConfig) -> int:
    rounds = config.federation.rounds
    if config.privacy.kind == "hospital":
        return rounds
    return count_steps(rounds, config.training.epochs, config.privacy.sampling)


def solve_sums_noise(config: RunConfig, rows: Sequence[LedgerRow] = (), run: str = "") -> float:
    """Return the noise of sums over patients, in norms of a unit's vector: so that they alone spend their share.

    The share is of the run's epsilon; where a run gives its noise instead, of what that spends.

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
    """Return the noise of a run's steps: as asked for, or solved from all steps that the run plans.

    A run that has been charged before goes on with the noise it has: solving takes seconds, and a hospital's client
    may be a new process for each message. The check of each charge holds whatever the noise.

    Args:
        config: the run.
        rows: the site's charges.
        run: its name in them.
        statistics: whether sums over patients are paid from the same epsilon.

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
    beside = (GaussianSteps(1.0, solve_sums_noise(config, rows, run), 1),) if statistics else ()
    return solve_noise(
        privacy.epsilon, privacy.delta, privacy.participation, _steps(config), privacy.accountant, beside
    )


def open_ledger(context: SiteContext, site: Site) -> Ledger:
    """Return a site's ledger; a hospital's is bound to the content of its folder, a simulated one's to its cohort.

    Raises:
        SiteError: the site has no folder for it.
    """
    if context.state is None:
        raise SiteError("privacy needs a folder for the ledger of what was spent: give --state")
    path = get_ledger_path(context.state, site.name)
    if context.data is not None:
        return Ledger(path, digest_folder(context.data, path.with_name("data-digests.json")))
    return Ledger(path, digest_cohort(site))


def start_private_round(
    context: SiteContext, site: Site, request: TrainRequest, units: int
) -> tuple[DpSgdPlan, dict[str, Any]]:
    """Charge a round that `refuse` has let pass; return how it trains, and what the report tells of it.

    `units`: how many there are, as the server may know (client/privacy/noisy_counts.py).

    Raises:
        BudgetSpent: the round would overspend; nothing trains.
        ConfigError: the strategy trains what is not charged.
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
    sums = [item.sigma for item in rows if item.run == request.run_id and item.round == STATISTICS_ROUND]
    return plan, build_spending_report(row, plan.clip, units) | ({"statistics": sums[-1]} if sums else {})


def charge_ledger(context: SiteContext, site: Site, wanted: Charge) -> LedgerRow:
    """Charge, and keep who trains: a later run with other people is refused (`refuse`).

    Raises:
        BudgetSpent: it would overspend; nothing was charged.
        DataError: the ledger cannot be used.
    """
    ledger = open_ledger(context, site)
    if wanted.level != "hospital" and not context.policy.several_splits:
        ledger.keep(TRAINING_PEOPLE_KEY, digest_training_people(site.train))
    return ledger.charge(wanted)


def build_charge(
    context: SiteContext, site: Site, run: str, config: RunConfig, spent: GaussianSteps, number: int
) -> Charge:
    """Return what to charge for a round, or for STATISTICS."""
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
        context.policy.max_epsilon,
        privacy.noise == "secure",
    )


def build_spending_report(row: LedgerRow, clip: float, units: int) -> dict[str, Any]:
    """Return what a site tells of its spending: figures of the plan and sums of steps, nothing of patients' values.

    `units`: how many there are, as the server may know.
    """
    held = asdict(row)
    names = (
        "level",
        "unit",
        "q",
        "sigma",
        "steps",
        "delta",
        "accountant",
        "epsilon_run",
        "epsilon",
        "private",
    )
    return {**{name: held[name] for name in names}, "clip": clip, "units": units}
