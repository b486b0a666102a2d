"""The ClientApp: unpacks each message, has it answered, and packs the reply.

It imports no torch, and sends no error text that may hold data.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.site_context import SiteContext, read_site_context
from common.errors import SiteError, WardroundError, describe_unexpected
from common.requests import Request, RequestKind, TrainRequest, ValidateRequest

if TYPE_CHECKING:
    from common.replies import Reply

log = logging.getLogger("wardround.site")

app = ClientApp()


@app.query()
def answer_handshake(message: Message, context: Context) -> Message:
    """Answer the handshake with the task, counts and device."""
    return answer_message("handshake", message, context)


@app.query("scaling")
def answer_scaling(message: Message, context: Context) -> Message:
    """Answer with sums over this site's training inputs, from which all sites' scaling is computed."""
    return answer_message("scaling", message, context)


@app.query("latent")
def answer_latent(message: Message, context: Context) -> Message:
    """Answer with sums over this site's training examples in the model's latent space."""
    return answer_message("latent", message, context)


@app.query("domain_shift")
def answer_domain_shift(message: Message, context: Context) -> Message:
    """Answer with aggregates of this site's columns, from which its distance to other sites is computed."""
    return answer_message("domain_shift", message, context)


@app.query("grow")
def answer_grow(message: Message, context: Context) -> Message:
    """Answer with sums of gradients over this site's training patients, from which trees are grown."""
    return answer_message("grow", message, context)


@app.query("canary")
def answer_canary(message: Message, context: Context) -> Message:
    """Answer what this site would refuse of a run, and how long a step takes here."""
    return answer_message("canary", message, context)


@app.train()
def answer_train(message: Message, context: Context) -> Message:
    """Train the model that was sent on this site's training patients."""
    return answer_message("train", message, context)


@app.evaluate()
def answer_validate(message: Message, context: Context) -> Message:
    """Count the model's predictions on this site's validation patients."""
    return answer_message("validate", message, context)


@app.evaluate("test")
def answer_test(message: Message, context: Context) -> Message:
    """Evaluate the model on this site's test patients."""
    return answer_message("test", message, context)


def answer_message(kind: RequestKind, message: Message, context: Context) -> Message:
    """Return the answer to one message; a failure is logged here in full and answered without data.

    A message to train may ask for a validation of the same weights too: each is answered as if it had come alone.
    """
    from common import messages  # with all that replies consist of: a node that only waits does not need it

    site: SiteContext | None = None
    try:
        site = read_site_context(context.node_config, str(context.run_id))
        request = _unpack_request(site, kind, message)
        if isinstance(request, TrainRequest) and request.validation is not None:
            return Message(_answer_both(site, request, request.validation), reply_to=message)
        from client.requests import handle

        return Message(messages.pack_reply(handle(site, request)), reply_to=message)
    except Exception as error:
        return Message(Error(code=messages.ERROR_CODE, reason=_report_error(site, kind, error)), reply_to=message)


def _answer_both(site: SiteContext, training: TrainRequest, validation: ValidateRequest) -> RecordDict:
    """Return the answers to a validation and then to a round of training, or the reason why there is none of one."""
    from client.requests import handle
    from common.joint_messages import pack_replies

    replies: dict[RequestKind, Reply | str] = {}
    for request in (validation, replace(training, validation=None)):
        try:
            replies[request.kind] = handle(site, request)
        except Exception as error:
            replies[request.kind] = _report_error(site, request.kind, error)
    return pack_replies(replies["train"], replies["validate"])


def _report_error(site: SiteContext | None, kind: RequestKind, error: Exception) -> str:
    """Write a failure into the site's own log, in full, and return the reason that the server may read."""
    from common import messages

    simulated = site is not None and site.simulated
    planned = isinstance(error, WardroundError)
    hidden = simulated and (planned or not os.environ.get("WARDROUND_DEBUG"))  # else the terminal would show data
    level = logging.DEBUG if hidden else logging.ERROR
    log.log(level, "%s failed: %s", kind, error, exc_info=error if not planned else None)
    name = site.site if site is not None and site.site else ""
    return messages.pack_error(name, type(error).__name__, _describe_safely(kind, error, simulated))


def _unpack_request(site: SiteContext, kind: RequestKind, message: Message) -> Request:
    """Return the request that a message holds; one that is none is refused, and the site's audit log says so."""
    from client.gate.audit_trail import record_unreadable
    from common import messages

    try:
        return messages.unpack_request(kind, message.content)
    except Exception as error:
        record_unreadable(site, kind, error)
        raise


def refuse_unreadable(node_config: Mapping[str, object], run: str, kind: str, error: Exception) -> None:
    """Write into a hospital's audit log that a message could not be opened at all; the reply says no more than that.

    Args:
        node_config: the settings that the node was started with.
        run: the server's number of the run.
        kind: Flower's type of the message.
        error: what was wrong with it.
    """
    from client.gate.audit_trail import record_unreadable

    try:
        record_unreadable(read_site_context(node_config, run), kind, error)
    except WardroundError as problem:
        log.error("%s", problem)


def _describe_safely(kind: RequestKind, error: Exception, simulated: bool) -> str:
    """Return what the server may read: a SiteError's text, or the error's type; of a simulation all planned texts."""
    if isinstance(error, SiteError) or (simulated and isinstance(error, WardroundError)):
        return (str(error).strip().splitlines() or [""])[0]
    if simulated:
        return f"unexpected {describe_unexpected(error)}"
    return f"{kind} failed with {type(error).__name__}; the site's own log says why"
