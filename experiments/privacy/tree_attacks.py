"""Attacks of experiments/privacy/gate_audit.py on the sums from which trees are grown."""

from __future__ import annotations

import secrets

import numpy as np

from client import input_scaling
from client.site import Site, load_site
from common.replies import GrowReply
from common.requests import GrowRequest
from common.tree_plan import draw_trees, plan_run
from common.trees import bin_inputs, empty_trees, find_nodes
from experiments.privacy.gate_attacks import AttackResult, Coordinator

FINE_BINS = 512
"""Bins of an input: as many as the model takes."""
LEAF_TOLERANCE = 1e-3
"""Largest error of a person's part that counts as found; by chance, with the gate's noise, one person in a thousand."""


def attack_tree_histograms(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Read the outcome of each person who is alone in a bin of the root's histograms.

    Other participants rebuild rows from such sums in today's federated boosters (Di Gennaro et al. 2025, TimberStrike,
    arXiv:2506.07605): bins as fine as possible, every person in every tree, and sums of one person in a bin.
    """
    options = {"trees": 1, "depth": 1, "bins": FINE_BINS, "sample": 1.0, "columns": 1.0}
    config = coordinator.change_config(
        model={"name": "boosting", "options": options}, data__scaling="bins", federation__rounds=1,
        federation__strategy={"name": "fedavg"}, training__loss="cross_entropy",
    )  # fmt: skip
    site = load_site(coordinator.context, config)
    scaling = input_scaling.fit_scaling([site.train], "bins")
    assert scaling is not None
    plan = plan_run(config, site.task)
    reply = coordinator.ask(
        GrowRequest(config, 1, weights=empty_trees(plan), scaling=scaling.to_bytes(), run_id=secrets.token_hex(16))
    )
    binned = bin_inputs(input_scaling.apply_scaling(site.train, scaling).features, plan.bins)
    people, alone, recovered = site.train.people(), set(), set()
    for column in range(binned.shape[1]):
        count = np.bincount(binned[:, column], minlength=plan.cells)
        for row in np.flatnonzero(count[binned[:, column]] == 1):
            alone.add(int(row))
            if not isinstance(reply, GrowReply):
                continue
            at = 0, column, binned[row, column]
            part = float(reply.sums["gradient"][at][0])  # at log odds of 0: 1/2 less the outcome
            single = abs(float(reply.sums["people"][at]) - 1) < 0.01 and abs(abs(part) - 0.5) < 0.01
            if single and (part < 0) == bool(site.train.y[row]):
                recovered.add(int(row))
    return coordinator.result("one person in a bin of trees' histograms", len(recovered), min(len(alone), people))


def attack_leaf_sums(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Solve for the outcome of each person, whose inputs are known, from the leaves of a forest's trees.

    Each person is in one leaf of each tree, so 300 trees give many more sums than there are people: least squares find
    each person's part. It counts as found where it is what one of the outcomes gives, to LEAF_TOLERANCE.
    """
    from scipy import sparse
    from scipy.sparse.linalg import lsqr

    trees, depth = 300, 4
    config = coordinator.change_config(
        model={"name": "forest", "options": {"trees": trees, "depth": depth}}, data__scaling="bins",
        federation__rounds=1, federation__strategy={"name": "fedavg"}, training__loss="cross_entropy",
    )  # fmt: skip
    site = load_site(coordinator.context, config)
    scaling = input_scaling.fit_scaling([site.train], "bins")
    assert scaling is not None
    plan = plan_run(config, site.task)
    drawn = draw_trees(plan)
    reply = coordinator.ask(
        GrowRequest(config, 1, weights=drawn, scaling=scaling.to_bytes(), run_id=secrets.token_hex(16))
    )
    x, recovered = input_scaling.apply_scaling(site.train, scaling).features, 0
    if isinstance(reply, GrowReply):
        leaf = np.concatenate([find_nodes(drawn, tree, x, depth) + tree * 2**depth for tree in range(trees)])
        inside = sparse.csr_matrix((np.ones(len(leaf)), (leaf, np.tile(np.arange(len(x)), trees))))
        wanted = reply.sums["gradient"][..., 0].reshape(-1)[: inside.shape[0]]
        part = lsqr(inside, wanted, atol=1e-12, btol=1e-12, iter_lim=5000)[0]  # at log odds of 0: 1/2 less the outcome
        recovered = int((np.abs(part - (0.5 - site.train.y)) < LEAF_TOLERANCE).sum())
    return coordinator.result("everyone's part of a forest's leaves", recovered, len(x))


TREE_ATTACKS = (attack_tree_histograms, attack_leaf_sums)
