"""FedAvgM (Hsu et al. 2019, arXiv:1909.06335): FedAvg with momentum at the server.

With the mean of the sites' models as m: v = momentum v + (w - m), and w = w - lr v; v starts at 0.
"""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvgM, Strategy
from pydantic import Field

from common.settings import Section
from server.strategies._flower import EVERY_SITE


class Options(Section):
    """Options of FedAvgM; lr 1 and momentum 0 make it FedAvg."""

    lr: float = Field(1.0, gt=0, le=10, description="the server's learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last round's step that is added to this one")


def build(options: Options) -> Strategy:
    """Return Flower's FedAvgM."""
    return FedAvgM(**EVERY_SITE, server_learning_rate=options.lr, server_momentum=options.momentum)
