"""The ClientApp: a thin shim. It imports no torch itself, and lets no error text with data leave the site."""

from __future__ import annotations

import logging

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.site_context import SiteContext, read_site_context
from common import messages
from common.errors import SiteError, WardroundError
from common.messages import RequestKind

log = logging.getLogger("wardround.site")

app = ClientApp()


@app.query()
def answer_handshake(message: Message, context: Context) -> Message:
    """Answer the handshake with the task's fingerprint and counts."""
    return answer_message("hello", message, context)


@app.query("statistics")
def answer_scaling(message: Message, context: Context) -> Message:
    """Answer with sums over this site's training inputs, from which all sites' scaling is made."""
    return answer_message("statistics", message, context)


@app.query("latent")
def answer_latent(message: Message, context: Context) -> Message:
    """Answer with sums over what the model makes of this site's training examples in its latent space."""
    return answer_message("latent", message, context)


@app.query("shift")
def answer_domain_shift(message: Message, context: Context) -> Message:
    """Answer with aggregates of this site's columns, from which its distance to other sites is computed."""
    return answer_message("shift", message, context)


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
    """Count the model's predictions on this site's test patients."""
    return answer_message("test", message, context)


def answer_message(kind: RequestKind, message: Message, context: Context) -> Message:
    """Handle one message; what fails is logged here in full and answered without data."""
    place: SiteContext | None = None
    try:
        place = read_site_context(context.node_config)
        from client import requests as work

        request = messages.unpack_request(kind, message.content)
        return Message(messages.pack_reply(work.handle(place, request)), reply_to=message)
    except Exception as error:
        simulated = place is not None and place.simulated
        planned = isinstance(error, WardroundError)
        level = logging.DEBUG if simulated and planned else logging.ERROR  # a simulation's reply tells all
        log.log(level, "%s failed: %s", kind, error, exc_info=not planned)
        name = place.site if place is not None and place.site else ""
        reason = messages.pack_error(name, type(error).__name__, _safe(kind, error, simulated))
        return Message(Error(code=messages.ERROR_CODE, reason=reason), reply_to=message)


def _safe(kind: str, error: Exception, simulated: bool) -> str:
    """Return what the server may read: a SiteError's text, or the kind of error; a simulation tells all."""
    if isinstance(error, SiteError) or simulated:
        text = str(error).strip().splitlines() or [""]
        return text[0] if isinstance(error, WardroundError) else f"{type(error).__name__}: {text[0]}"
    return f"{kind} failed with {type(error).__name__}; the site's own log says why"
