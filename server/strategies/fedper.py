"""FedPer (Arivazhagan et al. 2019, arXiv:1912.00818): named layers stay at the site, all else is averaged.

The paper keeps the last layers. The smallest case is `layers: [out.bias]`, an intercept for each hospital: it
accounts for how common the event is there, while the effects of the inputs are learned together.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import Field

from common.errors import ConfigError
from common.requests import Method
from common.settings import Section

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy
    from torch import nn


class Options(Section):
    """Options of FedPer."""

    layers: tuple[str, ...] = Field(
        ("out.*",),
        min_length=1,
        description="names of parameters that stay local, * for anything; the last parts of a name suffice",
    )


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg; the sites send no local layers."""
    from flwr.serverapp.strategy import FedAvg

    from server.strategies._flower import EVERY_SITE

    return FedAvg(**EVERY_SITE)


def method(options: Options, model: nn.Module) -> Method:
    """Return a method that keeps the parameters which fit a pattern at each site.

    Raises:
        ConfigError: a pattern fits no parameter, or all parameters are local.
    """
    every = tuple(model.state_dict())
    for pattern in options.layers:
        if not any(_fits(name, pattern) for name in every):
            raise ConfigError(f"fedper: no parameter is called {pattern!r}; the model has {', '.join(every)}")
    local = tuple(name for name in every if any(_fits(name, pattern) for pattern in options.layers))
    if len(local) == len(every):
        raise ConfigError("fedper: federation.strategy.options.layers keeps all parameters local: nothing is shared")
    return Method(local=local)


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")
