"""How many train at a site, as the server is told: exactly, or noisily where training is private.

One person more changes a count by one, and who knows the count to the last digit knows that person. So a private site
tells noisy counts (one release of the Gaussian mechanism per level and set of people who train), unless its policy
declares them public. Each unit counts once, and its classes by the share of its examples that has each: norm at
most sqrt(2), whatever a person's number of examples. The noise is drawn once and kept with the ledger, which is charged
for it then, apart from any run: asking again gives the same numbers and costs nothing. Whether anybody trains at all is
told as it is, and so is that they are fewer than the policy's least.

Validation and test patients are other people, and are counted exactly.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from client.privacy import budget
from client.privacy.accounting import GaussianSteps, solve_noise
from client.privacy.ledger import Charge
from client.privacy.units import STATISTICS_ROUND, digest_training_people, group_rows_by_unit
from client.site_context import SiteContext
from common import noise
from common.config import RunConfig
from common.seeds import seed_for
from sites.cohort import Cohort

COUNTS_RUN = "counts"
"""The run under which the ledger holds what counts cost."""


@dataclass(frozen=True)
class TrainingCounts:
    """What the server may know of those who train. `noisy`: each unit counts once, in `patients` as in `examples`."""

    patients: int
    examples: int
    classes: tuple[int, ...]
    noisy: bool = False

    def summary(self) -> dict[str, Any]:
        """Return the form of Cohort.summary."""
        return {"patients": self.patients, "examples": self.examples, "classes": list(self.classes)}


def release_training_counts(context: SiteContext, site: Any, config: RunConfig) -> TrainingCounts:
    """Return a site's counts of training units, noisy where they must be; the first time that is charged.

    Raises:
        BudgetSpent: it would overspend.
        DataError: the ledger cannot be used.
    """
    train: Cohort = site.train
    level, policy = config.privacy.kind, context.policy
    if not len(train.y) or level not in ("patient", "record") or policy.counts == "public":
        return TrainingCounts(train.people(), len(train.y), train.class_counts())
    ledger = budget.open_ledger(context, site)
    key = f"counts/{level}/{digest_training_people(train)}"
    kept = ledger.kept(key)
    if kept is None:
        ledger.keep(key, json.dumps(_release(context, site, config)))
        kept = ledger.kept(key)  # another process may have been first
    assert kept is not None
    least = policy.min_training_patients
    count, *shares = json.loads(kept)
    units = max(round(count), least, 1)
    part = np.clip(np.asarray(shares), 0, None)
    if train.task.kind == "multilabel":
        found = np.minimum(np.rint(part), units)
    else:
        part = part * units / part.sum() if part.sum() else np.full(len(part), units / len(part))
        edges = np.rint(np.cumsum(part))
        edges[-1] = units
        found = np.diff(edges, prepend=0)
    return TrainingCounts(units, units, tuple(int(number) for number in found), noisy=True)


def _release(context: SiteContext, site: Any, config: RunConfig) -> list[float]:
    wanted, train = config.privacy, site.train
    sigma = solve_noise(context.policy.counts_epsilon, wanted.delta, 1.0, 1, wanted.accountant)
    charge: Charge = replace(
        budget.build_charge(context, site, COUNTS_RUN, config, GaussianSteps(1.0, sigma, 1), STATISTICS_ROUND),
        run_limit=None,
    )
    budget.charge_ledger(context, site, charge)
    source: noise.RandomSource = noise.SecureSource()
    if wanted.noise == "seeded":
        source = noise.SeededSource(seed_for(config.seed, site.name, "counts"))
    total = sum_unit_counts(train, wanted.kind)
    return [float(value) for value in noise.add_noise(total, sigma * math.sqrt(2) * 1.001, source)]


def sum_unit_counts(train: Cohort, level: str) -> Any:
    """Return the number of units, and the sum over them of the shares of their examples that have each class.

    One unit moves it by at most sqrt(2).
    """
    classes = len(train.task.classes)
    has = train.y.astype(float) if train.y.ndim == 2 else np.eye(classes)[train.y]
    total = np.zeros(1 + classes)
    for rows in group_rows_by_unit(train, level):
        share = has[rows].mean(0)
        total += np.concatenate([[1.0], share / max(1.0, float(np.linalg.norm(share)))])
    return total
