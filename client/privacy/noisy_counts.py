"""Training counts that a site reports: exact, or noisy if training is private.

One more person changes a count by one, so an exact count can reveal whether that person is in it. A private site
therefore reports noisy counts (one release of the Gaussian mechanism per level and set of training people), unless its
policy declares them public. Each unit counts once, and counts for each class by the share of its examples that have it:
a vector of norm at most sqrt(2), whatever a person's number of examples. The noise is drawn once and stored with the
ledger, which is charged then, separately from any run: later requests get the same numbers at no cost. Only two facts
are reported exactly: whether anybody trains at all, and whether they are fewer than the policy's minimum.

Validation and test patients are other people, and are counted exactly.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from client.privacy import budget
from client.privacy.accounting import GaussianSteps, solve_noise
from client.privacy.charges import Charge
from client.privacy.units import STATISTICS_ROUND, digest_training_people, group_rows_by_unit
from client.site import Site
from client.site_context import SiteContext
from common import noise
from common.config import RunConfig
from common.seeds import seed_for
from sites.cohort import Cohort

COUNTS_RUN = "counts"
"""The ledger's run of the charges for noisy counts."""


@dataclass(frozen=True)
class TrainingCounts:
    """How many train at a site, as reported to the server.

    Attributes:
        patients: training patients; if noisy, units of the privacy level.
        examples: training examples; if noisy, the same number as `patients`.
        classes: examples of each class, in the task's order; if noisy, of units.
        noisy: whether the counts hold noise.
    """

    patients: int
    examples: int
    classes: tuple[int, ...]
    noisy: bool = False

    def summary(self) -> dict[str, int | list[int]]:
        """Return the counts as Cohort.summary gives them, JSON-ready."""
        return {"patients": self.patients, "examples": self.examples, "classes": list(self.classes)}


def release_training_counts(context: SiteContext, site: Site, config: RunConfig) -> TrainingCounts:
    """Return a site's training counts, with noise where the policy demands it; the first release is charged.

    Raises:
        BudgetSpent: the charge would overspend.
        DataError: the ledger cannot be used.
    """
    train, level, policy = site.train, config.privacy.kind, context.policy
    if not len(train.y) or level not in ("patient", "record") or policy.counts == "public":
        return TrainingCounts(train.people(), len(train.y), train.class_counts())
    ledger = budget.open_ledger(context, site)
    key = f"counts/{level}/{digest_training_people(train)}"
    text = ledger.read_text(key)
    if text is None:
        ledger.store_text(key, json.dumps(_release(context, site, config)))
        text = ledger.read_text(key)  # another process may have been first
    assert text is not None
    count, *shares = json.loads(text)
    units = max(round(count), policy.min_training_patients, 1)
    shares = np.clip(np.asarray(shares), 0, None)
    if train.task.kind == "multilabel":
        classes = np.minimum(np.rint(shares), units)
    else:  # the classes add up to the units
        total = shares.sum()
        shares = shares * units / total if total else np.full(len(shares), units / len(shares))
        edges = np.rint(np.cumsum(shares))
        edges[-1] = units
        classes = np.diff(edges, prepend=0)
    return TrainingCounts(units, units, tuple(int(number) for number in classes), noisy=True)


def _release(context: SiteContext, site: Site, config: RunConfig) -> list[float]:
    """Charge the ledger, and return noisy `sum_unit_counts`."""
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


def sum_unit_counts(train: Cohort, level: str) -> npt.NDArray[np.float64]:
    """Return the number of units, then of each class the units' shares of examples that have it, summed.

    A vector `(1 + classes,)` that one unit changes by at most sqrt(2).
    """
    classes = len(train.task.classes)
    has = train.y.astype(float) if train.y.ndim == 2 else np.eye(classes)[train.y]
    total = np.zeros(1 + classes)
    for rows in group_rows_by_unit(train, level):
        share = has[rows].mean(0)
        total += np.concatenate([[1.0], share / max(1.0, float(np.linalg.norm(share)))])
    return total
