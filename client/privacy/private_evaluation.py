"""Differentially private evaluation: counts of the people who validate or are tested, with noise, charged before.

What is protected is a person with all their examples at this hospital: neighbouring data sets differ in one person of
the split. Each person counts once: their k examples have the weight 1 / k, so that what they add to a confusion matrix
or to a score histogram is not negative, adds up to 1 and has norm at most 1. All matrices and histograms of a release
are weighted (`ReleaseLayout` in common/metrics/noisy_counts.py) so that one person changes the whole vector by norm at
most 1, and each coordinate gets Gaussian noise of `sigma`: the Gaussian mechanism (Dwork and Roth 2014,
doi:10.1561/0400000042, appendix A) without sampling, one step. A person's predictions are computed from their own rows
alone (client/evaluation/person_sums.py).

The people of each split have a ledger of their own (`privacy-validation.sqlite`, `privacy-test.sqlite`), because they
are other people than those who train. A release is charged there, checked against the run's
`privacy.evaluation_epsilon` and the policy's `max_evaluation_epsilon` in one transaction, before noise is drawn. It is
stored with the ledger: the same question again gets the same answer, at no cost.

Not covered: whether there are any people in a split, and at least as many as the policy's minimum; how long it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.gate.questions import digest_question, digest_settings
from client.privacy import budget
from client.privacy.accounting import GaussianSteps, solve_noise
from client.privacy.charges import Charge, LedgerRow
from client.privacy.ledger import Ledger
from client.privacy.units import PEOPLE_KEY, UNIT_NAMES, digest_people, digest_splits
from client.site import Site
from client.site_context import SiteContext
from common import noise
from common.arrays import Weights
from common.config import RunConfig
from common.metrics.noisy_counts import NORM_MARGIN, ReleaseLayout
from common.private_evaluation import CONFUSION, EvaluatedSplit, count_planned_releases
from common.reports import PrivacySpent
from common.requests import ModelRequest
from common.seeds import seed_for

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EvaluationRelease:
    """Noisy sums over people.

    Attributes:
        sums: in people, by table and part (`common.private_evaluation.name_sums`).
        spent: what the ledger was charged.
    """

    sums: Mapping[str, Floats]
    spent: PrivacySpent


def release_sums(
    context: SiteContext,
    site: Site,
    request: ModelRequest,
    split: EvaluatedSplit,
    sums: Mapping[str, Floats],
    layout: ReleaseLayout,
    people: int,
    state: Weights,
) -> EvaluationRelease:
    """Charge and return noisy sums; the release of the same request before is returned as it was.

    Args:
        context: the site's context.
        site: with inputs unscaled.
        request: to validate or to test.
        split: whose people are counted.
        sums: exact sums over people, by table and part.
        layout: the weights of the parts.
        people: number of people reported to the server.
        state: what the site keeps of the run, as the model that was counted uses it.

    Raises:
        BudgetSpent: the charge would overspend; nothing is released.
        DataError: the ledger cannot be used.
    """
    ledger = budget.open_ledger(context, site, split)
    question = digest_question(request, state, digest_splits(site))
    key = f"release/{request.run_id}/{request.kind}/{digest_settings(request)}/{question}"
    text = ledger.read_text(key)
    if text is None:
        row = charge_release(context, site, request.config, split, request.run_id, request.round)
        vector = join_weighted_sums(sums, layout)
        sent = noise.add_noise(vector, row.sigma * NORM_MARGIN, _build_source(site, request, split))
        ledger.store_text(key, json.dumps({"row": row.number, "sent": sent.tolist()}))
        text = ledger.read_text(key)  # another process may have been first: its answer is everybody's
    assert text is not None
    stored = json.loads(text)
    rows = ledger.rows()
    row = rows[stored["row"] - 1]
    return EvaluationRelease(
        split_weighted_sums(np.asarray(stored["sent"], dtype=np.float64), sums, layout),
        budget.report_spending(row, rows[: row.number - 1], 1.0, people),
    )


def charge_release(
    context: SiteContext, site: Site, config: RunConfig, split: EvaluatedSplit, run: str, number: int
) -> LedgerRow:
    """Charge one release about a split's people to their ledger.

    Raises:
        BudgetSpent: it would spend more than the run or the policy allow; nothing was charged.
        DataError: the ledger cannot be used.
    """
    ledger = budget.open_ledger(context, site, split)
    sigma = solve_release_noise(config, split, ledger, run)
    return charge_people(context, site, config, split, run, number, sigma, config.privacy.evaluation_epsilon)


def charge_people(
    context: SiteContext,
    site: Site,
    config: RunConfig,
    split: EvaluatedSplit,
    run: str,
    number: int,
    sigma: float,
    run_limit: float | None,
) -> LedgerRow:
    """Charge one Gaussian mechanism over a split's people to their ledger, and record who they are.

    Raises:
        BudgetSpent: it would spend more than `run_limit` or the policy allow; nothing was charged.
        DataError: the ledger cannot be used.
    """
    ledger = budget.open_ledger(context, site, split)
    if not context.policy.several_splits:
        ledger.store_text(PEOPLE_KEY, digest_people(getattr(site, split)))
    spent = GaussianSteps(1.0, sigma, 1)
    return ledger.charge(build_people_charge(context, site, config, split, run, number, spent, run_limit))


def build_people_charge(
    context: SiteContext,
    site: Site,
    config: RunConfig,
    split: EvaluatedSplit,
    run: str,
    number: int,
    spent: GaussianSteps,
    run_limit: float | None,
) -> Charge:
    """Return what to charge for Gaussian mechanisms over a split's people."""
    privacy = config.privacy
    return Charge(
        run,
        number,
        "patient",
        UNIT_NAMES["patient"],
        getattr(site, split).people(),
        spent,
        privacy.delta,
        privacy.accountant,
        run_limit,
        context.policy.max_evaluation_epsilon,
        privacy.noise == "secure",
    )


