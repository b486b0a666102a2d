"""Boosted trees and forests on data at one place: grown by the same steps as in the federation, without messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from client.requests.grow import draw_people
from client.training.histograms import TrainingTable
from client.training.leaf_sums import find_leaf_rows
from client.training.loop import TrainingStopped
from common.arrays import Weights
from common.config import RunConfig
from common.task import Task
from common.tree_plan import draw_trees, plan_run
from common.trees import empty_trees
from server.leaf_values import set_leaf_values
from server.phases.grow import read_leaf_rules, read_rules
from server.tree_splits import RoundGrower, compute_base
from sites.cohort import Cohort


def grow_trees(
    model: nn.Module,
    train: Cohort,
    config: RunConfig,
    name: str,
    after_round: Callable[[int, nn.Module], None] = lambda number, model: None,
    stop: threading.Event | None = None,
) -> None:
    """Grow a run's trees on a cohort, in a model of trees.

    Args:
        model: changed in place.
        train: at least one example, with inputs scaled by ranks.
        config: the run.
        name: goes into the seed of the people that each tree is grown on.
        after_round: called with the round, from 0, and the model after each round.
        stop: set to end early.
    """
    plan, training, counts = plan_run(config, train.task), config.training, tuple(train.class_counts())
    power = 0.0 if training.loss == "cross_entropy" else training.weight_power
    labels = train.task.kind == "multilabel"
    base = compute_base(counts, len(train.y), plan.outputs, power, labels=labels).astype(np.float32)
    trees: Weights = {**(draw_trees(plan) if plan.drawn else empty_trees(plan)), "base": base}
    table = TrainingTable.from_cohort(train, plan, training, counts, len(train.y))
    grow = _fill_round if plan.drawn else _grow_round
    for number in range(1, plan.rounds + 1):
        if stop is not None and stop.is_set():
            raise TrainingStopped("stopped before the end")
        grow(trees, table, config, train.task, number, name)
        model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in trees.items()})
        after_round(number - 1, model)


def _fill_round(trees: Weights, table: TrainingTable, config: RunConfig, task: Task, number: int, name: str) -> None:
    """Fill the leaves of a round's trees, whose splits are drawn."""
    rules = read_leaf_rules(config, len(table.plan.list_trees(number)))
    set_leaf_values(trees, table.plan, rules, number, *find_leaf_rows(table, trees, number).sum_by_leaf())


def _grow_round(trees: Weights, table: TrainingTable, config: RunConfig, task: Task, number: int, name: str) -> None:
    """Grow a round's trees depth by depth."""
    plan = table.plan
    grower = RoundGrower(trees, plan, read_rules(config, task, len(plan.list_trees(number))), number)
    for depth in range(plan.depth):
        if not grower.count_open_nodes(depth):
            break
        sums = table.sum_nodes(trees, number, depth, partial(draw_people, plan, name), measure=False)
        grower.split_nodes(depth, sums.gradient, sums.hessian, sums.people)
