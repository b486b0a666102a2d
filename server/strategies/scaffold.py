"""SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378, algorithm 1 with option II): steps corrected for drift.

A site keeps an estimate c_i of its own gradient, and the server the mean c over all sites. A site's steps use
g - c_i + c in place of the gradient g, so that a site whose patients differ does not pull the model towards itself.
After K steps:

    at the site      c_i+ = c_i - c + (x - y) / (sum of the K learning rates)      sends y and c_i+ - c_i
    at the server    x = x + lr (mean of y - x)        c = sum over all sites of p_i c_i

with x the model that was sent, y the site's, p_i its share of all sites' weights. The paper weighs sites alike
(`federation.weights: equal`); other weights give the same algorithm for the loss weighted in that way. All
sites are those that have answered at least once; until then a site's c_i is 0. The estimate holds for plain gradient
steps only, so the strategy requires SGD without momentum.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from pydantic import Field

from common import messages
from common.arrays import Weights, prefix_control, split_control
from common.config import RunConfig
from common.errors import ConfigError
from common.requests import Method
from common.settings import Section
from server.strategies._flower import EVERY_SITE

if TYPE_CHECKING:
    from torch import nn


class Options(Section):
    """Options of SCAFFOLD."""

    lr: float = Field(1.0, gt=0, le=10, description="the server's learning rate")


class _Scaffold(FedAvg):
    def __init__(self, lr: float) -> None:
        super().__init__(**EVERY_SITE)
        self.lr = lr
        self.model: Weights = {}
        self.control: Weights = {}
        self.shares: dict[str, float] = {}  # weights by site, of those that have answered

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.model = messages.unpack_weights(arrays)
        if not self.control:
            self.control = {name: np.zeros_like(value) for name, value in self.model.items()}
        both = messages.pack_weights(self.model | prefix_control(self.control))
        return super().configure_train(server_round, both, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        answers = list(replies)
        merged, metrics = super().aggregate_train(server_round, answers)
        if merged is None:
            return None, metrics
        model, change = split_control(messages.unpack_weights(merged))
        before = sum(self.shares.values())
        answered = {
            messages.read_reply_site(answer.content): messages.read_weight(answer.content) for answer in answers
        }
        self.shares |= answered
        known, new = sum(self.shares.values()), sum(answered.values())
        for name, value in self.control.items():
            self.control[name] = value * (before / known) + change[name] * (new / known)
        if self.lr != 1:
            model = {name: old + self.lr * (model[name] - old) for name, old in self.model.items()}
        return messages.pack_weights(model), metrics


def build(options: Options) -> Strategy:
    """Return the server side of SCAFFOLD."""
    return _Scaffold(options.lr)


def method(options: Options, model: nn.Module) -> Method:
    """Return the method of a site: training with control variates."""
    return Method(control=True)


def require(options: Options, config: RunConfig) -> None:
    """Raise `ConfigError` unless sites take plain gradient steps, with weights that do not change."""
    if config.training.optimizer != "sgd" or config.training.momentum != 0:
        raise ConfigError(
            "scaffold corrects plain gradient steps: set training.optimizer=sgd and training.momentum=0, "
            "or take another strategy"
        )
    if config.federation.weight_cap is not None:  # a capped weight depends on who else answers in the round
        raise ConfigError("scaffold needs weights that are the same in every round: leave federation.weight_cap out")
