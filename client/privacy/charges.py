"""Charges to a privacy ledger: what a round asks for, the row that records it, and the check against the budget."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from client.privacy.accounting import Accountant, GaussianSteps, compute_epsilon
from common.errors import BUDGET_SPENT, SiteError

INITIAL_HASH = "0" * 64
"""What stands for the hash of the row before the first."""


class BudgetSpent(SiteError):
    """A round would spend more than the site's policy or the run allow; nothing was charged."""


@dataclass(frozen=True)
class LedgerRow:
    """One charge.

    Attributes:
        number: of the row, from 1.
        time: when it was charged, ISO 8601 in UTC.
        run: the run's id.
        round: the round that was charged; 0 for sums and counts before round 1.
        level: privacy level: patient, record or hospital.
        unit: what one unit of the level is.
        units: how many units there were.
        q: probability that a unit took part in a step.
        sigma: standard deviation of the noise, in clipping norms.
        steps: steps of this charge.
        delta: of the epsilons.
        accountant: how the epsilons were computed.
        epsilon_run: spent by the run so far, with this charge.
        epsilon: spent by all runs so far, with this charge.
        private: false if the noise had a known seed (tests).
        data: digest of the data's content.
        hash: of this row and the one before.
    """

    number: int
    time: str
    run: str
    round: int
    level: str
    unit: str
    units: int
    q: float
    sigma: float
    steps: int
    delta: float
    accountant: Accountant
    epsilon_run: float
    epsilon: float
    private: bool
    data: str
    hash: str = ""

    @property
    def spent(self) -> GaussianSteps:
        """The charged steps."""
        return GaussianSteps(self.q, self.sigma, self.steps)

    def digest(self, previous: str) -> str:
        """Return the row's hash, given the hash of the row before."""
        content = asdict(self)
        del content["hash"]
        text = json.dumps([previous, content], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Charge:
    """A request to charge the ledger.

    Attributes:
        run: the run's id.
        round: the round; 0 for sums and counts before round 1.
        level: privacy level: patient, record or hospital.
        unit: what one unit of the level is.
        units: how many units there are.
        spent: the steps to charge.
        delta: at which epsilons are computed.
        accountant: how epsilons are computed.
        run_limit: largest epsilon of this run; default: no limit.
        total_limit: largest epsilon of all runs; default: no limit.
        private: false if the noise has a known seed (tests).
    """

    run: str
    round: int
    level: str
    unit: str
    units: int
    spent: GaussianSteps
    delta: float
    accountant: Accountant
    run_limit: float | None = None
    total_limit: float | None = None
    private: bool = True


def build_row(rows: Sequence[LedgerRow], charge: Charge, data: str) -> LedgerRow:
    """Return the row that records a charge, if the budget allows it.

    Args:
        rows: all earlier charges.
        charge: what a round asks for.
        data: digest of the data's content.

    Raises:
        BudgetSpent: the charge would exceed a limit, or earlier charges were of another privacy level.
    """
    other = next((row.level for row in rows if row.level != charge.level), None)
    if other:
        raise BudgetSpent(
            f"{BUDGET_SPENT}: these data have been charged per {other}, which bounds nothing per {charge.level}: "
            f"use privacy.level={other}"
        )
    run_spent = [row.spent for row in rows if row.run == charge.run] + [charge.spent]
    all_spent = [row.spent for row in rows] + [charge.spent]
    run_epsilon = compute_epsilon(run_spent, charge.delta, charge.accountant)
    total = (
        run_epsilon if len(run_spent) == len(all_spent) else compute_epsilon(all_spent, charge.delta, charge.accountant)
    )
    for spent, limit, owner in ((run_epsilon, charge.run_limit, "run"), (total, charge.total_limit, "site")):
        if limit is not None and not spent <= limit:
            raise BudgetSpent(
                f"{BUDGET_SPENT}: round {charge.round} would bring epsilon to {spent:.3f} of the {owner}'s {limit:g} "
                f"at delta {charge.delta:g}"
            )
    if not math.isfinite(total):
        raise BudgetSpent(f"{BUDGET_SPENT}: round {charge.round} has no finite epsilon")
    row = LedgerRow(
        number=len(rows) + 1,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        run=charge.run,
        round=charge.round,
        level=charge.level,
        unit=charge.unit,
        units=charge.units,
        q=charge.spent.q,
        sigma=charge.spent.sigma,
        steps=charge.spent.steps,
        delta=charge.delta,
        accountant=charge.accountant,
        epsilon_run=run_epsilon,
        epsilon=total,
        private=charge.private,
        data=data,
    )
    return replace(row, hash=row.digest(rows[-1].hash if rows else INITIAL_HASH))
