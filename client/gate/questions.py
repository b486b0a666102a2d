"""Digests by which a site recognises a run's settings, and a question that it has answered."""

from __future__ import annotations

import hashlib
import math

from client.gate.register import open_register
from client.gate.weights import digest_weights
from client.policy import SitePolicy
from client.site_context import SiteContext
from common.arrays import Weights
from common.config import config_to_json
from common.metrics.table_names import NO_PERSONAL
from common.requests import FinalTestRequest, ModelRequest

QUESTION_KINDS = {"validation": "validation", "test": "a test"}
"""By split: the kind under which the register counts models that are evaluated on it."""


def find_error_growth(policy: SitePolicy, number: int) -> float:
    """Return how many times as large as `count_noise` the errors of an answer's counts are.

    With an error that is the same for each question, n questions make that of an average sqrt(n) times as small. With
    one that grows with the square root of the question's number, n questions are worth only as much as
    `precise_questions` times 1 + ln(n / `precise_questions`).

    >>> find_error_growth(SitePolicy(), 10), find_error_growth(SitePolicy(), 40)
    (1.0, 2.0)

    Args:
        policy: the hospital's.
        number: which question of its kind in 30 days it is, from 1.
    """
    if policy.precise_questions is None:
        return 1.0
    return math.sqrt(max(1.0, number / policy.precise_questions))


def digest_settings(request: ModelRequest) -> str:
    """Return a digest of what a run keeps from its first round to its last."""
    result = hashlib.sha256(config_to_json(request.config).encode())
    result.update(repr(request.method).encode() + b"\x1f" + request.scaling)
    return result.hexdigest()


def digest_question(request: ModelRequest, state: Weights, people: str) -> str:
    """Return a digest of what a request asks about: the model, and all else that changes its answer.

    The errors of counts depend on it. Were two models one question, such as the same weights under two scalings, or
    with two forms of what this site keeps, an answer that is not the same for both would show a person between them.
    The number of the round is not enough: a round that is trained again leaves another state, and so does another run.

    Args:
        request: about a model.
        state: what this site keeps of the run, as it is used to answer (client/training/state_files.py).
        people: a digest of the site's people: more of them may have come since the last time. It is that of all splits:
            a test and a validation of one model are one question about those who validate.
    """
    result = hashlib.sha256(digest_weights(request.weights).encode())
    result.update(digest_settings(request).encode())
    result.update(repr((getattr(request, "threshold", None), request.round, request.state_round)).encode())
    result.update(f"\x1f{digest_weights(state)}\x1f{people}\x1f".encode())
    result.update(getattr(request, "latent", b""))
    return result.hexdigest()


def digest_personal_question(question: str) -> str:
    """Return a digest of what is asked about a site's personal model, from that about the federated one."""
    return f"{question} personal"


def may_answer_personal_model(context: SiteContext, request: FinalTestRequest, question: str) -> bool:
    """Return whether a run has personal models, and the limits of tested models left room for this site's.

    A simulation has no limits.

    Args:
        context: the site's.
        request: admitted before.
        question: its digest (`digest_question`).
    """
    if request.method.pull is None or context.simulated:
        return request.method.pull is not None
    digest = digest_personal_question(question)
    return open_register(context).has_counted(request.run_id, QUESTION_KINDS["test"], digest)


def describe_limit(policy: SitePolicy) -> str:
    """Return the note of a site that answers for the federated model alone."""
    limits = ((policy.max_tested_models_per_run, "a run"), (policy.max_tested_models_per_month, "30 days"))
    each = " and ".join(f"{limit} in {span}" for limit, span in limits if limit is not None)
    return f"{NO_PERSONAL}, because this site's policy leaves no second model to be tested (at most {each})"
