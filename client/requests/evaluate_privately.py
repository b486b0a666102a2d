"""Answers to the validation and test phases of a run whose evaluation is private: noisy counts of people.

Everything else that the other answers hold (figures, intervals, attributions, recalibration, views of latent space)
rests on exact data, and is not sent: the server computes figures and intervals from the noisy counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import nn

from client.evaluation.person_sums import compute_shares, select_groups
from client.gate.questions import describe_limit, digest_question, may_answer_personal_model
from client.gate.register import TOO_FEW
from client.privacy.evaluation_checks import check_private_evaluation
from client.privacy.private_evaluation import release_sums
from client.privacy.units import digest_splits
from client.requests.handshake import count_evaluated
from client.requests.loaded_model import LoadedModel, load_model
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.local_update import load_personal_weights
from common.errors import SiteError
from common.metrics.table_names import ALL_PATIENTS, personal_table
from common.private_evaluation import EvaluatedSplit, build_layout
from common.replies import FinalTestReply, ValidateReply
from common.reports import FinalTestReport, ValidateReport
from common.requests import FinalTestRequest, ModelRequest, ValidateRequest

Floats = npt.NDArray[np.float64]


def validate_privately(context: SiteContext, request: ValidateRequest) -> ValidateReply:
    """Return noisy counts of a model's predictions on the validation patients.

    Raises:
        SiteError: the policy does not allow it, there are too few patients, or their budget is spent.
    """
    loaded, site, people = _load(context, request, "validation")
    shares = compute_shares(loaded.model, loaded.site.validation, request.config)
    everyone = {ALL_PATIENTS: np.ones(len(shares.confusion), dtype=bool)}
    layout = build_layout(request.config, site.task, "validation", personal=False)
    sums, state = shares.sum_tables(everyone), loaded.saved.arrays
    released = release_sums(context, site, request, "validation", sums, layout, people, state)
    return ValidateReply(site.name, ValidateReport(patients=people, privacy=released.spent), noisy=released.sums)


def test_privately(context: SiteContext, request: FinalTestRequest) -> FinalTestReply:
    """Return noisy counts of the chosen model's predictions on the test patients, and on groups of them.

    A site that keeps a personal model counts the predictions of both.

    Raises:
        SiteError: the policy does not allow it, there are too few patients, or their budget is spent.
    """
    loaded, site, people = _load(context, request, "test")
    groups = select_groups(site.test, request.config)
    sums = _sum_tables(loaded.model, loaded.site, request, groups)
    notes: dict[str, str] = {}
    if request.method.local and not loaded.saved.arrays:
        notes[ALL_PATIENTS] = "local layers: this site has none, so the server's initial ones"
    personal = request.method.pull is not None
    question = digest_question(request, loaded.saved.arrays, digest_splits(site)) if personal else ""
    if personal and not may_answer_personal_model(context, request, question):
        notes[ALL_PATIENTS] = describe_limit(context.policy)
    elif personal:
        load_personal_weights(loaded.model, request, loaded.saved)
        named = {personal_table(name): members for name, members in groups.items()}
        sums |= _sum_tables(loaded.model, loaded.site, request, named)
        if not loaded.saved.arrays:
            notes[personal_table(ALL_PATIENTS)] = "personal model: this site has none, so the federated one"
    layout = build_layout(request.config, site.task, "test", personal)
    released = release_sums(context, site, request, "test", sums, layout, people, loaded.saved.arrays)
    report = FinalTestReport(evaluations={}, privacy=released.spent, notes=notes)
    return FinalTestReply(site.name, report, noisy=released.sums)


def _load(context: SiteContext, request: ModelRequest, split: EvaluatedSplit) -> tuple[LoadedModel, Site, int]:
    """Return the model, the site with unscaled inputs, and how many people of a split the handshake stated.

    Raises:
        SiteError: the policy does not allow the run, or there are too few people.
    """
    config = request.config
    site = load_site(context, config)
    check_private_evaluation(context, site, config)
    if getattr(site, split).people() < max(context.policy.min_cell_patients, 1):
        raise SiteError(TOO_FEW)
    return load_model(context, request), site, count_evaluated(context, site, config, split).patients


def _sum_tables(
    model: nn.Module, site: Site, request: FinalTestRequest, groups: Mapping[str, npt.NDArray[np.bool_]]
) -> dict[str, Floats]:
    """Return sums over the test patients of each group, by table and part."""
    return compute_shares(model, site.test, request.config, request.threshold).sum_tables(groups)
