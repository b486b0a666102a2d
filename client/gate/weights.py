"""A check that a model which the server sends could come from this run.

The first round's weights are built again from the run's own seed, or their digest must be among those that the hospital
approved. Later ones must lie within a stated distance of the update that this hospital sent last in the run. That does
not prove that a server is honest: one that sends a crafted model every round, each a little further, stays within the
distance. It refuses a crafted model in the first round, and a sudden one later.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from client.gate.register import Register
from client.policy import SitePolicy
from common import files, models
from common.arrays import Weights
from common.config import RunConfig
from common.errors import SiteError
from common.task import Task

SAME = 1e-5
"""Largest difference between weights drawn from the same seed on different processors."""
SUFFIX = ".safetensors"
MAX_RUNS = 20
"""Number of runs whose last update is stored; older runs can no longer be tested."""


def check_first_weights(policy: SitePolicy, config: RunConfig, task: Task, weights: Weights) -> None:
    """Refuse a first round whose weights are neither those of the run's seed nor approved by the hospital.

    Raises:
        SiteError: says what the hospital would have to approve.
    """
    if policy.start_weights == "any":
        return
    digest = digest_weights(weights)
    if digest in policy.approved_weights:
        return
    fresh = models.build_model(task, config.model, config.seed).state_dict()
    for name, value in weights.items():
        own = fresh.get(name)
        if own is None or own.shape != value.shape or not np.allclose(own.numpy(), value, rtol=SAME, atol=SAME):
            raise SiteError(
                "policy: the first weights are not those of the run's seed; this hospital must approve them first "
                f"(approved_weights: {digest})"
            )


def digest_weights(weights: Weights) -> str:
    """Return the SHA-256 of a model's arrays, by name, as `approved_weights` holds it."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = np.asarray(weights[name], order="C")
        digest.update(f"{name}\x1f{value.dtype}\x1f{value.shape}\x1f".encode() + value.tobytes())
    return digest.hexdigest()


def get_update_path(register: Register, run: str) -> Path:
    """Return the file of a run's last update; one that does not exist where there is none."""
    folder = register.path.with_name("updates")
    return max(folder.glob(f"{run}.*{SUFFIX}"), default=folder / f"{run}.{0:09d}{SUFFIX}")


def keep_update(
    register: Register,
    run: str,
    sent: Weights,
    update: Weights,
    *,
    control: Weights | None = None,
    bounded: bool = True,
) -> None:
    """Store the weights that this hospital received and its update of them, for the check of the next weights.

    A new file is written and the run's earlier one removed: to replace a file takes many times as long, because file
    systems then write its content to the disk at once.

    `control`: the change of this hospital's control variates, if it keeps any.

    `bounded`: false where the update is no model, as at privacy.level=hospital, so that no distance is measured.
    """
    from safetensors.numpy import save

    before = get_update_path(register, run)
    if not before.exists():
        before.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _forget_old_runs(before.parent)
    longest = max(read_longest(before), measure_learning(update, sent))
    # layers that stay here are not in the update: what the server sends for them may not move at all
    arrays = {f"sent/{name}": np.asarray(value, order="C") for name, value in sent.items()}
    arrays |= {f"update/{name}": np.asarray(value, order="C") for name, value in update.items()}
    arrays["longest"] = np.asarray(longest if bounded else np.inf)
    change = measure_length(control or {})
    arrays["longest control"] = np.asarray(max(read_longest(before, "longest control"), change))
    number = int(before.name.split(".")[-2]) + 1
    files.write_bytes(before.with_name(f"{run}.{number:09d}{SUFFIX}"), save(arrays))
    before.unlink(missing_ok=True)


def _forget_old_runs(folder: Path) -> None:
    """Remove the updates of all runs but the last, so that there is room for one more."""
    stored = sorted(folder.glob(f"*{SUFFIX}"), key=lambda item: item.stat().st_mtime)
    for item in stored[: max(0, len(stored) - MAX_RUNS + 1)]:
        item.unlink(missing_ok=True)


def check_later_weights(policy: SitePolicy, register: Register, run: str, weights: Weights) -> None:
    """Refuse weights that lie further from this hospital's last update than the policy allows.

    The distance is a Euclidean norm over all arrays, divided by the norm of this hospital's longest update in the run
    (`max_weight_distance` of the policy).

    Raises:
        SiteError: there is no update of this run, or the weights lie too far from it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if policy.max_weight_distance is None:
        return
    try:
        previous = load(get_update_path(register, run).read_bytes())
    except FileNotFoundError:
        raise SiteError("policy: this hospital has not trained in this run, so it cannot check the weights") from None
    except (OSError, SafetensorError):
        raise SiteError("policy: this hospital's last update cannot be read, so it cannot check the weights") from None
    sent, update = (
        {name.removeprefix(kind): value for name, value in previous.items() if name.startswith(kind)}
        for kind in ("sent/", "update/")
    )
    if not math.isfinite(float(previous["longest"])):
        return
    update = sent | update
    if set(weights) != set(update) or any(weights[name].shape != value.shape for name, value in update.items()):
        raise SiteError("policy: the weights are not of the model that this hospital trained in this run")
    allowed = policy.max_weight_distance * float(previous["longest"]) + SAME * max(1, len(update)) ** 0.5
    if not measure_distance(weights, update) <= allowed:
        raise SiteError(
            "policy: the weights lie too far from this hospital's last update "
            f"(more than {policy.max_weight_distance:g} times the length of its longest)"
        )


def check_control(policy: SitePolicy, register: Register, run: str, number: int, control: Weights) -> None:
    """Refuse control variates (SCAFFOLD) that no honest server has: they move the weights as it likes.

    They are zero in the first round. Later they are a mean over sites and rounds of what sites have sent, and may be
    so many lengths of this hospital's longest change of its own as weights may be of its longest update.

    Raises:
        SiteError: they are larger.
    """
    if policy.max_weight_distance is None:
        return
    longest = read_longest(get_update_path(register, run), "longest control") if number > 1 else 0.0
    if not measure_length(control) <= policy.max_weight_distance * longest:
        raise SiteError("policy: the control variates are larger than this hospital's own in this run could make them")


def read_longest(path: Path, name: str = "longest") -> float:
    """Return the norm of the longest update so far; 0 if there is no readable one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return float(load(path.read_bytes())[name])
    except (OSError, KeyError, SafetensorError):
        return 0.0


def measure_length(weights: Weights) -> float:
    """Return the Euclidean norm over all arrays."""
    return math.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in weights.values()))


def measure_learning(update: Weights, sent: Weights) -> float:
    """Return the Euclidean length of an update without what only shrinks an array.

    Weight decay makes an update as long as the weights themselves. So each array's distance is that from the nearest
    of the multiples of what was sent, from 0 to 1.
    """
    total = 0.0
    for name in sorted(set(update) & set(sent)):
        after, before = update[name].astype(np.float64).ravel(), sent[name].astype(np.float64).ravel()
        size = float(before @ before)
        left = min(max(float(after @ before) / size, 0.0), 1.0) if size else 0.0
        total += float(((after - left * before) ** 2).sum())
    return math.sqrt(total)


def measure_distance(one: Weights, other: Weights) -> float:
    """Return the Euclidean distance between the arrays of `other` and those of the same names in `one`."""
    shared = [name for name in other if name in one]
    return math.sqrt(sum(float(((one[name].astype(np.float64) - other[name]) ** 2).sum()) for name in shared))
