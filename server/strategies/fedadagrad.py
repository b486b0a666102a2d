"""FedAdagrad (Reddi et al. 2021, arXiv:2003.00295, algorithm 2): steps shrink with the sum of squared updates.

    d = mean of the sites' models - w        v = v + d^2        w = w + eta d / (sqrt(v) + tau)

Flower's: v starts at 0 (the paper: at tau^2 or above), and there is no momentum.
"""

from __future__ import annotations

from flwr.serverapp.strategy import FedAdagrad, Strategy
from pydantic import Field

from common.settings import Section
from server.strategies._flower import EVERY_SITE


class Options(Section):
    """Options of FedAdagrad."""

    eta: float = Field(0.01, gt=0, le=10, description="the server's learning rate: about the first step of a weight")
    tau: float = Field(0.001, gt=0, le=10, description="added to the root: updates far below it are not enlarged")


def build(options: Options) -> Strategy:
    """Return Flower's FedAdagrad."""
    return FedAdagrad(**EVERY_SITE, eta=options.eta, tau=options.tau)
