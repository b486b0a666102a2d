"""Strategies: one file each, named by the file. `build(options) -> Strategy`; `Options` checks them."""

from __future__ import annotations

from flwr.serverapp.strategy import Strategy

from common import config, plugins
from common.config import StrategyConfig


def names() -> tuple[str, ...]:
    """Return the names of the strategies."""
    return plugins.names("server.strategies", "build")


def build(wanted: StrategyConfig) -> Strategy:
    """Return a strategy that takes every site that it is shown.

    Raises:
        ConfigError: no such strategy, or a wrong option.
    """
    module = plugins.load("server.strategies", "build", wanted.name, "strategy")
    options = config.check(module.Options, wanted.options, f"federation.strategy.options of {wanted.name}")
    strategy: Strategy = module.build(options)
    return strategy
