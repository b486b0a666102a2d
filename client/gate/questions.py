"""Digests by which a site recognises a run's settings, and a question that it has answered."""

from __future__ import annotations

import hashlib

from client.gate.weights import digest_weights
from common.config import config_to_json
from common.requests import ModelRequest


def digest_settings(request: ModelRequest) -> str:
    """Return a digest of what a run keeps from its first round to its last."""
    result = hashlib.sha256(config_to_json(request.config).encode())
    result.update(repr(request.method).encode() + b"\x1f" + request.scaling)
    return result.hexdigest()


def digest_question(request: ModelRequest) -> str:
    """Return a digest of what a request asks about: the model, and all else that changes its answer.

    The errors of counts depend on it. Were two models one question, such as the same weights under two scalings, or
    with what this site kept of two rounds, an answer that is not the same for both would show a person between them.
    """
    result = hashlib.sha256(digest_weights(request.weights).encode())
    result.update(digest_settings(request).encode())
    result.update(repr((getattr(request, "threshold", None), request.round, request.state_round)).encode())
    result.update(getattr(request, "latent", b""))
    return result.hexdigest()
