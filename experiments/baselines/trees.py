"""Boosted trees on data at one place: grown by the same steps as in the federation, without messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from client.requests.grow import draw_people
from client.training.histograms import TrainingTable
from client.training.loop import TrainingStopped
from common.arrays import Weights
from common.config import RunConfig
from common.models import boosting
from common.trees import empty_trees
from server.tree_splits import RoundGrower, SplitRules, compute_base
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
    options = boosting.read_options(config)
    plan = boosting.plan_trees(train.task, options, config.federation.rounds, config.seed)
    training, counts = config.training, tuple(train.class_counts())
    power = 0.0 if training.loss == "cross_entropy" else training.weight_power
    labels = train.task.kind == "multilabel"
    base = compute_base(counts, len(train.y), plan.outputs, power, labels=labels).astype(np.float32)
    trees: Weights = {**empty_trees(plan), "base": base}
    table = TrainingTable.from_cohort(train, plan, training, counts, len(train.y))
    monotone = {train.task.features.index(column): sign for column, sign in options.monotone.items()}
    for number in range(1, plan.rounds + 1):
        if stop is not None and stop.is_set():
            raise TrainingStopped("stopped before the end")
        step = options.learning_rate / max(len(plan.list_trees(number)), 1)
        rules = SplitRules(options.l2, options.min_people, options.min_hessian, options.min_gain, monotone, step)
        grower = RoundGrower(trees, plan, rules, number)
        for depth in range(plan.depth):
            if not grower.count_open_nodes(depth):
                break
            sums = table.sum_nodes(trees, number, depth, partial(draw_people, plan, name), measure=False)
            grower.split_nodes(depth, sums.gradient, sums.hessian, sums.people)
        model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in trees.items()})
        after_round(number - 1, model)
