"""FedYogi (Reddi et al. 2021, arXiv:2003.00295, algorithm 2): FedAdam whose second moment grows more slowly.

    d = mean of the sites' models - w        m = beta1 m + (1 - beta1) d
    v = v - (1 - beta2) d^2 sign(v - d^2)    w = w + eta m / (sqrt(v) + tau)

Flower's: m and v start at 0 (the paper: v at tau^2 or above), and there is no bias correction.
"""

from __future__ import annotations

from flwr.serverapp.strategy import FedYogi, Strategy
from pydantic import Field

from common.settings import Section
from server.strategies._flower import EVERY_SITE


class Options(Section):
    """Options of FedYogi."""

    eta: float = Field(0.01, gt=0, le=10, description="the server's learning rate: about the step of every weight")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the mean update")
    beta2: float = Field(0.99, ge=0, lt=1, description="how fast the mean squared update follows")
    tau: float = Field(0.001, gt=0, le=10, description="added to the root: updates far below it are not enlarged")


def build(options: Options) -> Strategy:
    """Return Flower's FedYogi."""
    return FedYogi(**EVERY_SITE, eta=options.eta, beta_1=options.beta1, beta_2=options.beta2, tau=options.tau)
