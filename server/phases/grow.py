"""The growing phase: a round's trees, a depth with each message to the sites.

Sites send sums of gradients over their people; the server adds them, picks the splits, and sends these and the leaves'
values back, never a hospital's sums. The trees of a round grow at the same time, so a round needs as many messages as
the trees are deep, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common import messages
from common.arrays import Weights
from common.errors import EngineError
from common.messages import ARRAY_OVERHEAD
from common.models import boosting
from common.replies import GrowReply
from common.reports import TrainReport
from common.requests import GrowRequest
from common.scaling import add_statistics
from common.trees import TreePlan
from server.losses import stop_on_loss
from server.outcome import Outcome
from server.reply_checks import find_sums_fault, training_examples
from server.run import Run
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


def plan_run(run: Run) -> TreePlan:
    """Return the trees that a run grows."""
    return boosting.plan_trees(
        run.task, boosting.read_options(run.config), run.config.federation.rounds, run.config.seed
    )


def read_rules(run: Run, trees: int) -> SplitRules:
    """Return what splits of a round with so many trees must meet."""
    options = boosting.read_options(run.config)
    monotone = {run.task.features.index(name): sign for name, sign in options.monotone.items()}
    return SplitRules(
        l2=options.l2,
        min_people=options.min_people,
        min_hessian=options.min_hessian,
        min_gain=options.min_gain,
        monotone=monotone,
        step=options.learning_rate / max(trees, 1),
    )


def set_base(run: Run, weights: Weights) -> Weights:
    """Return the model with the log odds of the classes, from the training examples that sites stated, as its base."""
    training = run.config.training
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
    plan = plan_run(run)
    trees = {name: value.copy() for name, value in (weights if number > 1 else set_base(run, weights)).items()}
    grower = RoundGrower(trees, plan, read_rules(run, len(plan.list_trees(number))), number)
    lost: dict[str, str] = {}
    seconds = dict.fromkeys(sites, 0.0)
    present = list(sites)
    for depth in range(plan.depth):
        if not grower.count_open_nodes(depth):
            break
        answers = _ask(run, number, depth, plan, grower, present, lost)
        outcome.lost |= {site: f"round {number}: {why}" for site, why in lost.items()}
        stop_on_loss(run.config.federation, f"round {number}", lost)
        present = sorted(answers)
        if len(present) < run.config.federation.min_sites:
            why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
            raise EngineError(
                f"round {number}: {len(present)} of {len(sites)} sites answered, "
                f"{run.config.federation.min_sites} are needed ({why})"
            )
        for site in present:
            seconds[site] += answers[site].report.seconds
        merged = add_statistics(dict(answers[site].sums) for site in present)
        grower.split_nodes(depth, merged["gradient"], merged["hessian"], merged["people"])
    trained = {
        site: TrainReport(examples=training_examples(run, site), seconds=round(seconds[site], 3)) for site in present
    }
    gains = {run.task.features[column]: round(gain, 6) for column, gain in sorted(grower.gains.items())}
    return Grown(trees, trained, lost, gains)


def _ask(
    run: Run, number: int, depth: int, plan: TreePlan, grower: RoundGrower, sites: list[str], lost: dict[str, str]
) -> dict[str, GrowReply]:
    """Return the sites' sums for the open nodes of a depth; add those that sent none to `lost`."""
    nodes, columns = grower.count_open_nodes(depth), len(plan.draw_columns(0))
    shape = (nodes, columns, plan.cells)
    shapes = {"gradient": (*shape, plan.outputs), "hessian": (*shape, plan.outputs), "people": shape}
    request = GrowRequest(
        run.config,
        number,
        weights=grower.trees,
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
        return find_sums_fault(reply.sums, shapes, ("gradient", "hessian"))

    size = 8 * nodes * columns * plan.cells * (2 * plan.outputs + 1) + 3 * ARRAY_OVERHEAD
    answers, missing = run.collect("grow", number, sites, outgoing, GrowReply, find_fault, size)
    lost |= missing
    return {site: reply for site, (_, reply) in answers.items()}
