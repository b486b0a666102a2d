"""Answers to the growing phase: histograms of gradients at open nodes, or sums of leaves of trees that are drawn."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time

import numpy as np
import numpy.typing as npt

from client.gate.grown_trees import check_growing, check_trees
from client.gate.leaf_sums import release_leaf_sums
from client.gate.questions import digest_question
from client.gate.register import TOO_FEW, open_register
from client.gate.tree_sums import release_node_sums
from client.privacy.checks import check_private_training
from client.privacy.noisy_counts import release_training_counts
from client.privacy.noisy_leaf_sums import release_noisy_leaf_sums
from client.privacy.units import count_units, digest_people
from client.requests.loaded_model import refuse_external
from client.site import find_replaced_share, load_changed_training, load_scaled_site, load_site
from client.site_context import SiteContext
from client.training.histograms import TrainingTable
from client.training.leaf_sums import find_leaf_rows
from common.config import config_to_json
from common.errors import SiteError
from common.replies import GrowReply, Sums
from common.reports import GrowReport
from common.requests import GrowRequest
from common.seeds import rng_for
from common.tree_plan import plan_run
from common.trees import TreePlan
from sites.cohort import Cohort

_tables: dict[tuple[SiteContext, int], tuple[Cohort, str, TrainingTable]] = {}
"""By context and thread, the training examples prepared last, a digest of what for, and their table."""


def handle_grow(context: SiteContext, request: GrowRequest) -> GrowReply:
    """Return sums of gradients of the site's training people, for each bin of each input at each open node.

    Of trees whose splits are drawn by the seed, they are those of each leaf.

    Raises:
        SiteError: too few people train here, the message does not fit the run, or the policy does not allow it.
    """
    start = time.perf_counter()
    config = request.config
    refuse_external(context, config)
    site = load_scaled_site(context, config, request.scaling)
    if site.train.people() < context.policy.min_training_patients:
        raise SiteError(TOO_FEW)
    unscaled = load_site(context, config)
    check_private_training(context, unscaled, config)
    plan = plan_run(config, site.task)
    check_trees(plan, request.weights)
    check_growing(plan, request)
    exact = context.simulated or (config.privacy.on and not find_replaced_share(context, config))
    train = site.train if exact else load_changed_training(context, config, request.scaling)
    table = _load_table(context, train, plan, request)
    examples, spent = len(site.train.y), None
    if config.privacy.on:
        counts = release_training_counts(context, unscaled, config)
        examples = counts.examples
        units = examples if counts.noisy else count_units(unscaled.train, config.privacy.kind)
        rows = find_leaf_rows(table, request.weights, request.round)
        released, spent = release_noisy_leaf_sums(context, unscaled, rows, request, units)
    else:
        if plan.drawn:
            released = _sum_by_leaf(context, digest_people(train), plan, table, request)
        else:
            released = _sum_nodes(context, site.name, plan, table, request)
    report = GrowReport(examples=examples, seconds=round(time.perf_counter() - start, 3), privacy=spent)
    return GrowReply(site.name, report, sums=released)


def _sum_nodes(context: SiteContext, name: str, plan: TreePlan, table: TrainingTable, request: GrowRequest) -> Sums:
    """Return the histograms of open nodes as they may leave the site."""
    secret = b"" if context.simulated else open_register(context).read_secret()

    def draw(tree: int, people: int) -> npt.NDArray[np.bool_]:
        return draw_people(plan, name, tree, people, secret)

    sums = table.sum_nodes(request.weights, request.round, request.depth, draw, measure=not context.simulated)
    if context.simulated:
        return {"gradient": sums.gradient, "hessian": sums.hessian, "people": sums.people}
    return release_node_sums(sums, context.policy, np.random.default_rng(secrets.randbits(128)))


def digest_sums(context: SiteContext, request: GrowRequest, people: str) -> bytes:
    """Return a digest of all that sums of leaves depend on.

    With less, answers that differ would have the same errors, in two sizes, and could be solved for the sums: the
    numbers of examples of each class, which the server states, weigh the gradients.

    Args:
        context: whose policy sets the size of errors and how records are changed.
        request: what is asked.
        people: a digest of those who train.
    """
    result = hashlib.sha256(digest_question(request, {}, people).encode())
    result.update(repr((request.run_id, request.depth, request.class_counts, request.total)).encode())
    policy = context.policy
    result.update(repr((policy.update_noise, policy.record_noise, policy.replaced_values)).encode())
    return result.digest()


def _sum_by_leaf(context: SiteContext, people: str, plan: TreePlan, table: TrainingTable, request: GrowRequest) -> Sums:
    """Return the sums of the leaves of a round's trees as they may leave the site.

    `people`: a digest of those who train.
    """
    rows = find_leaf_rows(table, request.weights, request.round)
    if context.simulated:
        gradient, hessian = rows.sum_by_leaf()
        return {"gradient": gradient, "hessian": hessian}
    words = hashlib.sha256(
        open_register(context).read_secret() + b"leaves" + digest_sums(context, request, people)
    ).digest()
    rng = np.random.default_rng(int.from_bytes(words, "big"))
    return release_leaf_sums(rows, table.person, table.people, context.policy, rng)


def draw_people(plan: TreePlan, site: str, tree: int, people: int, secret: bytes = b"") -> npt.NDArray[np.bool_]:
    """Return which of a site's people a tree is grown on; a hospital draws them by a secret of its own."""
    if plan.sample >= 1:
        return np.ones(people, dtype=bool)
    if secret:
        words = hashlib.sha256(secret + f"{plan.seed}\x1f{tree}".encode()).digest()
        return np.random.default_rng(int.from_bytes(words[:16], "big")).random(people) < plan.sample
    return np.asarray(rng_for(plan.seed, site, "people", tree).random(people) < plan.sample)


def _load_table(context: SiteContext, train: Cohort, plan: TreePlan, request: GrowRequest) -> TrainingTable:
    """Return the table of the training examples, kept by each thread while it is asked about the same run."""
    key = hashlib.sha256(
        repr((plan, request.class_counts, request.total, request.run_id)).encode()
        + config_to_json(request.config).encode()
    ).hexdigest()
    owner = context, threading.get_ident()
    last = _tables.get(owner)
    if last is not None and last[0] is train and last[1] == key:
        return last[2]
    table = TrainingTable.from_cohort(
        train,
        plan,
        request.config.training,
        request.class_counts,
        request.total,
        find_replaced_share(context, request.config),
    )
    _tables[owner] = train, key, table
    return table


def forget_tables() -> None:
    """Drop the tables that this process holds."""
    _tables.clear()
