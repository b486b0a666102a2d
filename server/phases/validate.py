"""The validation phase: each round's model is evaluated on merged validation counts, which decide the best round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from common import messages
from common.arrays import Weights
from common.metrics.counts import Counts, apply_threshold
from common.metrics.evaluation import build_evaluation, metric_value
from common.metrics.figures import Evaluation, EvaluationNoise
from common.metrics.noisy_counts import NoisyCounts
from common.metrics.registry import METRICS, SELECTABLE
from common.metrics.table_names import ALL_PATIENTS
from common.metrics.threshold_choice import choose_wanted_threshold
from common.replies import ValidateReply
from common.reports import PrivacySpent
from server.exchange import Answers, NodeSubsetGrid
from server.noisy_replies import find_noisy_fault, max_noisy_bytes, read_release
from server.outcome import Outcome, SiteCounts
from server.reply_checks import find_counts_fault, max_table_bytes
from server.run import PhaseRequest, Run


@dataclass(frozen=True)
class Validation:
    """What a round's model does on the validation patients.

    Attributes:
        counts: by site; empty where they cannot choose a round.
        by_site: figures by site, as they stand in rounds.jsonl.
        merged: figures of all sites' patients together; None: there are none.
        lost: sites without a usable reply, with the reason in one line.
        spent: what the ledger of each site's validation patients was charged, where evaluation is private.
    """

    counts: Mapping[str, SiteCounts] = field(default_factory=dict)
    by_site: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    merged: Mapping[str, object] | None = None
    lost: Mapping[str, str] = field(default_factory=dict)
    spent: Mapping[str, PrivacySpent] = field(default_factory=dict)


def is_better(run: Run, one: Mapping[str, SiteCounts], other: Mapping[str, SiteCounts]) -> bool:
    """Return whether one round's validation is better than another's, on the sites that answered in both.

    A site that is lost for a round would otherwise make that round look better or worse than it is. Where no site
    answered in both, or those that did cannot report the metric, each round's sites count: else the first choice would
    stand until its sites come back.
    """
    both = sorted(set(one) & set(other))
    new, old = (_selection_value(run, counts, both) for counts in (one, other))
    if new is None or old is None:
        new, old = (_selection_value(run, counts, sorted(counts)) for counts in (one, other))
    if new is None or old is None:
        return new is not None
    return METRICS[run.config.selection_metric].is_better(new, old)


def _selection_value(run: Run, counts: Mapping[str, SiteCounts], sites: Sequence[str]) -> float | None:
    """Return the metric that chooses the round, on the counts of some sites; None: it cannot be computed from them."""
    if not sites:
        return None
    return metric_value(merge_validation(run, [counts[site] for site in sites]), run.config.selection_metric)


def validate_round(run: Run, number: int, weights: Weights, outcome: Outcome) -> Validation:
    """Evaluate a round's model on the validation patients of all sites that have any, and return the results."""
    if not run.federation.holders("validation"):
        return Validation()
    return summarise_replies(run, *run.collect(build_validation(run, number, weights, outcome)))


def build_validation(run: Run, number: int, weights: Weights, outcome: Outcome) -> PhaseRequest[ValidateReply]:
    """Return the request to evaluate a round's model, to all sites that have validation patients and are online."""
    holders = run.federation.holders("validation")
    nodes = run.online_nodes(holders)
    subset = NodeSubsetGrid(run.grid, nodes)
    record, arrays = run.build_validate_record(number), messages.pack_weights(weights)
    outgoing = list(run.strategy.configure_evaluate(number, arrays, record, subset)) if nodes else []

    def find_fault(reply: ValidateReply, site: str) -> str:
        held = run.federation.reports[site].counts.validation
        if run.config.privacy.evaluation_on:
            stated = _find_patients_fault(reply.report.patients, held.patients)
            return stated or find_noisy_fault(reply, run, "validation", held)
        if set(reply.tables) != {ALL_PATIENTS}:
            return "it sent other counts than those of all its validation patients"
        fault = _find_patients_fault(reply.report.patients, held.patients)
        return fault or find_counts_fault(reply.tables, run, held, run.federation.reports[site].count_grain)

    return PhaseRequest(
        "validate",
        number,
        holders,
        run.add_state_rounds(outgoing, number, outcome),
        ValidateReply,
        find_fault,
        max_noisy_bytes(run, 1) if run.config.privacy.evaluation_on else max_table_bytes(run, 1, resampled=False),
    )


def summarise_replies(run: Run, answers: Answers[ValidateReply], lost: Mapping[str, str]) -> Validation:
    """Return the results of a validation from the replies by site, and why each other site gave none."""
    if not answers:
        return Validation(lost=lost)
    counts: dict[str, SiteCounts] = {
        site: read_release(reply, run, "validation")[ALL_PATIENTS] if reply.noisy else reply.tables[ALL_PATIENTS]
        for site, (_, reply) in answers.items()
    }
    patients = {site: reply.report.patients for site, (_, reply) in answers.items()}
    merged = summarise_validation(merge_validation(run, list(counts.values()), sum(patients.values())))
    return Validation(
        counts=counts if merged.get(run.config.selection_metric) is not None else {},
        by_site={
            site: summarise_validation(merge_validation(run, [each], patients[site])) for site, each in counts.items()
        },
        merged=merged,
        lost=lost,
        spent={site: reply.report.privacy for site, (_, reply) in answers.items() if reply.report.privacy},
    )


def _find_patients_fault(counted: int, stated: int) -> str:
    """Return that a reply is of another number of patients than the site stated in the handshake, or ""."""
    return f"its counts are of {counted} patients, in the handshake it stated {stated}" if counted != stated else ""


def merge_counts(run: Run, parts: Sequence[SiteCounts]) -> Counts:
    """Return the counts of several sites together; noisy ones are added first, and then fitted."""
    exact = [part for part in parts if isinstance(part, Counts)]
    noisy = [part for part in parts if isinstance(part, NoisyCounts)]
    return reduce(add, noisy).to_counts(run.task, None) if noisy else reduce(add, exact)


def merge_validation(run: Run, counts: Sequence[SiteCounts], patients: int = 0) -> Evaluation:
    """Return the figures of merged validation counts, at the threshold that is best on them if one is sought."""
    total = merge_counts(run, counts)
    automatic = run.config.evaluation.threshold == "auto"  # it chooses the threshold, but no round
    threshold = None if automatic else choose_run_threshold(run, total)
    if threshold is not None:
        total = apply_threshold(total, threshold)
    absent = [0] * len(run.task.classes)
    privacy = run.config.privacy
    noise = EvaluationNoise(epsilon=privacy.evaluation_epsilon, delta=privacy.delta) if privacy.evaluation_on else None
    return build_evaluation(run.task, total, None, patients, absent, threshold=threshold, noise=noise)


def choose_run_threshold(run: Run, counts: Counts) -> float | None:
    """Return the decision threshold chosen on validation counts; None if the run chooses none."""
    return choose_wanted_threshold(counts, run.config.evaluation) if run.task.binary else None


def summarise_validation(item: Evaluation) -> dict[str, object]:
    """Return the figures of a validation that are written to rounds.jsonl."""
    figures: dict[str, object] = {
        name: figure.value for name in SELECTABLE if (figure := item.figure(name)) is not None
    }
    if item.threshold is not None:
        figures["threshold"] = item.threshold
    return {"examples": item.examples, "patients": item.patients, **figures}
