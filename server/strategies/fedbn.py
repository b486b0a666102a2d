"""FedBN (Li et al. 2021, arXiv:2102.07623): normalisation layers stay at the site, all else is averaged.

The paper's layers are BatchNorm; here they are GroupNorm and LayerNorm, whose scale and shift can absorb a
hospital's own gain and offset in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import ConfigError
from common.requests import Method
from common.settings import Section

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy
    from torch import nn


class Options(Section):
    """FedBN has no options."""


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg; the sites send no norm layers."""
    from flwr.serverapp.strategy import FedAvg

    from server.strategies._flower import EVERY_SITE

    return FedAvg(**EVERY_SITE)


def method(options: Options, model: nn.Module) -> Method:
    """Return a method that keeps the arrays of norm layers at each site.

    Raises:
        ConfigError: the model has no norm layers, or nothing else.
    """
    from torch import nn

    kinds = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._NormBase)
    norms = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    every = tuple(model.state_dict())
    local = tuple(name for name in every if name.rpartition(".")[0] in norms)
    if not local or len(local) == len(every):
        raise ConfigError(
            f"fedbn: {len(local)} of the model's {len(every)} arrays are of norm layers: use fedper or fedavg"
        )
    return Method(local=local)
