"""A forest of trees whose splits are drawn by the run's seed; hospitals send sums of gradients for their leaves only.

The splits depend on no patient: each compares an input drawn at random with an edge between two bins drawn at random
among those that the node's other splits left (totally random trees: Geurts, Ernst and Wehenkel 2006, Machine Learning
63:3-42, with K = 1; Fan, Wang, Yu and Ma 2003, ICDM). So all leaves of a round's trees are filled with one message, and
a hospital can check the whole structure. Each round fits what the rounds before left, one Newton step as in boosting
(Maddock, Cormode, Wang, Maple and Jha 2022, CCS, arXiv:2210.02910, grow such trees with differential privacy); a single
round is a forest in the usual sense.

It needs data.scaling=bins, or with privacy standard, which are the defaults with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from torch import nn

from common.errors import ConfigError
from common.models.boosting import Trees
from common.settings import Section
from common.task import Task
from common.trees import TreePlan, count_outputs

if TYPE_CHECKING:
    from common.config import RunConfig

GROWS_TREES = True


class Options(Section):
    """Options of a forest."""

    trees: int = Field(300, ge=1, le=5000, description="trees; each round fills trees / federation.rounds of them")
    depth: int = Field(8, ge=1, le=10, description="splits between the root and a leaf")
    bins: int = Field(64, ge=4, le=512, description="bins of an input, by its merged distribution")
    learning_rate: float = Field(1.0, gt=0, le=1, description="share of each round's step that is taken")
    l2: float = Field(1.0, gt=0, le=1e6, description="added to the sum of second derivatives of a leaf")


def plan_trees(task: Task, options: Options, rounds: int, seed: int) -> TreePlan:
    """Return what server and sites must agree on."""
    return TreePlan(
        trees=options.trees,
        rounds=rounds,
        depth=options.depth,
        bins=options.bins,
        sample=1.0,
        columns=1.0,
        inputs=len(task.features),
        outputs=count_outputs(task),
        seed=seed,
        drawn=True,
    )


def build(task: Task, options: Options) -> nn.Module:
    """Return trees without splits.

    Raises:
        ConfigError: the task has no features.
    """
    if not task.features or task.anomaly:
        raise ConfigError("a forest needs a classification task with features: this one has none, so use a network")
    return Trees(task, plan_trees(task, options, rounds=1, seed=0))


def read_options(config: RunConfig) -> Options:
    """Return the options of a run whose model is a forest."""
    return Options.model_validate(dict(config.model.options))
