"""The test phase: every hospital's figures of the chosen model, and the pooled ones from merged counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.metrics.figures import Evaluation
from common.metrics.paired_resamples import Draws, resample_tables
from common.metrics.table_names import ALL_PATIENTS, RESAMPLED_SUFFIX
from common.task import Task

if TYPE_CHECKING:
    from common.messages import Reply
from typing import Any

from flwr.app import Message

from common import messages
from common.errors import EngineError
from common.messages import Reply, Request
from common.metrics import evaluation
from common.metrics.explanations import Explanation
from common.metrics.figures import Recalibration
from server.phases.validate import choose_threshold, find_counts_fault, validate_round
from server.run import Outcome, Run


def collect_draws(task: Task, replies: Mapping[str, Reply], by_table: Mapping[str, Mapping[str, Evaluation]]) -> Draws:
    """Return the resampled figures of what sites answered, `by_table` its evaluations."""
    patients = {name: {site: item.patients for site, item in found.items()} for name, found in by_table.items()}
    return resample_tables(task, {site: reply.tables for site, reply in replies.items()}, patients)


def run_test(run: Run, outcome: Outcome) -> None:
    """Evaluate the chosen model on every site's test patients; fills `outcome.test` and `outcome.pooled`.

    Raises:
        EngineError: no site that has test patients answered.
    """
    holders = run.federation.holders("test")
    outcome.threshold = _chosen_threshold(run, outcome)
    content = messages.pack_request(
        Request(
            "test",
            run.config,
            outcome.chosen,
            outcome.weights,
            scaling=run.scaling,
            threshold=outcome.threshold,
            method=run.method,
            run_id=run.id,
            latent=run.latent,
        )
    )
    outgoing = [Message(content, node, messages.MESSAGE_TYPES["test"]) for node in run.online(holders)]
    outgoing = run.addressed(outgoing, outcome.chosen, outcome)
    answers, lost = run.ask("test", outcome.chosen, holders, outgoing, lambda reply: find_figures_fault(reply, run))
    outcome.lost |= {site: f"final evaluation: {text}" for site, text in lost.items()}
    if holders and not answers:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(f"final evaluation: none of {len(holders)} sites answered ({why})")
    replies = {site: reply for site, (_, reply) in answers.items()}
    outcome.test, outcome.pooled = combine_evaluations(run.task, replies)
    outcome.recalibration = collect_recalibrations(replies)
    outcome.explanations = collect_explanations(replies)
    outcome.tables = {site: reply.tables for site, reply in replies.items()}
    outcome.suppressed = list_suppressed_tables(replies)
    if run.config.evaluation.keep_resamples:
        outcome.draws = collect_draws(run.task, replies, outcome.test)
    outcome.views = {site: view for site, reply in replies.items() if (view := reply.report.get("view"))}


def _chosen_threshold(run: Run, outcome: Outcome) -> float | None:
    """Return the threshold that is best on the chosen model's validation counts, of all sites together."""
    if run.config.evaluation.threshold == "likelier" or not run.task.binary:
        return None
    if not outcome.validation:
        line: dict[str, Any] = {"lost": {}, "sites": {}}
        arrays = messages.pack_weights(outcome.weights)
        outcome.validation = validate_round(run, outcome.chosen, arrays, line, outcome)
    if not outcome.validation:
        return None
    first, *rest = [outcome.validation[site] for site in sorted(outcome.validation)]
    return choose_threshold(run, sum(rest, first))


def find_figures_fault(reply: Reply, run: Run) -> str:
    """Return why a site's figures cannot be used, or ""; what is not a figure at all raises."""
    figures = {name: Evaluation.model_validate(item) for name, item in reply.report["evaluations"].items()}
    if ALL_PATIENTS not in figures or not set(figures) <= set(reply.tables):
        return "it sent figures without counts"
    if any(tuple(item.classes) != run.task.classes for item in figures.values()):
        return "its figures do not fit the task"
    collect_recalibrations({reply.site: reply})
    collect_explanations({reply.site: reply})
    return find_counts_fault(reply, run)


def collect_recalibrations(replies: Mapping[str, Reply]) -> dict[str, Recalibration]:
    """Return what each site told of recalibration, of those that tried or told why not."""
    told = {site: reply.report.get("recalibration") for site, reply in replies.items()}
    return {site: Recalibration.model_validate(item) for site, item in told.items() if item}


def collect_explanations(replies: Mapping[str, Reply]) -> dict[str, Explanation]:
    """Return what each site told of the inputs' importance, of those that told anything."""
    told = {site: reply.report.get("explanation") for site, reply in replies.items()}
    return {site: Explanation.model_validate(item) for site, item in told.items() if item}


def combine_evaluations(
    task: Task, replies: Mapping[str, Reply]
) -> tuple[dict[str, dict[str, Evaluation]], dict[str, Evaluation]]:
    """Return figures by table name and site, and pooled figures by table name, from the replies."""
    by_table: dict[str, dict[str, Evaluation]] = {}
    suppressed = list_suppressed_tables(replies)
    for site, reply in replies.items():
        for name, item in reply.report["evaluations"].items():
            by_table.setdefault(name, {})[site] = Evaluation.model_validate(item)
    pooled = {}
    for name, results in by_table.items():
        tables = {site: replies[site].tables for site in results}
        pooled[name] = evaluation.pool_evaluations(
            task,
            results,
            {site: found[name] for site, found in tables.items()},
            {
                site: drawn
                for site, found in tables.items()
                if (drawn := found.get(name + RESAMPLED_SUFFIX)) is not None
            },
        )
        if less := suppressed.get(name):
            each = ", ".join(f"{site} (fewer than {least} patients)" for site, least in less.items())
            note = f"suppressed at, and so without, {each}"
            pooled[name] = pooled[name].model_copy(update={"notes": (*pooled[name].notes, note)})
    return by_table, pooled


def list_suppressed_tables(replies: Mapping[str, Reply]) -> dict[str, dict[str, int]]:
    """Return by table the sites that tell none, because too few patients are in it, and how many it needs."""
    found: dict[str, dict[str, int]] = {}
    for site, reply in sorted(replies.items()):
        for name, least in reply.report.get("suppressed", {}).items():
            found.setdefault(str(name), {})[site] = int(least)
    return found
