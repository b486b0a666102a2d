"""The growing phase: a round's trees, a depth with each message to the sites; of a forest all depths with one.

Sites send sums of gradients over their people; the server adds them, picks the splits, and sends these and the leaves'
values back, never a hospital's sums. The trees of a round grow at the same time, so a round needs as many messages as
the trees are deep, whatever their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from common import messages
from common.arrays import Weights
from common.config import RunConfig
from common.errors import EngineError
from common.messages import ARRAY_OVERHEAD
from common.models import boosting, forest
from common.replies import GrowReply
from common.reports import PrivacySpent, TrainReport
from common.requests import GrowRequest
from common.scaling import add_statistics
from common.task import Task
from common.tree_plan import draw_trees, plan_run
from common.trees import TreePlan
from server.leaf_values import LeafRules, set_leaf_values
from server.losses import stop_on_loss
from server.outcome import Outcome
from server.phases.charges import find_older_ledger, record_charges
from server.reply_checks import find_sums_fault, training_examples
from server.run import PhaseRequest, Run
from server.tree_splits import RoundGrower, SplitRules, compute_base


@dataclass(frozen=True)
class Grown:
    """What a round of growing gave.

    Attributes:
        weights: the model with the round's trees.
        trained: the report on the round by site, of those that answered for every depth.
        lost: why each other site did not.
        gains: by input, by how much the round's splits lower the training loss.
    """

    weights: Weights
    trained: dict[str, TrainReport]
    lost: dict[str, str]
    gains: dict[str, float]


def read_rules(config: RunConfig, task: Task, trees: int) -> SplitRules:
    """Return what splits of a round with so many trees must meet."""
    options = boosting.read_options(config)
    monotone = {task.features.index(name): sign for name, sign in options.monotone.items()}
    return SplitRules(
        l2=options.l2,
        min_people=options.min_people,
        min_hessian=options.min_hessian,
        min_gain=options.min_gain,
        monotone=monotone,
        step=options.learning_rate / max(trees, 1),
    )


def read_leaf_rules(config: RunConfig, trees: int) -> LeafRules:
    """Return how the leaves of a round with so many trees get their values."""
    options = forest.read_options(config)
    return LeafRules(options.l2, options.learning_rate / max(trees, 1))


def set_base(run: Run, weights: Weights) -> Weights:
    """Return the model with the log odds of the classes, from the training examples that sites stated, as its base.

    It is 0 where training is private: epsilon does not cover those numbers.
    """
    training = run.config.training
    if run.config.privacy.on:
        return weights
    power = 0.0 if training.loss == "cross_entropy" else training.weight_power
    outputs = len(weights["base"])
    base = compute_base(run.class_counts, run.total, outputs, power, labels=run.task.kind == "multilabel")
    return {**weights, "base": base.astype(np.float32)}


def grow_round(run: Run, number: int, weights: Weights, sites: list[str], outcome: Outcome) -> Grown:
    """Return the model with a round's trees.

    A site that is lost at some depth is left out of the later depths of the round.

    Raises:
        EngineError: fewer sites than `federation.min_sites` answered, or a site was lost and the run is to stop then.
    """
    plan = plan_run(run.config, run.task)
    first = {**weights, **draw_trees(plan)} if plan.drawn and number == 1 else weights
    trees = {name: value.copy() for name, value in (first if number > 1 else set_base(run, first)).items()}
    rules = None if plan.drawn else read_rules(run.config, run.task, len(plan.list_trees(number)))
    grower = RoundGrower(trees, plan, rules, number) if rules else None
    lost: dict[str, str] = {}
    stated: dict[str, PrivacySpent | None] = {}
    seconds = dict.fromkeys(sites, 0.0)
    present = list(sites)
    for depth in range(plan.messages):
        nodes = grower.count_open_nodes(depth) if grower else len(plan.list_trees(number))
        if not nodes:
            break
        answers = _ask(run, number, depth, list_shapes(plan, nodes), trees, present, lost, outcome)
        outcome.lost |= {site: f"round {number}: {why}" for site, why in lost.items()}
        stop_on_loss(run.config.federation, f"round {number}", lost)
        present = sorted(answers)
        stated = {site: answers[site].report.privacy for site in present}
        record_charges(run, number, stated, lost, outcome)
        if len(present) < run.config.federation.min_sites:
            why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
            raise EngineError(
                f"round {number}: {len(present)} of {len(sites)} sites answered, "
                f"{run.config.federation.min_sites} are needed ({why})"
            )
        for site in present:
            seconds[site] += answers[site].report.seconds
        merged = add_statistics(dict(answers[site].sums) for site in present)
        if grower:
            grower.split_nodes(depth, merged["gradient"], merged["hessian"], merged["people"])
        else:
            leaf_rules = read_leaf_rules(run.config, nodes)
            set_leaf_values(trees, plan, leaf_rules, number, merged["gradient"], merged["hessian"])
    trained = {
        site: TrainReport(
            examples=training_examples(run, site), seconds=round(seconds[site], 3), privacy=stated.get(site)
        )
        for site in present
    }
    gains = (
        {run.task.features[column]: round(gain, 6) for column, gain in sorted(grower.gains.items())} if grower else {}
    )
    return Grown(trees, trained, lost, gains)


def list_shapes(plan: TreePlan, nodes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a site's answer about some nodes, or about some trees that are drawn."""
    if plan.drawn:
        return dict.fromkeys(("gradient", "hessian"), (nodes, 2**plan.depth, plan.outputs))
    shape = (nodes, len(plan.draw_columns(0)), plan.cells)
    return {"gradient": (*shape, plan.outputs), "hessian": (*shape, plan.outputs), "people": shape}


def _ask(
    run: Run,
    number: int,
    depth: int,
    shapes: dict[str, tuple[int, ...]],
    trees: Weights,
    sites: list[str],
    lost: dict[str, str],
    outcome: Outcome,
) -> dict[str, GrowReply]:
    """Return the sites' sums for the open nodes of a depth; add those that sent none to `lost`."""
    request = GrowRequest(
        run.config,
        number,
        weights=trees,
        scaling=run.scaling,
        method=run.method,
        run_id=run.id,
        depth=depth,
        class_counts=run.class_counts,
        total=run.total,
    )
    outgoing = messages.build_messages(request, run.online_nodes(sites))

    def find_fault(reply: GrowReply, site: str) -> str:
        if reply.report.examples != training_examples(run, site):
            return "its sums are of another number of examples than it stated in the handshake"
        if fault := find_older_ledger(reply.report.privacy, site, outcome):
            return fault
        return find_sums_fault(reply.sums, shapes, ("gradient", "hessian"))

    size = sum(8 * math.prod(shape) + ARRAY_OVERHEAD for shape in shapes.values())
    answers, missing = run.collect(PhaseRequest("grow", number, sites, outgoing, GrowReply, find_fault, size))
    lost |= missing
    return {site: reply for site, (_, reply) in answers.items()}
