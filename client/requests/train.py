"""Answers to the training phase: an update of the model."""

from __future__ import annotations

import math
import secrets
import threading
import time
from contextvars import ContextVar

import numpy as np
from torch import nn

from client.gate.guarded_settings import UNMEASURED, allows
from client.gate.register import TOO_FEW
from client.gate.unit_support import UnitSupport
from client.privacy import budget, hospital_level
from client.privacy.budget import DpSgdPlan
from client.privacy.checks import check_private_training
from client.privacy.dp_sgd import train_privately
from client.privacy.hospital_level import ContributionPlan
from client.privacy.noisy_counts import TrainingCounts, release_training_counts
from client.privacy.units import count_units
from client.requests.loaded_model import load_model, refuse_external
from client.requests.outgoing import build_update_reply
from client.site import Site, find_replaced_share, load_changed_training, load_site
from client.site_context import SiteContext
from client.training.local_update import TrainFunction, copy_weights, train_locally
from client.training.loop import Schedule, TrainingResult
from client.training.training_call import TrainingCall
from client.training.training_group import group_member
from common.arrays import Weights
from common.errors import SiteError
from common.replies import TrainReply
from common.reports import PrivacySpent, TrainReport
from common.requests import TrainRequest
from common.seeds import seed_for

stop_signal: ContextVar[threading.Event | None] = ContextVar("stop_signal", default=None)
"""Set by an engine that runs sites in its threads: Ctrl-C need not wait for an epoch to end."""


def handle_train(context: SiteContext, request: TrainRequest) -> TrainReply:
    """Train one round on the site's patients and return the update.

    Raises:
        SiteError: too few people train here, or the policy does not allow the run.
    """
    config = request.config
    refuse_external(context, config)
    loaded = load_model(context, request)
    site = loaded.site
    if site.train.people() < context.policy.min_training_patients:
        raise SiteError(TOO_FEW)
    # the unscaled site, whose content is what a simulated ledger is bound to
    unscaled = load_site(context, config)
    check_private_training(context, unscaled, config)
    start = time.perf_counter()
    counts = release_training_counts(context, unscaled, config)
    plan: DpSgdPlan | None = None
    contribution: ContributionPlan | None = None
    spent: PrivacySpent | None = None
    if config.privacy.kind == "hospital":
        weight = _contribution_weight(counts, config.federation.weights)
        contribution, spent = hospital_level.start_hospital_round(context, unscaled, request, weight)
    elif config.privacy.on:
        units = counts.examples if counts.noisy else count_units(unscaled.train, config.privacy.kind)
        plan, spent = budget.start_private_round(context, unscaled, request, units)
    update = train_locally(
        loaded.model, request, loaded.saved, _training_function(context, loaded.model, site, request, plan)
    )
    result = update.result
    report = TrainReport(examples=result.examples, privacy=spent, state="lost" if loaded.saved.lost else None)
    if contribution is None:  # at privacy.level=hospital these would reveal something of it, and whether it was drawn
        shared = context.policy.share_training_loss and result.loss and math.isfinite(result.loss[-1])
        report = TrainReport(
            examples=report.examples,
            privacy=report.privacy,
            state=report.state,
            loss=result.loss[-1] if shared else None,  # None where training is private
            steps=result.steps,
            epochs=len(result.loss) or config.training.epochs,
            stopped_early=result.stopped_early,
            seconds=round(time.perf_counter() - start, 3),
        )
    return build_update_reply(site.name, request.weights, update, report, contribution)


def _contribution_weight(counts: TrainingCounts, wanted: str) -> float:
    """Return what a hospital's contribution is multiplied by at privacy.level=hospital, before its cap."""
    return {"examples": float(counts.examples), "patients": float(counts.patients), "equal": 1.0}[wanted]


def _training_function(
    context: SiteContext, model: nn.Module, site: Site, request: TrainRequest, plan: DpSgdPlan | None
) -> TrainFunction:
    """Return the function that trains a model on a site's patients: privately by `plan`, or plainly."""
    config = request.config
    epochs = config.training.epochs
    schedule = Schedule((request.round - 1) * epochs, config.federation.rounds * epochs)
    policy, replaced = context.policy, find_replaced_share(context, config)
    training = site.train
    if not context.simulated and (plan is None or replaced):
        training = load_changed_training(context, config, request.scaling)

    def train(
        purpose: str, *, proximal: float = 0.0, anchor: Weights | None = None, correction: Weights | None = None
    ) -> TrainingResult:
        seed = seed_for(config.seed, site.name, request.round, purpose)
        if plan is not None:  # start_private_round refuses strategies that have a correction
            return train_privately(
                model,
                training,
                config.training,
                plan,
                seed,
                schedule=schedule,
                stop=stop_signal.get(),
                proximal=proximal,
                anchor=anchor,
                replaced=replaced,
            )
        call = TrainingCall(
            model,
            training,
            config.training,
            seed,
            counts=request.class_counts or training.class_counts(),
            total=request.total or len(training.y),
            schedule=schedule,
            validation=site.validation,
            stop=stop_signal.get(),
            proximal=proximal,
            anchor=anchor,
            correction=correction,
            replaced=replaced,
        )
        if policy.min_unit_patients <= 1 and not policy.update_noise:  # a simulation
            member = group_member.get()
            return call.run() if member is None else member.train(call)
        # a personal model does not leave, but the results on test patients do, and they show what it has learnt
        start = request.weights if purpose == "train" else copy_weights(model)
        support = UnitSupport(model, training, policy.min_unit_patients)
        with support.measure():
            result = call.run(support.set_rows)
        entropy = np.random.default_rng(secrets.randbits(128))
        support.protect(
            start,
            policy.min_unit_patients,
            policy.update_noise,
            config.training,
            entropy,
            unmeasured=allows(policy, UNMEASURED),
        )
        return result

    return train
