"""FedProx (Li et al. 2020, arXiv:1812.06127): FedAvg with a penalty on the distance from the model that was sent.

Each site minimises its loss + mu/2 ||w - w0||^2, with w0 the weights at the start of the round. The server only
sends mu; `client.training.loop.train_model` adds the term's gradient, mu (w - w0), to every step's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from common.settings import Section

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


class Options(Section):
    """Options of FedProx."""

    mu: float = Field(0.01, gt=0, le=1000, description="weight of the proximal term mu/2 ||w - w0||^2")


def build(options: Options) -> Strategy:
    """Return Flower's FedProx."""
    from flwr.serverapp.strategy import FedProx

    from server.strategies._flower import EVERY_SITE

    return FedProx(**EVERY_SITE, proximal_mu=options.mu)
