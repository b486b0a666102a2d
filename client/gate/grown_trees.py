"""A check that a model of trees which the server sends is one, and continues what this hospital helped to grow.

The first trees must stay as they were when this hospital last answered for a round: a model with other trees is not
evaluated here, so a server cannot have crafted trees count single people. Only the trees of the newest round, whose
last splits the hospital has not seen, may be new.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.gate.register import Register
from common import files
from common.arrays import Weights, pack_arrays, unpack_arrays
from common.errors import SiteError
from common.requests import GrowRequest
from common.tree_plan import draw_trees
from common.trees import TREE_ARRAYS, TreePlan, empty_trees, list_edges

MAX_LEAF = 100.0
"""Largest value of a leaf, up or down, in log odds."""
MAX_RUNS = 20
"""Number of runs whose last trees are kept."""


def check_trees(plan: TreePlan, trees: Weights) -> None:
    """Refuse arrays that are no trees over the plan's bins.

    Raises:
        SiteError: says so.
    """
    wanted = empty_trees(plan)
    fits = set(trees) == set(wanted) and all(
        trees[name].shape == like.shape and trees[name].dtype == like.dtype for name, like in wanted.items()
    )
    if not fits:
        raise SiteError("policy: the trees that came do not fit the model of the configuration")
    if plan.drawn:
        drawn = draw_trees(plan)
        if not all(np.array_equal(trees[name], drawn[name]) for name in ("feature", "threshold", "missing_left")):
            raise SiteError("policy: the trees that came split otherwise than the run's seed draws")
    split = trees["feature"] >= 0
    known = np.isin(trees["threshold"], list_edges(plan.bins)) | ~split
    good = (trees["feature"] >= -1).all() and (trees["feature"] < plan.inputs).all() and known.all()
    bounded = (np.abs(trees["value"].astype(np.float64)) <= MAX_LEAF).all() and (
        np.abs(trees["base"]) <= MAX_LEAF
    ).all()
    if not (good and bounded):
        raise SiteError(
            "policy: the trees that came split at other places than the edges of the bins, or are too large"
        )


def check_growing(plan: TreePlan, request: GrowRequest) -> None:
    """Refuse a request for histograms whose round or depth is none of the run's, or whose round has begun otherwise.

    Raises:
        SiteError: says so.
    """
    if not 1 <= request.round <= plan.rounds or not 0 <= request.depth < plan.messages:
        raise SiteError("policy: the round or the depth of the message is none of this run's")
    which = plan.list_trees(request.round)
    if plan.drawn:
        if request.weights["value"][which.start :].any():
            raise SiteError("policy: the trees that came have leaves that this round has not filled yet")
        return
    later = request.weights["feature"][which.stop :]
    deeper = request.weights["feature"][which.start : which.stop, 2**request.depth - 1 :]
    if (later >= 0).any() or (deeper >= 0).any():
        raise SiteError("policy: the trees that came have splits that this round has not grown yet")
    for tree in which:
        allowed = plan.draw_columns(tree)
        feature = request.weights["feature"][tree]
        if not np.isin(feature[feature >= 0], allowed).all():
            raise SiteError("policy: a tree splits by an input that it may not use in this run")


def get_trees_path(register: Register, run: str) -> Path:
    """Return the file of the trees that the server sent last for growing."""
    return register.path.parent / "trees" / f"{run}.safetensors"


def keep_trees(register: Register, run: str, trees: Weights, count: int) -> None:
    """Keep the first `count` trees that the server sent, whose growth is over."""
    path = get_trees_path(register, run)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        stored = sorted(path.parent.glob("*.safetensors"), key=lambda item: item.stat().st_mtime)
        for item in stored[: max(0, len(stored) - MAX_RUNS + 1)]:
            item.unlink(missing_ok=True)
    files.write_bytes(path, pack_arrays({**trees, "count": np.asarray([count], np.int64)}))


def check_continued(register: Register, run: str, plan: TreePlan, trees: Weights) -> None:
    """Refuse trees that do not continue those that this hospital helped to grow, or add more than a round's.

    Raises:
        SiteError: says so.
    """
    try:
        known = unpack_arrays(get_trees_path(register, run).read_bytes(), (*TREE_ARRAYS, "count"), "trees")
    except (OSError, ValueError):
        raise SiteError("policy: this hospital has grown no trees in this run, so it cannot check the model") from None
    done = int(known["count"][0])
    used = count_used(plan, trees)
    each = len(plan.list_trees(1))
    same = all(
        np.array_equal(trees[name][: min(done, used)], known[name][: min(done, used)]) for name in TREE_ARRAYS[1:]
    )
    if not same or not np.array_equal(trees["base"], known["base"]) or used > done + each:
        raise SiteError("policy: the trees that came are not those that this hospital helped to grow")


def count_used(plan: TreePlan, trees: Weights) -> int:
    """Return the number of trees up to the last that adds anything; splits that the seed draws add nothing."""
    grown = np.zeros(plan.trees, bool) if plan.drawn else (trees["feature"] >= 0).any(1)
    adds = np.flatnonzero((trees["value"] != 0).any((1, 2)) | grown)
    return int(adds[-1]) + 1 if len(adds) else 0
