"""The validation phase: every round's model on merged validation counts, by which the best round is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.messages import Reply
from common.metrics import counts as metrics
from common.metrics import evaluation
from common.metrics.counts import Counts
from common.metrics.early_warning import LEAD_TABLE_WIDTH
from common.metrics.figures import Evaluation
from common.metrics.registry import METRICS, SELECTABLE
from common.metrics.table_names import ALL_PATIENTS, RESAMPLED_SUFFIX
from server.exchange import NodeSubsetGrid
from server.run import Outcome, Run


def is_better(run: Run, one: Mapping[str, Counts], other: Mapping[str, Counts]) -> bool:
    """Return whether one round's validation is better than another's, on the sites that answered in both.

    A site that is lost for a round would otherwise make that round look better or worse than it is.
    """
    sites = sorted(set(one) & set(other))
    if not sites:
        return False
    metric = run.config.chooses_by
    new, old = (
        evaluation.metric_value(merge_validation(run, [counts[s] for s in sites]), metric) for counts in (one, other)
    )
    if new is None or old is None:
        return False
    return METRICS[metric].is_better(new, old)


def validate_round(
    run: Run,
    number: int,
    arrays: Any,
    line: dict[str, Any],
    outcome: Outcome,
) -> dict[str, Counts]:
    """Evaluate a round's model on the validation patients; return counts by site if they can choose."""
    checkers = run.federation.holders("validation")
    if not checkers:
        return {}
    record = run.record(number)
    nodes = run.online(checkers)
    shown = NodeSubsetGrid(run.grid, nodes)
    outgoing = run.strategy.configure_evaluate(number, arrays, record, shown) if nodes else []
    outgoing = run.addressed(outgoing, number, outcome)
    answers, lost = run.ask("validate", number, checkers, outgoing, lambda reply: find_counts_fault(reply, run))
    for site, why in lost.items():
        if site not in line["lost"]:
            line["lost"][site] = f"validation: {why}"
            outcome.lost[site] = f"round {number}: validation: {why}"
    if not answers:
        return {}
    held = {site: int(reply.report["patients"]) for site, (_, reply) in answers.items()}
    found = {site: reply.tables[ALL_PATIENTS] for site, (_, reply) in answers.items()}
    for site, counts in found.items():
        line["sites"].setdefault(site, {})["validation"] = summarise_validation(
            merge_validation(run, [counts], held[site])
        )
    line["validation"] = summarise_validation(merge_validation(run, list(found.values()), sum(held.values())))
    return found if line["validation"].get(run.config.chooses_by) is not None else {}


def merge_validation(run: Run, counts: Sequence[Counts], patients: int = 0) -> Evaluation:
    """Return the figures of merged validation counts, at the threshold that is best on them if one is sought."""
    first, *rest = counts
    total = sum(rest, first)
    threshold = choose_threshold(run, total)
    if threshold is not None:
        total = metrics.apply_threshold(total, threshold)
    absent = [0] * len(run.task.classes)
    return evaluation.build_evaluation(run.task, total, None, patients, absent, threshold=threshold)


def choose_threshold(run: Run, counts: Counts) -> float | None:
    """Return the threshold that is best on validation counts, None where none is sought."""
    wanted = run.config.evaluation
    seeks = wanted.threshold != "likelier" and run.task.binary
    return metrics.choose_threshold(counts, wanted.threshold, wanted.false_alarms) if seeks else None


def summarise_validation(item: Evaluation) -> dict[str, Any]:
    """Return the figures of a validation that stand in rounds.jsonl."""
    found = {name: figure.value for name in SELECTABLE if (figure := item.figure(name)) is not None}
    if item.threshold is not None:
        found["threshold"] = item.threshold
    return {"examples": item.examples, "patients": item.patients} | found


def find_counts_fault(reply: Reply, run: Run) -> str:
    """Return why a site's counts cannot be added to the others', or ""."""
    shape, bins = run.task.confusion_shape, run.config.evaluation.bins
    for name, counts in reply.tables.items():
        fits = counts.confusion.shape[-len(shape) :] == shape and counts.scores.shape[-3:-1] == (shape[0], 2)
        if run.task.utility:
            fits = fits and counts.utility.shape[-1:] == (3,) and bool(np.isfinite(counts.utility).all())
        fits = fits and all(np.isfinite(part).all() for part in (counts.time, counts.lead))
        fits = fits and counts.time.shape[-1] in (0, shape[0]) and counts.lead.shape[-1] in (0, LEAD_TABLE_WIDTH)
        if not fits or (not name.endswith(RESAMPLED_SUFFIX) and counts.scores.shape[-1] != bins):
            return f"its counts {name} do not fit the task"
    return "" if ALL_PATIENTS in reply.tables else "it sent no counts"
