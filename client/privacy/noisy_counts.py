"""Numbers of people that a site reports in the handshake: exact, or noisy if training or evaluation is private.

One more person changes a count by one, so an exact count can reveal whether that person is in it. A private site
therefore reports noisy counts (one release of the Gaussian mechanism per level and set of people), unless its policy
declares them public. Each unit counts once, and counts for each class by the share of its examples that have it: a
vector of norm at most sqrt(2), whatever a person's number of examples. The noise is drawn once and stored with the
ledger, which is charged then, separately from any run: later requests get the same numbers at no cost. Only two facts
are reported exactly: whether there is anybody at all, and whether they are fewer than the policy's minimum.

Those who train are counted so where training is private. Validation and test patients are other people, with ledgers
of their own, and are counted so where evaluation is private.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from client.privacy import budget
from client.privacy.accounting import GaussianSteps, solve_noise
from client.privacy.charges import Charge
from client.privacy.ledger import Ledger
from client.privacy.private_evaluation import charge_people
from client.privacy.units import STATISTICS_ROUND, digest_people, group_rows_by_unit
from client.site import Site
from client.site_context import SiteContext
from common import noise
from common.config import RunConfig
from common.metrics.noisy_counts import NORM_MARGIN
from common.private_evaluation import EvaluatedSplit
from common.reports import SplitCounts
from common.seeds import seed_for
from common.task import Task
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
    """Return a site's training counts, noisy if training is private and the policy does not declare them public.

    Noisy counts are charged to the ledger when they are released first; later calls return the same numbers at no cost.

    Raises:
        BudgetSpent: the charge would spend more epsilon than the policy or the run allows.
        DataError: the ledger cannot be used.
    """
    train, level, policy = site.train, config.privacy.kind, context.policy
    if not _are_noisy(context, site, config):
        return TrainingCounts(train.people(), len(train.y), train.class_counts())

    def charge(sigma: float) -> None:
        budget.charge_ledger(context, site, _build_counts_charge(context, site, config, sigma))

    ledger = budget.open_ledger(context, site)
    count, *shares = _release(context, site, config, train, level, ledger, "counts", charge)
    units = max(round(count), policy.min_training_patients, 1)
    return TrainingCounts(units, units, _round_classes(np.asarray(shares), units, train.task), noisy=True)


def release_evaluation_counts(
    context: SiteContext, site: Site, config: RunConfig, split: EvaluatedSplit
) -> SplitCounts:
    """Return the noisy numbers of a split's people for a run whose evaluation is private; the first is charged.

    Args:
        context: the site's context.
        site: with inputs unscaled.
        config: the run.
        split: whose people are counted.

    Raises:
        BudgetSpent: the charge would overspend.
        DataError: the ledger cannot be used.
    """
    cohort: Cohort = getattr(site, split)
    if not len(cohort.y):
        return SplitCounts(patients=0, examples=0, classes=(0,) * len(cohort.task.classes))

    def charge(sigma: float) -> None:
        charge_people(context, site, config, split, COUNTS_RUN, STATISTICS_ROUND, sigma, None)

    ledger = budget.open_ledger(context, site, split)
    count, *shares = _release(context, site, config, cohort, "patient", ledger, f"counts of {split}", charge)
    people = max(round(count), 1)
    classes = _round_classes(np.asarray(shares), people, cohort.task)
    deviation = ledger.read_text(f"counts/patient/{digest_people(cohort)}/deviation")
    return SplitCounts(
        patients=people, examples=people, classes=classes, deviation=float(deviation) if deviation else None
    )


def _release(
    context: SiteContext,
    site: Site,
    config: RunConfig,
    cohort: Cohort,
    level: str,
    ledger: Ledger,
    purpose: str,
    charge: Callable[[float], None],
) -> list[float]:
    """Return noisy `sum_unit_counts`; where there are none yet, charge first.

    Args:
        context: the site's context.
        site: the site.
        config: the run.
        cohort: whose units are counted.
        level: what a unit is.
        ledger: stores them.
        purpose: seeds the noise, where it is seeded.
        charge: charges the ledger for a noise multiplier.
    """
    key, wanted = f"counts/{level}/{digest_people(cohort)}", config.privacy
    text = ledger.read_text(key)
    if text is None:
        sigma = solve_noise(context.policy.counts_epsilon, wanted.delta, 1.0, 1, wanted.accountant)
        charge(sigma)
        source: noise.RandomSource = noise.SecureSource()
        if wanted.noise == "seeded":
            source = noise.SeededSource(seed_for(config.seed, site.name, purpose))
        deviation = sigma * math.sqrt(2) * NORM_MARGIN
        sent = noise.add_noise(sum_unit_counts(cohort, level), deviation, source)
        ledger.store_text(f"{key}/deviation", json.dumps(deviation))
        ledger.store_text(key, json.dumps([float(value) for value in sent]))
        text = ledger.read_text(key)  # another process may have been first
    assert text is not None
    return [float(value) for value in json.loads(text)]


def _round_classes(shares: npt.NDArray[np.float64], units: int, task: Task) -> tuple[int, ...]:
    """Return numbers of units of each class; of one class each they add up to all units."""
    shares = np.clip(shares, 0, None)
    if task.kind == "multilabel":
        return tuple(int(number) for number in np.minimum(np.rint(shares), units))
    total = shares.sum()
    shares = shares * units / total if total else np.full(len(shares), units / len(shares))
    edges = np.rint(np.cumsum(shares))
    edges[-1] = units
    return tuple(int(number) for number in np.diff(edges, prepend=0))


def plan_counts_charge(context: SiteContext, site: Site, config: RunConfig) -> Charge | None:
    """Return what the first release of the training counts would be charged.

    Returns:
        None if the counts are exact, or if they were released before and need no further charge.

    Raises:
        DataError: the ledger cannot be used.
    """
    if not _are_noisy(context, site, config):
        return None
    key = f"counts/{config.privacy.kind}/{digest_people(site.train)}"
    if budget.open_ledger(context, site).read_text(key) is not None:
        return None
    wanted = config.privacy
    sigma = solve_noise(context.policy.counts_epsilon, wanted.delta, 1.0, 1, wanted.accountant)
    return _build_counts_charge(context, site, config, sigma)


def _are_noisy(context: SiteContext, site: Site, config: RunConfig) -> bool:
    """Return whether the site's training counts are reported with noise."""
    private = config.privacy.kind in ("patient", "record") and context.policy.counts != "public"
    return private and len(site.train.y) > 0


def _build_counts_charge(context: SiteContext, site: Site, config: RunConfig, sigma: float) -> Charge:
    spent = GaussianSteps(1.0, sigma, 1)
    wanted: Charge = budget.build_charge(context, site, COUNTS_RUN, config, spent, STATISTICS_ROUND)
    return replace(wanted, run_limit=None)


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
