"""What a request must meet before any work is done for it."""

from __future__ import annotations

import math
import re
import secrets
from contextlib import suppress
from functools import lru_cache

from client.gate.approvals import check_approval
from client.gate.bounded_numbers import check_numbers, check_overflows
from client.gate.grown_trees import check_continued, check_growing, check_trees, keep_trees
from client.gate.guarded_settings import FORGETTING, LATENT_SUMS, UNMEASURED, allows, check_grain, check_settings
from client.gate.plausible_scaling import check_scaling
from client.gate.questions import QUESTION_KINDS, digest_personal_question, digest_question, digest_settings
from client.gate.register import TOO_FEW, Register, open_register
from client.gate.run_limits import check_method, check_run, check_task
from client.gate.weights import check_control, check_first_weights, check_later_weights, get_update_path
from client.policy import SitePolicy
from client.privacy.checks import check_private_training
from client.privacy.evaluation_checks import check_private_evaluation
from client.privacy.units import digest_splits
from client.site import Site, change_training, load_site
from client.site_context import SiteContext
from client.training.state_files import StateFiles
from common.errors import SiteError
from common.requests import (
    CanaryRequest,
    FinalTestRequest,
    GrowRequest,
    HandshakeRequest,
    LatentRequest,
    ModelRequest,
    Request,
    TrainRequest,
    ValidateRequest,
)
from common.sections.training import ModelConfig
from common.task import Task
from common.tree_plan import plan_run
from common.trees import grows_trees
from sites.cohort import Cohort

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
RESERVED_RUNS = ("counts",)
"""Names under which the ledger itself charges."""
MAX_FORGETTING = 1.0
"""Largest product of learning rate, decay and steps of a round; at 1 the first step counts exp(-1) times the last."""
MAX_CANARIES_PER_MONTH = 300
"""Canaries that a hospital answers in 30 days."""
SPLITS_OF_REQUEST: dict[type[Request], tuple[str, ...]] = {
    HandshakeRequest: ("train", "validation", "test"),
    ValidateRequest: ("validation",),
    FinalTestRequest: ("test",),
}
"""The splits whose people an answer is about; of other requests, the training split."""


def admit(context: SiteContext, request: Request) -> None:
    """Refuse a request that the hospital's policy does not allow; in a simulation every request is allowed.

    Raises:
        SiteError: names what is not allowed; refusals because of numbers of people all have the same text.
        ApprovalPending: somebody at the hospital must approve the run first.
        DataError: the register cannot be used.
    """
    if context.simulated:
        return
    if isinstance(request, CanaryRequest):  # says what would be refused (client/gate/preview.py)
        open_register(context).ask("", "canaries", secrets.token_hex(16), None, MAX_CANARIES_PER_MONTH)
        return
    policy, config = context.policy, request.config
    check_run_id(getattr(request, "run_id", None))
    check_run(policy, config)
    check_settings(policy, config)
    check_approval(context, request, getattr(request, "run_id", ""))
    if isinstance(request, ValidateRequest | FinalTestRequest):
        check_grain(policy, config)
    site = load_site(context, config)
    check_task(policy, config, site.task)
    check_private_training(context, site, config)
    check_private_evaluation(context, site, config)
    register = open_register(context)
    with register.open():  # all or nothing: what is refused has not been asked
        check_people(register, site, request, context)
        if isinstance(request, ModelRequest):
            check_model(register, site, request, context)


def check_run_id(run: str | None) -> None:
    """Refuse a run's id that is not a plain word, because files are named by it.

    Raises:
        SiteError: the id is not a plain word, or is reserved.
    """
    if run and (not RUN_ID.fullmatch(run) or run in RESERVED_RUNS):
        raise SiteError("policy: the run has no plain name, so nothing can be kept of it")


def check_people(register: Register, site: Site, request: Request, context: SiteContext) -> None:
    """Refuse an answer that rests on too few people, or differs from an earlier one by too few.

    Raises:
        SiteError: states only that, and no numbers.
    """
    policy = context.policy
    run = getattr(request, "run_id", "")
    for split in SPLITS_OF_REQUEST.get(type(request), ("train",)):
        cohort: Cohort = getattr(site, split)
        floor = policy.min_training_patients if split == "train" else policy.min_cell_patients
        people = cohort.people_names
        if not people and isinstance(request, HandshakeRequest):
            continue
        if len(people) < floor and not isinstance(request, HandshakeRequest):
            raise SiteError(TOO_FEW)
        if split == "train" and 0 < len(people) < floor:
            raise SiteError(TOO_FEW)
        if (
            len(people) >= floor
            and not register.release(request.config.data.dataset, f"cohort of {split}", [people], floor, run)[0]
        ):
            raise SiteError(TOO_FEW)


