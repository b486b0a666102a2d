"""Strategies: one file each, named by the file. `build(options) -> Strategy`; `Options` checks them.

A strategy may have two more functions: `method(options, model) -> Method` returns what sites do besides
training, `require(options, config)` raises `ConfigError` for a configuration that it does not work with.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from common import plugins
from common.config import RunConfig
from common.requests import Method
from common.sections.training import StrategyConfig
from common.settings import Section, validate_settings

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy
    from torch import nn


def list_strategies() -> tuple[str, ...]:
    """Return the names of the strategies."""
    return plugins.list_plugins("server.strategies", "build")


def build_strategy(wanted: StrategyConfig) -> Strategy:
    """Return a strategy that uses every site of its grid.

    Raises:
        ConfigError: no such strategy, or a wrong option.
    """
    module, options = _load(wanted)
    strategy: Strategy = module.build(options)
    return strategy


def build_method(wanted: StrategyConfig, model: nn.Module) -> Method:
    """Return what sites must do for a strategy, given the model: which arrays stay local, and the like.

    Raises:
        ConfigError: as `build_strategy`, or the model lacks what the strategy needs.
    """
    module, options = _load(wanted)
    method: Method = module.method(options, model) if hasattr(module, "method") else Method()
    return method


def check_strategy(wanted: RunConfig) -> None:
    """Raise `ConfigError` if a configuration's strategy is wrong or does not go with its other settings."""
    module, options = _load(wanted.federation.strategy)
    if hasattr(module, "require"):
        module.require(options, wanted)


def _load(wanted: StrategyConfig) -> tuple[ModuleType, Section]:
    module = plugins.load_plugin("server.strategies", "build", wanted.name, "strategy")
    options: Section = validate_settings(
        module.Options, wanted.options, f"federation.strategy.options of {wanted.name}"
    )
    return module, options
