"""Answers to the training phase: an update of the model."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import Any

from torch import nn

from client.privacy import budget, hospital_level, noisy_counts
from client.privacy.checks import check_private_training
from client.privacy.dp_sgd import train_privately
from client.privacy.units import count_units
from client.requests.outgoing import build_update_reply
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training import local_update
from client.training.local_update import SavedState
from client.training.loop import Schedule, TrainingResult, train_model
from common.errors import SiteError
from common.messages import Reply, Request
from common.seeds import seed_for

stop_signal: ContextVar[threading.Event | None] = ContextVar("stop_signal", default=None)
"""Set by an engine that runs sites in threads of its own: Ctrl-C need not wait for an epoch to end."""


def handle_train(place: SiteContext, site: Site, model: nn.Module, request: Request, kept: SavedState) -> Reply:
    """Train one round on the site's patients and return the update."""
    config = request.config
    have = site.train.people()
    if have < place.policy.min_training_patients:
        raise SiteError(f"policy: fewer than {place.policy.min_training_patients} people to train on")
    check_private_training(place, load_site(place, config), config)
    began = time.perf_counter()
    epochs = config.training.epochs
    schedule = Schedule((request.round - 1) * epochs, config.federation.rounds * epochs)
    # the unscaled site, whose content is what a simulated ledger is bound to
    whole = load_site(place, config)
    held = noisy_counts.release_training_counts(place, whole, config)
    weight = {"examples": float(held.examples), "patients": float(held.patients), "equal": 1.0}[
        config.federation.weights
    ]
    plan, share = None, None
    spent: dict[str, Any] = {}
    if config.privacy.kind == "hospital":
        share, spent = hospital_level.start_hospital_round(place, whole, request, weight)
    elif config.privacy.on:
        units = held.examples if held.noisy else count_units(whole.train, config.privacy.kind)
        plan, spent = budget.start_private_round(place, whole, request, units)

    def fit_here(purpose: str, **more: Any) -> TrainingResult:
        seed = seed_for(config.seed, site.name, request.round, purpose)
        if plan is not None:
            more.pop("correction", None)  # begin() refuses strategies that have one
            return train_privately(
                model, site.train, config.training, plan, seed, schedule=schedule, stop=stop_signal.get(), **more
            )
        return train_model(
            model,
            site.train,
            config.training,
            seed,
            counts=request.class_counts or site.train.class_counts(),
            total=request.total or len(site.train.y),
            schedule=schedule,
            validation=site.validation,
            stop=stop_signal.get(),
            **more,
        )

    update = local_update.train_locally(model, request, kept, fit_here)
    result = update.result
    report: dict[str, Any] = {
        **({"loss": result.loss[-1]} if result.loss else {}),  # a private run tells no loss of its patients
        "steps": result.steps,
        "epochs": len(result.loss) or epochs,
        "stopped_early": result.stopped_early,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if share is not None:
        report = {}  # loss and time would tell of this hospital, and whether it was drawn
    if spent:
        report["privacy"] = spent
    if kept.lost:
        report["state"] = "lost"
    return build_update_reply(site.name, request.weights, update, report, weight, share)
