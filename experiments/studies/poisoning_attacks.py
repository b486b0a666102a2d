"""What a dishonest hospital sends instead of its update (experiments/studies/poisoning.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from client.requests import handle
from client.requests.loaded_model import load_model
from client.requests.outgoing import build_update_reply
from client.site_context import SiteContext
from client.training.local_update import train_locally
from client.training.loop import Schedule, TrainingResult, train_model
from common.replies import HandshakeReply, TrainReply
from common.reports import TrainReport
from common.requests import TrainRequest
from common.seeds import seed_for

Array = npt.NDArray[Any]
FALSE_FACTOR = 1000
"""By how much an attacker that states false counts multiplies its own."""


@dataclass(frozen=True)
class Turn:
    """A round of an attacker.

    Attributes:
        context: the attacker's site.
        request: what the server asks.
        rng: random numbers of the attacker and round.
        fixed: random numbers that are the same in every round.
    """

    context: SiteContext
    request: TrainRequest
    rng: np.random.Generator
    fixed: np.random.Generator


Attack = Callable[[Turn], TrainReply]
"""Returns what an attacker answers to a request to train."""


def scale_update(factor: float) -> Attack:
    """Return the attack that multiplies the honest update; a factor below 0 turns it around."""

    def attack(turn: Turn) -> TrainReply:
        start = turn.request.weights
        return _replace_weights(turn, lambda name, trained: start[name] + factor * (trained - start[name]))

    return attack


def send_random_model(turn: Turn) -> TrainReply:
    """Return a model of standard normal numbers, drawn anew in each round."""
    return _replace_weights(turn, lambda name, trained: turn.rng.normal(size=trained.shape))


def send_far_model(turn: Turn) -> TrainReply:
    """Return a model whose weights are 1000 or -1000 at random, the same in each round."""
    return _replace_weights(turn, lambda name, trained: turn.fixed.choice([-1000.0, 1000.0], trained.shape))


def claim_many_examples(turn: Turn) -> TrainReply:
    """Return a turned and scaled update that claims to come from 1e12 examples."""
    reply = scale_update(-10)(turn)
    return replace(reply, report=reply.report.model_copy(update={"examples": 10**12}))


def turn_and_state_false_counts(turn: Turn) -> TrainReply:
    """Return the turned update of a site that states FALSE_FACTOR times its examples, as in its handshake."""
    reply = scale_update(-1)(turn)
    examples = FALSE_FACTOR * reply.report.examples
    return replace(reply, report=reply.report.model_copy(update={"examples": examples}))


def multiply_counts(reply: HandshakeReply) -> HandshakeReply:
    """Return a handshake that states FALSE_FACTOR times the site's training examples and patients."""
    counts = reply.report.counts
    train = counts.train.model_copy(
        update={
            "patients": FALSE_FACTOR * counts.train.patients,
            "examples": FALSE_FACTOR * counts.train.examples,
            "classes": tuple(FALSE_FACTOR * (count or 0) for count in counts.train.classes),
        }
    )
    false = reply.report.model_copy(update={"counts": counts.model_copy(update={"train": train})})
    return replace(reply, report=false)


def train_on_flipped_labels(turn: Turn) -> TrainReply:
    """Return an honestly computed update of the site's patients with their labels reversed."""
    request = turn.request
    loaded = load_model(turn.context, request)
    config, cohort = request.config, loaded.site.train
    flipped = replace(cohort, y=len(cohort.task.classes) - 1 - cohort.y)
    epochs = config.training.epochs
    schedule = Schedule((request.round - 1) * epochs, config.federation.rounds * epochs)

    def train(purpose: str, **more: Any) -> TrainingResult:
        seed = seed_for(config.seed, loaded.site.name, request.round, purpose)
        counts = request.class_counts or flipped.class_counts()
        return train_model(loaded.model, flipped, config.training, seed, counts=counts, schedule=schedule, **more)

    update = train_locally(loaded.model, request, loaded.saved, train)
    report = TrainReport(examples=update.result.examples)
    return build_update_reply(loaded.site.name, request.weights, update, report)


ATTACKS: dict[str, Attack] = {
    "sign flip": scale_update(-1),
    "scaling ×10": scale_update(10),
    "sign flip ×10": scale_update(-10),
    "random model": send_random_model,
    "far model": send_far_model,
    "flipped labels": train_on_flipped_labels,
    "claim of 1e12 examples": claim_many_examples,
    "sign flip, false counts": turn_and_state_false_counts,
}


def _replace_weights(turn: Turn, change: Callable[[str, Array], Array]) -> TrainReply:
    """Return the honest reply with each array of the model changed, in the array's own precision."""
    reply = handle(turn.context, turn.request)
    assert isinstance(reply, TrainReply)
    weights = {name: np.asarray(change(name, value), value.dtype) for name, value in reply.weights.items()}
    return replace(reply, weights=weights)