def plan_evaluation_charge(
    context: SiteContext, site: Site, config: RunConfig, split: EvaluatedSplit, run: str
) -> Charge:
    """Return what all releases about a split's people that a run plans would be charged together.

    Raises:
        ConfigError: the epsilon cannot be kept.
    """
    planned = count_planned_releases(config, split)
    spent = GaussianSteps(1.0, solve_release_noise(config, split), planned)
    limit = config.privacy.evaluation_epsilon
    return build_people_charge(context, site, config, split, run, config.federation.rounds, spent, limit)


def solve_release_noise(config: RunConfig, split: EvaluatedSplit, ledger: Ledger | None = None, run: str = "") -> float:
    """Return the noise multiplier with which all releases that a run plans spend `privacy.evaluation_epsilon`.

    A run that has been charged before keeps its noise.

    Raises:
        ConfigError: the epsilon cannot be kept.
    """
    before = [row.sigma for row in ledger.rows() if row.run == run] if ledger is not None else []
    if before:
        return before[0]
    privacy = config.privacy
    assert privacy.evaluation_epsilon is not None
    planned = count_planned_releases(config, split)
    return solve_noise(privacy.evaluation_epsilon, privacy.delta, 1.0, planned, privacy.accountant)


def join_weighted_sums(sums: Mapping[str, Floats], layout: ReleaseLayout) -> Floats:
    """Return all sums as one vector, weighted so that one person changes it by a norm of at most 1."""
    return np.concatenate([(sums[name] * weigh_part(name, layout)).ravel() for name in sorted(sums)])


def split_weighted_sums(vector: Floats, like: Mapping[str, Floats], layout: ReleaseLayout) -> dict[str, Floats]:
    """Return the sums, in people, from a vector of `join_weighted_sums`.

    Args:
        vector: the weighted sums, with or without noise.
        like: sums with the names and shapes to return.
        layout: the layout of the counts, which gives the weights.
    """
    names = sorted(like)
    parts = np.split(vector, np.cumsum([like[name].size for name in names])[:-1])
    return {
        name: part.reshape(like[name].shape) / weigh_part(name, layout) for name, part in zip(names, parts, strict=True)
    }


def weigh_part(name: str, layout: ReleaseLayout) -> float:
    """Return the factor that multiplies a part of a table before noise is added."""
    return layout.confusion_weight if name.endswith(f"/{CONFUSION}") else layout.scores_weight


def _build_source(site: Site, request: ModelRequest, split: EvaluatedSplit) -> noise.RandomSource:
    """Return the source of the noise: the operating system's entropy, or a seed where the run asks for it."""
    config = request.config
    if config.privacy.noise == "secure":
        return noise.SecureSource()
    return noise.SeededSource(seed_for(config.seed, site.name, request.round, f"private {split}"))
