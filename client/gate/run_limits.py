"""Limits of a policy on what a run may be: its task, model and strategy, when it asks, how large an update may be."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from client.gate.weights import measure_distance
from client.opening_hours import is_open
from client.policy import ANY, SitePolicy
from common.config import RunConfig
from common.errors import SiteError
from common.replies import TrainReply
from common.reply_arrays import name_arrays
from common.requests import ModelRequest, TrainRequest
from common.task import Task

KEEPING_STRATEGIES = {"control": ("scaffold",), "pull": ("ditto",), "local": ("fedbn", "fedper")}
"""Strategies that may ask a site to keep control variates, a personal model, or layers of its own."""


def check_run(policy: SitePolicy, config: RunConfig, now: datetime | None = None) -> None:
    """Refuse a run with a model or strategy that the policy does not allow, with code in a file, or outside of hours.

    Args:
        policy: the hospital's.
        config: the run.
        now: the time, with its zone; default: the clock's.

    Raises:
        SiteError: says what is allowed.
    """
    if config.model.file is not None:
        raise SiteError("model.file: code in a file does not run at a hospital, only models that are installed there")
    local = (now or datetime.now(UTC)).astimezone(ZoneInfo(policy.time_zone))
    if not is_open(policy.hours, local):
        raise SiteError(f"policy: this hospital answers only {', '.join(policy.hours)} ({policy.time_zone})")
    for what, name, allowed in (
        ("model", config.model.name, policy.allowed_models),
        ("strategy", config.federation.strategy.name, policy.allowed_strategies),
    ):
        if name not in allowed and ANY not in allowed:
            raise SiteError(f"policy: the {what} {name} is not allowed here (allowed: {', '.join(allowed) or 'none'})")


def check_task(policy: SitePolicy, config: RunConfig, task: Task) -> None:
    """Refuse a task that the policy names neither by its data set nor by its title.

    Raises:
        SiteError: says what is allowed.
    """
    if not {config.data.dataset, task.name, ANY} & set(policy.allowed_tasks):
        allowed = ", ".join(policy.allowed_tasks) or "none"
        raise SiteError(f"policy: the task {config.data.dataset} is not allowed here (allowed: {allowed})")


def check_method(policy: SitePolicy, request: ModelRequest) -> None:
    """Refuse a message that asks for more than the strategy of the configuration, where the policy names strategies.

    Raises:
        SiteError: says what was asked.
    """
    if ANY in policy.allowed_strategies:
        return
    name, method = request.config.federation.strategy.name, request.method
    requested = {"control": method.control, "pull": method.pull is not None, "local": bool(method.local)}
    for what, strategies in KEEPING_STRATEGIES.items():
        if requested[what] and name not in strategies:
            raise SiteError(f"policy: the strategy {name} does not do what this message asks for ({what})")


def check_update(policy: SitePolicy, request: TrainRequest, reply: TrainReply) -> None:
    """Refuse to send an update that has more bytes, or changes the weights more, than the policy allows.

    Raises:
        SiteError: the update exceeds a limit, which the message names.
    """
    if policy.max_update_bytes is not None:
        size = sum(value.nbytes for value in name_arrays(reply).values())
        if size > policy.max_update_bytes:
            raise SiteError(
                f"policy: an update of {size} bytes is above the {policy.max_update_bytes} allowed here "
                "(max_update_bytes): it is not sent"
            )
    if policy.max_update_norm is not None and not measure_change(request, reply) <= policy.max_update_norm:
        raise SiteError(
            f"policy: the update changes the weights by more than {policy.max_update_norm:g} (max_update_norm): it is "
            "not sent"
        )


def measure_change(request: TrainRequest, reply: TrainReply) -> float:
    """Return the Euclidean norm of an update: the distance from the weights that were sent, over all arrays.

    At privacy.level=hospital the reply is the weighted contribution itself, and its norm is returned.
    """
    if request.config.privacy.kind == "hospital":
        return math.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in reply.weights.values()))
    return measure_distance(request.weights, reply.weights)