def check_model(register: Register, site: Site, request: ModelRequest, context: SiteContext) -> None:
    """Refuse a model that this run could not have reached, or that exceeds the number of models the policy allows.

    Raises:
        SiteError: says which limit was reached.
    """
    policy, run = context.policy, request.run_id
    check_numbers(request)
    check_overflows(register, run)
    register.ask("", "runs", run, None, policy.max_runs_per_month)
    register.bind(run, digest_settings(request))
    floor = 1 if context.simulated else policy.min_cell_patients
    sent = request.scaling and not context.simulated and not request.config.privacy.on
    train = change_training(context, request.config, site, fill=False) if sent else site.train
    check_scaling(site, request.config, request.scaling, floor, train)
    check_state(register, request)
    check_method(policy, request)
    if grows_trees(request.config.model.name):
        check_tree_request(register, site, request, context)
    elif isinstance(request, GrowRequest):
        raise SiteError(f"policy: the model {request.config.model.name} does not grow from histograms")
    if isinstance(request, TrainRequest):
        if request.control:
            check_control(policy, register, run, request.round, request.control)
        check_layers(policy, site, request)
        check_forgetting(policy, site.train, request)
        if request.round <= 1:
            check_first_weights(policy, request.config, site.task, request.weights)
        else:
            check_later_weights(policy, register, run, request.weights)
        # a round that is asked for again trains again, with other noise: each time counts
        question = f"{request.round} {secrets.token_hex(16)}"
        limits = policy.max_rounds_per_run, policy.max_rounds_per_month, policy.max_rounds_per_day
        register.ask(run, "training", question, *limits)
        return
    if isinstance(request, GrowRequest):
        return
    if not grows_trees(request.config.model.name):
        check_later_weights(policy, register, run, request.weights)
    privacy = request.config.privacy
    exact = not privacy.evaluation_on and privacy.validation != "unprotected"
    if isinstance(request, ValidateRequest) and privacy.on and exact:
        raise SiteError("policy: a private run chooses nothing on validation patients (privacy.validation)")
    state = StateFiles.read_requested(context, site.name, request)
    question = digest_question(request, state, digest_splits(site))
    if isinstance(request, FinalTestRequest):
        test_limits = policy.max_tested_models_per_run, policy.max_tested_models_per_month
        register.ask(run, QUESTION_KINDS["test"], question, *test_limits)
        if request.method.pull is not None:  # the personal model is answered for too, where the limits leave room
            with suppress(SiteError):
                register.ask(run, QUESTION_KINDS["test"], digest_personal_question(question), *test_limits)
    elif isinstance(request, LatentRequest):
        if not allows(policy, LATENT_SUMS):
            raise SiteError(f"policy: latent sums are this hospital's to allow (allowed_settings: {LATENT_SUMS})")
        register.ask(run, "latent sums", question, 1, policy.max_tested_models_per_month)
    else:
        round_limits = policy.max_rounds_per_run, policy.max_validated_models_per_month
        register.ask(run, QUESTION_KINDS["validation"], question, *round_limits)


def check_tree_request(register: Register, site: Site, request: ModelRequest, context: SiteContext) -> None:
    """Refuse trees that do not continue those that this hospital helped to grow, and too many messages about them.

    Each message of a round counts as a round of training.

    Raises:
        SiteError: says which.
    """
    policy, run, plan = context.policy, request.run_id, plan_run(request.config, site.task)
    if isinstance(request, TrainRequest):
        raise SiteError("policy: trees are grown from histograms, not trained")
    check_trees(plan, request.weights)
    if not isinstance(request, GrowRequest):
        check_continued(register, run, plan, request.weights)
        return
    check_growing(plan, request)
    first = plan.list_trees(request.round).start
    if first:
        check_continued(register, run, plan, request.weights)
    question = f"{request.round} {request.depth} {secrets.token_hex(16)}"
    limits = policy.max_rounds_per_run, policy.max_rounds_per_month, policy.max_rounds_per_day
    register.ask(run, "training", question, *limits)
    keep_trees(register, run, request.weights, first)


def check_layers(policy: SitePolicy, site: Site, request: TrainRequest) -> None:
    """Refuse to train, without privacy, a model in which a single person's part of the update cannot be measured.

    Raises:
        SiteError: names the models for which it can be measured.
    """
    if request.config.privacy.on or policy.min_unit_patients <= 1 or allows(policy, UNMEASURED):
        return
    if not _has_measurable_layers(site.task, request.config.model.model_dump_json()):
        raise SiteError(
            f"policy: model {request.config.model.name} has layers in which one person's part cannot be measured: "
            f"train it with privacy.epsilon, or the hospital allows it (allowed_settings: {UNMEASURED})"
        )


@lru_cache(maxsize=64)
def _has_measurable_layers(task: Task, wanted: str) -> bool:
    """Return whether single people's parts can be measured in a model; building it takes longer than all checks."""
    from client.gate.unit_support import is_measurable
    from common import models

    return is_measurable(models.build_model(task, ModelConfig.model_validate_json(wanted), seed=0))


def check_state(register: Register, request: ModelRequest) -> None:
    """Refuse a request that replaces the layers that this hospital keeps by the server's.

    Raises:
        SiteError: the hospital has trained in this run, and the request names no round of it.
    """
    if request.method.keeps_state and not request.state_round and get_update_path(register, request.run_id).exists():
        first = isinstance(request, TrainRequest) and request.round <= 1
        if not first:
            raise SiteError("policy: this hospital keeps layers of this run, so a request must say of which round")


def check_forgetting(policy: SitePolicy, train: Cohort, request: TrainRequest) -> None:
    """Refuse training in which the last steps outweigh all others, or steps use only a few people.

    Weight decay and the proximal term shrink what earlier steps did, by 1 - lr (decay + mu) a step; if that is much
    over a round, the update rests on the people of the last batch.

    Raises:
        SiteError: says which setting.
    """
    training = request.config.training
    steps = training.epochs * math.ceil(max(len(train.y), 1) / training.batch_size)
    pull = max(request.proximal, request.method.pull or 0.0)  # of the global or of the personal model
    forgotten = training.lr * (training.weight_decay + pull) * steps
    if not forgotten <= MAX_FORGETTING and not allows(policy, FORGETTING):
        raise SiteError(
            "policy: with this learning rate, weight decay and proximal term an update forgets its first steps "
            f"(allowed_settings: {FORGETTING})"
        )
