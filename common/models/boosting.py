"""Boosted trees on the inputs that are features: hospitals send histograms of gradients, and the server picks splits.

Each round grows some trees at the same time, a depth with each message (server/phases/grow.py). All trees of a round
are grown from the same gradients, each on another sample of the people and the inputs, and each adds its share of the
learning rate: boosting of small forests. Sources: Chen and Guestrin 2016 (XGBoost, KDD, equations 5 to 7), Ke et al.
2017 (LightGBM, NeurIPS).

It needs data.scaling=bins, which is the default with it. Two classes have one tree for the log odds; more classes, or
labels, have trees whose leaves hold a number for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from common.errors import ConfigError
from common.settings import Section
from common.task import Task
from common.trees import TreePlan, count_outputs, empty_trees

if TYPE_CHECKING:
    from common.config import RunConfig

GROWS_TREES = True


class Options(Section):
    """Options of boosted trees."""

    trees: int = Field(300, ge=1, le=5000, description="trees; each round grows trees / federation.rounds of them")
    depth: int = Field(4, ge=1, le=8, description="splits between the root and a leaf")
    bins: int = Field(64, ge=4, le=512, description="bins of an input, by its merged distribution")
    learning_rate: float = Field(0.2, gt=0, le=1, description="share of each round's step that is taken")
    l2: float = Field(1.0, ge=0, le=1e6, description="added to the sum of second derivatives of a leaf")
    min_people: float = Field(5.0, ge=0, description="smallest number of people in a leaf, all hospitals together")
    min_hessian: float = Field(1e-3, ge=0, description="smallest sum of second derivatives in a leaf")
    min_gain: float = Field(0.0, ge=0, description="smallest decrease of the loss by a split")
    sample: float = Field(0.5, gt=0, le=1, description="share of the people that each tree is grown on")
    columns: float = Field(0.5, gt=0, le=1, description="share of the inputs that each tree may use")
    monotone: dict[str, int] = Field(
        default_factory=dict,
        description="inputs whose effect may only rise (1) or only fall (-1), by name; two classes only",
    )


class Trees(nn.Module):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, plan: TreePlan) -> None:
        super().__init__()
        self.depth, self.one = plan.depth, task.binary
        for name, value in empty_trees(plan).items():
            if name == "value":
                self.value = nn.Parameter(torch.from_numpy(value), requires_grad=False)
            else:
                self.register_buffer(name, torch.from_numpy(value))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return the logits; of two classes the first is 0."""
        feature, threshold = self.get_buffer("feature"), self.get_buffer("threshold")
        missing_left = self.get_buffer("missing_left")
        tree = torch.arange(len(feature), device=features.device)
        position = torch.zeros(len(features), len(feature), dtype=torch.int64, device=features.device)
        for _ in range(self.depth):
            column = feature[tree, position]
            value = features.gather(1, column.clamp(min=0).long())
            left = torch.where(torch.isnan(value), missing_left[tree, position] > 0, value < threshold[tree, position])
            position = 2 * position + 2 - (left | (column < 0)).long()
        logits = self.value[tree, position - (2**self.depth - 1)].sum(1) + self.get_buffer("base")
        return torch.cat([torch.zeros_like(logits), logits], 1) if self.one else logits


def plan_trees(task: Task, options: Options, rounds: int, seed: int) -> TreePlan:
    """Return what server and sites must agree on."""
    return TreePlan(
        trees=options.trees,
        rounds=rounds,
        depth=options.depth,
        bins=options.bins,
        sample=options.sample,
        columns=options.columns,
        inputs=len(task.features),
        outputs=count_outputs(task),
        seed=seed,
    )


def build(task: Task, options: Options) -> nn.Module:
    """Return trees without splits.

    Raises:
        ConfigError: the task has no features, or `monotone` names no feature or does not fit the task.
    """
    if not task.features or task.anomaly:
        raise ConfigError("boosting needs a classification task with features: this one has none, so use a network")
    for name, sign in options.monotone.items():
        if name not in task.features:
            raise ConfigError(f"model.options.monotone: no input {name!r}")
        if sign not in (-1, 1) or not task.binary:
            raise ConfigError(f"model.options.monotone: {name} must be 1 or -1, in a task of two classes")
    return Trees(task, plan_trees(task, options, rounds=1, seed=0))


def read_options(config: RunConfig) -> Options:
    """Return the options of a run whose model is boosting."""
    return Options.model_validate(dict(config.model.options))
