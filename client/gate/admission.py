"""What a request must meet before any work is done for it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np

from client.gate.guarded_settings import check_grain, check_settings
from client.gate.register import TOO_FEW, Register, open_register
from client.gate.weights import check_first_weights, check_later_weights, digest_weights
from client.privacy.checks import check_private_training
from client.site import Site, load_site
from client.site_context import SiteContext
from common.errors import SiteError
from common.requests import (
    FinalTestRequest,
    HandshakeRequest,
    LatentRequest,
    ModelRequest,
    Request,
    TrainRequest,
    ValidateRequest,
)
from sites.cohort import Cohort

SPLITS_OF_REQUEST: dict[type[Request], tuple[str, ...]] = {
    HandshakeRequest: ("train", "validation", "test"),
    ValidateRequest: ("validation",),
    FinalTestRequest: ("test",),
}
"""The splits whose people an answer rests on; of other requests: those who train."""


def admit(context: SiteContext, request: Request) -> None:
    """Refuse a request that the hospital's policy does not allow; a simulation's researcher holds all data anyway.

    Raises:
        SiteError: says what is not allowed; of counts always the same text.
        DataError: the register cannot be used.
    """
    if context.simulated:
        return
    policy, config = context.policy, request.config
    check_settings(policy, config)
    if isinstance(request, ValidateRequest | FinalTestRequest):
        check_grain(policy, config)
    site = load_site(context, config)
    check_private_training(context, site, config)
    register = open_register(context)
    check_people(register, site, request, context)
    if isinstance(request, ModelRequest):
        check_model(register, site, request, context)


def check_people(register: Register, site: Site, request: Request, context: SiteContext) -> None:
    """Refuse an answer that rests on too few people, or differs from an earlier one by too few.

    Raises:
        SiteError: says no more than that.
    """
    policy = context.policy
    run = getattr(request, "run_id", "")
    for split in SPLITS_OF_REQUEST.get(type(request), ("train",)):
        cohort: Cohort = getattr(site, split)
        floor = policy.min_training_patients if split == "train" else policy.min_cell_patients
        people = list_people(cohort)
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
    """Refuse a model that this run could not have reached, and more models than the policy answers for.

    Raises:
        SiteError: says which limit was reached.
    """
    policy, run = context.policy, request.run_id
    if isinstance(request, TrainRequest):
        if request.round <= 1:
            check_first_weights(policy, request.config, site.task, request.weights)
        elif not request.config.privacy.on:
            check_later_weights(policy, register, run, request.weights)
        # a round that is asked for again trains again, with other noise: each time counts
        asked = f"{request.round} {secrets.token_hex(16)}"
        register.ask(run, "training", asked, policy.max_rounds_per_run, policy.max_rounds_per_month)
        return
    if not request.config.privacy.on:
        check_later_weights(policy, register, run, request.weights)
    if isinstance(request, FinalTestRequest):
        limits = policy.max_tested_models_per_run, policy.max_tested_models_per_month
        register.ask(run, "a test", digest_weights(request.weights), *limits)
    elif isinstance(request, LatentRequest):
        register.ask(run, "latent sums", digest_weights(request.weights), 1, policy.max_tested_models_per_month)
    else:
        limits = policy.max_rounds_per_run, policy.max_rounds_per_month
        register.ask(run, "validation", digest_weights(request.weights), *limits)


def list_people(cohort: Cohort) -> list[str]:
    """Return the people who have examples in a cohort."""
    return sorted({cohort.persons[int(i)] for i in np.unique(cohort.patient)})


def list_group_people(cohort: Cohort, rows: Iterable[bool]) -> list[str]:
    """Return the people who have examples among `rows` of a cohort."""
    return sorted({cohort.persons[int(i)] for i in np.unique(cohort.patient[np.asarray(list(rows), dtype=bool)])})
