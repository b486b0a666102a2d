"""FedAvg (McMahan et al. 2017, arXiv:1602.05629): the weighted mean of the sites' models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.settings import Section

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


class Options(Section):
    """FedAvg has no options."""


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg."""
    from flwr.serverapp.strategy import FedAvg

    from server.strategies._flower import EVERY_SITE

    return FedAvg(**EVERY_SITE)
