"""FedMedian (Yin et al. 2018, arXiv:1803.01498): the median of the sites' values, weight by weight.

All sites count equally, whatever `federation.weights` says: fewer than half of them, faulty or hostile, cannot
move a weight beyond the range of what the others sent. With two sites it is their plain mean.
"""

from __future__ import annotations

from flwr.serverapp.strategy import FedMedian, Strategy

from common.settings import Section
from server.strategies._flower import EVERY_SITE


class Options(Section):
    """FedMedian has no options."""


def build(options: Options) -> Strategy:
    """Return Flower's FedMedian."""
    return FedMedian(**EVERY_SITE)
