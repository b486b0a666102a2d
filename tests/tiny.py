"""Tiny sites made of numbers, for tests that need a federation but no recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from client.policy import SitePolicy
from client.site import Site
from common import config
from common.config import RunConfig
from common.task import Task
from sites.cohort import SPLITS, Cohort

TASK = Task(
    "tiny", "multiclass", ("N", "V", "F"), ("normal", "ventricular", "fusion"), 1, 16, 125.0, ("rr",), ("lead",)
)


def cohort(seed: int, people: int = 6, each: int = 8, classes: Sequence[int] = (0, 1, 2)) -> Cohort:
    """Return `people * each` examples whose class shows in the signal's offset and the feature."""
    rng = np.random.default_rng(seed)
    n = people * each
    y = rng.choice(np.asarray(classes, dtype=np.int64), n) if n else np.zeros(0, np.int64)
    y[: len(classes)] = classes[: len(y[: len(classes)])]
    x = (rng.normal(size=(n, 1, TASK.samples)) + y[:, None, None]).astype(np.float32)
    features = (rng.normal(size=(n, 1)) + y[:, None]).astype(np.float32)
    names = tuple(f"{seed}-{i}" for i in range(people))
    owner = np.repeat(np.arange(people), each).astype(np.int64)
    return Cohort(TASK, x, features, y, owner, names, names, np.full(n, -1, np.int8))


def site(name: str, seed: int, whole: Cohort | None = None, parts: Sequence[int] = (0, 0, 0, 1, 2, 2)) -> Site:
    """Return a site; `parts` gives each person's split (0 train, 1 validation, 2 test)."""
    everyone = cohort(seed, people=len(parts)) if whole is None else whole
    split = np.asarray(parts, dtype=np.int8)[everyone.patient]
    assert set(parts) <= set(range(len(SPLITS)))
    return Site.from_cohort(name, everyone.with_split(split), synthetic=True)


def run_config(**sections: Any) -> RunConfig:
    """Return a configuration for a tiny model; `training__lr=0.1` sets training.lr."""
    raw: dict[str, Any] = {
        "name": "tiny",
        "model": {"name": "cnn", "options": {"widths": [4], "kernel": 3, "hidden": 4}},
        "training": {"batch_size": 8, "lr": 0.01, "device": "cpu"},
        "federation": {"rounds": 2, "round_timeout": 120.0, "connect_timeout": 120.0, "on_lost": "continue"},
        "evaluation": {"bootstrap": 20, "bins": 64},
    }
    for name, value in sections.items():
        *inner, last = name.split("__")
        place = raw
        for part in inner:
            place = place.setdefault(part, {})
        place[last] = value
    return config.parse_config(raw)


def policy(**values: Any) -> SitePolicy:
    """Return a policy for tiny sites: of few people, and with every digit; `values` are its other keys."""
    exact = {
        "min_training_patients": 1,
        "min_unit_patients": 0,
        "update_noise": 0.0,
        "record_noise": 0.0,
        "replaced_values": 0.0,
        "round_counts_to": 1,
        "default_max_epsilon": None,
    }
    return SitePolicy(**{**exact, "share_training_loss": True, **values})
