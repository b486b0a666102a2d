"""FedAvg (McMahan et al. 2017, arXiv:1602.05629): the weighted mean of the sites' models."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvg, Strategy

from common.settings import Section
from server.strategies._flower import EVERY_SITE


class Options(Section):
    """FedAvg has no options."""


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg."""
    return FedAvg(**EVERY_SITE)
