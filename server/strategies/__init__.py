"""Strategies: one file each, named by the file. `build(options) -> Strategy`; `Options` checks them.

Two more functions where a strategy needs them: `method(options, model) -> Method` says what it asks of the sites
beside training, `require(options, config)` refuses a configuration that it cannot work with.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from flwr.serverapp.strategy import Strategy

from common import plugins
from common.config import RunConfig
from common.requests import Method
from common.sections.training import StrategyConfig
from common.settings import validate_settings

if TYPE_CHECKING:
    from torch import nn


def list_strategies() -> tuple[str, ...]:
    """Return the names of the strategies."""
    return plugins.list_plugins("server.strategies", "build")


def build_strategy(wanted: StrategyConfig) -> Strategy:
    """Return a strategy that takes every site that it is shown.

    Raises:
        ConfigError: no such strategy, or a wrong option.
    """
    module, options = _load(wanted)
    strategy: Strategy = module.build(options)
    return strategy


def build_method(wanted: StrategyConfig, model: nn.Module) -> Method:
    """Return what a strategy asks of the sites for a model.

    Raises:
        ConfigError: as `build`, or the model has not what the strategy needs.
    """
    module, options = _load(wanted)
    found: Method = module.method(options, model) if hasattr(module, "method") else Method()
    return found


def check_strategy(wanted: RunConfig) -> None:
    """Raise `ConfigError` if a configuration's strategy is wrong or does not go with its other settings."""
    module, options = _load(wanted.federation.strategy)
    if hasattr(module, "require"):
        module.require(options, wanted)


def _load(wanted: StrategyConfig) -> tuple[ModuleType, Any]:
    module = plugins.load_plugin("server.strategies", "build", wanted.name, "strategy")
    return module, validate_settings(module.Options, wanted.options, f"federation.strategy.options of {wanted.name}")
