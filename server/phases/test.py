"""The test phase: the chosen model's metrics at every hospital, and pooled metrics from the merged counts."""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import EngineError
from common.metrics.evaluation import pool_evaluations
from common.metrics.figures import Evaluation
from common.metrics.paired_resamples import Draws, resample_tables
from common.metrics.table_names import PERSONAL, RESAMPLED_SUFFIX
from common.replies import FinalTestReply
from common.requests import FinalTestRequest
from common.task import Task
from server.losses import stop_on_loss
from server.noisy_replies import combine_noisy_evaluations, find_noisy_fault, max_noisy_bytes
from server.outcome import Outcome
from server.phases.validate import choose_run_threshold, merge_counts, validate_round
from server.reply_checks import expected_tables, find_figures_fault, max_table_bytes
from server.run import PhaseRequest, Run


def run_test(run: Run, outcome: Outcome) -> None:
    """Evaluate the chosen model on every site's test patients, and write the results into `outcome`.

    Raises:
        EngineError: no site that has test patients answered, or one did not and the run is to stop then.
    """
    holders = run.federation.holders("test")
    outcome.threshold = _choose_final_threshold(run, outcome)
    request = FinalTestRequest(
        run.config,
        outcome.chosen,
        outcome.weights,
        scaling=run.scaling,
        method=run.method,
        run_id=run.id,
        latent=run.latent,
        threshold=outcome.threshold,
    )

    private = run.config.privacy.evaluation_on

    def find_fault(reply: FinalTestReply, site: str) -> str:
        if private:
            return find_noisy_fault(reply, run, "test", run.federation.reports[site].counts.test)
        return find_figures_fault(reply, run, run.federation.reports[site])

    answers, lost = run.collect(
        PhaseRequest(
            "test",
            outcome.chosen,
            holders,
            run.add_state_rounds(run.build_messages(request, holders), outcome.chosen, outcome),
            FinalTestReply,
            find_fault,
            max_noisy_bytes(run, len(expected_tables(run)))
            if private
            else max_table_bytes(run, len(expected_tables(run)), resampled=True),
        )
    )
    outcome.lost |= {site: f"final evaluation: {text}" for site, text in lost.items()}
    if holders and not answers:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(f"final evaluation: none of {len(holders)} sites answered ({why})")
    replies = {site: reply for site, (_, reply) in answers.items()}
    reports = {site: reply.report for site, reply in replies.items()}
    if private:
        outcome.test, outcome.pooled = combine_noisy_evaluations(run, replies, outcome.threshold)
        outcome.pooled = note_unanswered_models(outcome.pooled, outcome.test, replies)
        outcome.spent["test"] = {site: report.privacy for site, report in reports.items() if report.privacy}
        stop_on_loss(run.config.federation, "final evaluation", lost)
        return
    outcome.test, outcome.pooled = combine_evaluations(run.task, replies)
    outcome.pooled = note_unanswered_models(outcome.pooled, outcome.test, replies)
    outcome.recalibration = {site: item.recalibration for site, item in reports.items() if item.recalibration}
    outcome.explanations = {site: item.explanation for site, item in reports.items() if item.explanation}
    outcome.tables = {site: reply.tables for site, reply in replies.items()}
    outcome.suppressed = list_suppressed_tables(replies)
    outcome.views = {site: item.view for site, item in reports.items() if item.view}
    if run.config.evaluation.keep_resamples:
        outcome.draws = collect_draws(run.task, replies, outcome.test)
    stop_on_loss(run.config.federation, "final evaluation", lost)


def _choose_final_threshold(run: Run, outcome: Outcome) -> float | None:
    """Return the threshold that is best on the chosen model's validation counts, of all sites together."""
    rule = run.config.evaluation.threshold
    if rule == "likelier" or not run.task.binary or (rule == "auto" and not run.federation.holders("validation")):
        return None
    if not outcome.validation:
        validation = validate_round(run, outcome.chosen, outcome.weights, outcome)
        outcome.validation = dict(validation.counts)
        outcome.spent.setdefault("validation", {}).update(validation.spent)
        outcome.lost |= {site: f"round {outcome.chosen}: validation: {why}" for site, why in validation.lost.items()}
    if not outcome.validation:
        return None
    counts = [outcome.validation[site] for site in sorted(outcome.validation)]
    return choose_run_threshold(run, merge_counts(run, counts))


def combine_evaluations(
    task: Task, replies: Mapping[str, FinalTestReply]
) -> tuple[dict[str, dict[str, Evaluation]], dict[str, Evaluation]]:
    """Return figures by table name and site, and pooled figures by table name, from the sites' replies."""
    by_table: dict[str, dict[str, Evaluation]] = {}
    suppressed = list_suppressed_tables(replies)
    for site, reply in replies.items():
        for name, item in reply.report.evaluations.items():
            by_table.setdefault(name, {})[site] = item
    pooled = {}
    for name, results in by_table.items():
        tables = {site: replies[site].tables for site in results}
        pooled[name] = pool_evaluations(
            task,
            results,
            {site: held[name] for site, held in tables.items()},
            {site: drawn for site, held in tables.items() if (drawn := held.get(name + RESAMPLED_SUFFIX)) is not None},
        )
        if withheld := suppressed.get(name):
            each = ", ".join(f"{site} (fewer than {minimum} patients)" for site, minimum in withheld.items())
            note = f"suppressed at, and so without, {each}"
            pooled[name] = pooled[name].model_copy(update={"notes": (*pooled[name].notes, note)})
    return by_table, pooled


def note_unanswered_models(
    pooled: Mapping[str, Evaluation],
    by_table: Mapping[str, Mapping[str, Evaluation]],
    replies: Mapping[str, FinalTestReply],
) -> dict[str, Evaluation]:
    """Return pooled figures, those of personal models with the sites whose limits allowed the federated model alone."""
    if PERSONAL not in pooled:
        return dict(pooled)
    withheld = list_suppressed_tables(replies).get(PERSONAL, {})
    others = sorted(set(replies) - set(by_table[PERSONAL]) - set(withheld))
    note = f"without {', '.join(others)}, whose policy leaves no second model to be tested"
    notes = (*pooled[PERSONAL].notes, note) if others else pooled[PERSONAL].notes
    return {**pooled, PERSONAL: pooled[PERSONAL].model_copy(update={"notes": notes})}


def list_suppressed_tables(replies: Mapping[str, FinalTestReply]) -> dict[str, dict[str, int]]:
    """Return by table name the sites that withheld it, and the minimum number of patients that each requires."""
    suppressed: dict[str, dict[str, int]] = {}
    for site, reply in sorted(replies.items()):
        for name, minimum in reply.report.suppressed.items():
            suppressed.setdefault(name, {})[site] = minimum
    return suppressed


def collect_draws(
    task: Task, replies: Mapping[str, FinalTestReply], by_table: Mapping[str, Mapping[str, Evaluation]]
) -> Draws:
    """Return the resampled figures from the sites' replies; `by_table`: their evaluations."""
    patients = {name: {site: item.patients for site, item in results.items()} for name, results in by_table.items()}
    return resample_tables(task, {site: reply.tables for site, reply in replies.items()}, patients)
