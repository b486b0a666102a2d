"""Ditto (Li et al. 2021, arXiv:2012.04221, algorithm 1): FedAvg, with a personal model at every site.

Each round a site trains the model that it was sent, w, as in FedAvg, and goes on training its own model v on
loss(v) + pull/2 ||v - w||^2. v stays at the site; the final evaluation reports both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from common.requests import Method
from common.settings import Section

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy
    from torch import nn


class Options(Section):
    """Options of Ditto."""

    pull: float = Field(
        0.1, ge=0, le=1000, description="the paper's lambda: 0 trains alone, a large one follows the global model"
    )


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg, for the global model."""
    from flwr.serverapp.strategy import FedAvg

    from server.strategies._flower import EVERY_SITE

    return FedAvg(**EVERY_SITE)


def method(options: Options, model: nn.Module) -> Method:
    """Return the method of a site: a personal model is trained too, pulled towards the global one."""
    return Method(pull=options.pull)
