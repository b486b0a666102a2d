"""Answers to the validation and test phases: counts of predictions, figures, and attributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from client.evaluation.anomaly_scores import Detector
from client.evaluation.attribution import compute_attributions
from client.evaluation.changed_validation import change_validation, describe_replaced
from client.evaluation.evaluate import SiteEvaluation, evaluate_site, require_releasable
from client.evaluation.latent_view import build_latent_view
from client.evaluation.predictions import build_predictor, compute_predictions, count_predictions
from client.evaluation.recalibration import evaluate_recalibrations
from client.gate.disclosure import ReleaseRules
from client.gate.guarded_settings import LATENT_VIEW, allows
from client.gate.questions import (
    QUESTION_KINDS,
    describe_limit,
    digest_question,
    find_error_growth,
    may_answer_personal_model,
)
from client.gate.register import open_register
from client.privacy.evaluation_checks import check_private_evaluation
from client.privacy.units import digest_splits
from client.requests.evaluate_privately import test_privately, validate_privately
from client.requests.loaded_model import LoadedModel, load_model, refuse_external
from client.site import load_site
from client.site_context import SiteContext
from client.training.local_update import load_personal_weights, load_start_weights
from common.errors import SiteError
from common.metrics.early_warning import Floats
from common.metrics.figures import Evaluation
from common.metrics.table_names import ALL_PATIENTS, personal_table
from common.replies import FinalTestReply, ValidateReply
from common.reports import FinalTestReport, ValidateReport
from common.requests import FinalTestRequest, ModelRequest, ValidateRequest


def handle_validate(context: SiteContext, request: ValidateRequest) -> ValidateReply:
    """Return counts of a model's predictions on the validation patients.

    Raises:
        SiteError: too few patients, or the site is only tested.
    """
    refuse_external(context, request.config)
    if request.config.privacy.evaluation_on:
        return validate_privately(context, request)
    loaded = load_model(context, request)
    check_private_evaluation(context, loaded.site, request.config)
    releasable = require_releasable(loaded.site.validation, context.policy.min_cell_patients)
    rows, hidden = releasable.rows[ALL_PATIENTS], releasable.classes[ALL_PATIENTS]
    changed = change_validation(context, request.config, loaded.site)
    cohort = changed.cohort
    logits = compute_predictions(
        build_predictor(loaded.model, request.config, request.latent, bounded=not context.simulated), cohort
    )
    counts = count_predictions(logits, cohort, request.config, rows=rows, hidden=hidden)
    rules = read_rules(context, request, "validation", loaded, changed.mixing)
    total = counts.total
    if rules is not None:
        total = rules.coarsen_validation(total, counts.people, counts.names, hidden)
    patients = cohort.take(rows).people()  # those whose examples are counted, as in the handshake
    return ValidateReply(loaded.site.name, ValidateReport(patients=patients), tables={ALL_PATIENTS: total})


def handle_test(context: SiteContext, request: FinalTestRequest) -> FinalTestReply:
    """Return figures and counts of the chosen model on the test patients.

    A site that keeps a personal model is evaluated with both: the personal one's tables have names of their own.
    """
    if request.config.privacy.evaluation_on:
        return test_privately(context, request)
    loaded = load_model(context, request)
    check_private_evaluation(context, loaded.site, request.config)
    site, policy = loaded.site, context.policy
    changed = change_validation(context, request.config, site)
    site = replace(site, validation=changed.cohort)
    loaded = replace(loaded, site=site)
    evaluated = _evaluate(context, request, loaded, changed.mixing)
    results, tables = dict(evaluated.results), dict(evaluated.tables)
    suppressed = dict(evaluated.suppressed)
    rules = read_rules(context, request, "test", loaded, changed.mixing)
    for note in rules.describe_errors() if rules is not None else ():
        results = add_note(results, note)
    if changed.mixing is not None and ALL_PATIENTS in results:
        results |= add_note({ALL_PATIENTS: results[ALL_PATIENTS]}, describe_replaced(policy.replaced_values))
    recalibration, explanation, view = None, None, None
    if ALL_PATIENTS in results:
        if allows(policy, "evaluation.explain"):
            try:
                explanation = compute_attributions(
                    context, site.name, loaded.model, site.test, request.config, request.scaling
                )
            except SiteError as problem:
                results = add_note(results, str(problem))
        predict = build_predictor(loaded.model, request.config, request.latent, bounded=not context.simulated)
        more_results, more_tables, recalibration = evaluate_recalibrations(
            predict, site, request.config, policy.share_resamples, request.threshold, policy.min_cell_patients, rules
        )
        results |= more_results
        tables |= more_tables
    if request.method.local and not loaded.saved.arrays:
        results = add_note(results, "local layers: this site has none, so the server's initial ones")
    pulls = request.method.pull is not None
    if pulls and not may_answer_personal_model(context, request, _digest_admitted(context, request, loaded)):
        results |= add_note({ALL_PATIENTS: results[ALL_PATIENTS]}, describe_limit(policy))
    elif pulls:
        own = evaluated  # where no personal model is kept: the same counts with other errors would be another answer
        if loaded.saved.arrays or context.simulated:
            load_personal_weights(loaded.model, request, loaded.saved)
            own = _evaluate(context, request, loaded, changed.mixing, "personal ")
        figures = own.results
        if not loaded.saved.arrays:
            figures = add_note(figures, "personal model: this site has none, so the federated one")
        results |= {personal_table(name): item for name, item in figures.items()}
        tables |= {personal_table(name): item for name, item in own.tables.items()}
        suppressed |= {personal_table(name): min_patients for name, min_patients in own.suppressed.items()}
    shows = allows(policy, LATENT_VIEW)
    if shows and request.latent and ALL_PATIENTS in results and len(site.test.y):
        load_start_weights(loaded.model, request, loaded.saved)
        view = build_latent_view(Detector(loaded.model, request.config), site, policy, request.latent)
    report = FinalTestReport(
        evaluations=results, recalibration=recalibration, explanation=explanation, suppressed=suppressed, view=view
    )
    return FinalTestReply(site.name, report, tables=tables)


def add_note(results: Mapping[str, Evaluation], note: str) -> dict[str, Evaluation]:
    """Return evaluations by table with one more note on each."""
    return {name: item.model_copy(update={"notes": (*item.notes, note)}) for name, item in results.items()}


def _evaluate(
    context: SiteContext, request: FinalTestRequest, loaded: LoadedModel, mixing: Floats | None, prefix: str = ""
) -> SiteEvaluation:
    """Return figures and counts of a model as it now is on the site's test patients."""
    predict = build_predictor(loaded.model, request.config, request.latent, bounded=not context.simulated)
    return evaluate_site(
        predict,
        loaded.site,
        request.config,
        context.policy.share_resamples,
        request.threshold,
        minimum=context.policy.min_cell_patients,
        raw=load_site(context, request.config),
        rules=read_rules(context, request, "test", loaded, mixing),
        prefix=prefix,
    )


def read_rules(
    context: SiteContext, request: ModelRequest, split: str, loaded: LoadedModel, mixing: Floats | None
) -> ReleaseRules | None:
    """Return the rules for an answer about the patients of a split at a hospital; None in a simulation.

    Args:
        context: the site's context.
        request: what is asked.
        split: whose people the answer is about.
        loaded: the model that answers.
        mixing: how outcomes of validation patients were replaced, or None.

    Raises:
        SiteError: what the site keeps of the run has changed since the request was admitted.
    """
    if context.simulated:
        return None
    register = open_register(context)
    dataset, question = request.config.data.dataset, _digest_admitted(context, request, loaded)
    number = register.count_questions(request.run_id, QUESTION_KINDS[split], question)
    growth = find_error_growth(context.policy, number)
    rules = ReleaseRules.from_register(context.policy, register, dataset, request.run_id, split, question, growth)
    return replace(rules, mixing=mixing)


def _digest_admitted(context: SiteContext, request: ModelRequest, loaded: LoadedModel) -> str:
    """Return the digest of a question to this site, as it was admitted (`digest_question`)."""
    return digest_question(request, loaded.saved.arrays, digest_splits(load_site(context, request.config)))
