"""Answers to the server's requests, independent of Flower: handle(context, request) -> reply.

A simulation calls it in its own process, where opened sites stay resident; a hospital's client may be a new
process for each message, which then opens its site from the cache of prepared data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import TypeVar

import torch

from client.gate.admission import admit
from client.gate.audit_trail import AuditTrail
from client.gate.bounded_numbers import count_overflow
from client.gate.register import open_register
from client.gate.release import check_reply
from client.gate.tighten import tighten_policy
from client.requests.canary import handle_canary
from client.requests.domain_shift import handle_domain_shift
from client.requests.evaluate import handle_test, handle_validate
from client.requests.grow import handle_grow
from client.requests.handshake import handle_handshake
from client.requests.latent import handle_latent
from client.requests.scaling import handle_scaling
from client.requests.train import handle_train
from client.site_context import SiteContext
from common.errors import NotFiniteError
from common.replies import Reply
from common.requests import (
    CanaryRequest,
    DomainShiftRequest,
    FinalTestRequest,
    GrowRequest,
    HandshakeRequest,
    LatentRequest,
    Request,
    ScalingRequest,
    TrainRequest,
    ValidateRequest,
)

Kind = TypeVar("Kind", bound=Request)


def _accept(kind: type[Kind], answer: Callable[[SiteContext, Kind], Reply]) -> Callable[[SiteContext, Request], Reply]:
    """Return the function that answers one kind of request, as one that takes any request."""

    @wraps(answer)
    def checked(context: SiteContext, request: Request) -> Reply:
        if not isinstance(request, kind):
            raise TypeError(f"{answer.__name__} does not answer a {type(request).__name__}")
        return answer(context, request)

    return checked


HANDLERS: Mapping[type[Request], Callable[[SiteContext, Request], Reply]] = {
    HandshakeRequest: _accept(HandshakeRequest, handle_handshake),
    ScalingRequest: _accept(ScalingRequest, handle_scaling),
    TrainRequest: _accept(TrainRequest, handle_train),
    ValidateRequest: _accept(ValidateRequest, handle_validate),
    LatentRequest: _accept(LatentRequest, handle_latent),
    FinalTestRequest: _accept(FinalTestRequest, handle_test),
    DomainShiftRequest: _accept(DomainShiftRequest, handle_domain_shift),
    CanaryRequest: _accept(CanaryRequest, handle_canary),
    GrowRequest: _accept(GrowRequest, handle_grow),
}
"""The function that answers each type of request."""


def handle(context: SiteContext, request: Request) -> Reply:
    """Return the site's reply to a request.

    This is the only function that answers requests: the policy is checked before the work (`admit`), and the reply
    after it (`check_reply`). The decision and the reply are in the site's audit log before this returns or raises.

    Raises:
        WardroundError: the site cannot answer, or its policy forbids it; the error's text is for the site's own log.
    """
    if isinstance(request, TrainRequest) and request.validation is not None:
        raise TypeError("two requests of one message are answered one after the other")
    torch.set_num_threads(1)  # the number of threads changes the last digits of a sum, and so the weights
    trail = AuditTrail(context, request)
    with trail.record_errors("refused"):
        stricter = tighten_policy(context.policy, request.config.federation.site_policy)
        context = replace(context, policy=stricter, demands_privacy=context.relies_on_privacy)
        admit(context, request)
    trail.record_admission()
    try:
        with trail.record_errors("failed"):
            reply = HANDLERS[type(request)](context, request)
        with trail.record_errors("withheld"):
            check_reply(context, request, reply)
    except NotFiniteError:
        if context.simulated:
            raise
        # one person's value may be the cause, so the answer is always the same and not given often
        raise count_overflow(open_register(context), getattr(request, "run_id", "")) from None
    trail.record_release(reply)
    return reply
