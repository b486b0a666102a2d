"""FedAvg (McMahan et al. 2017, arXiv:1602.05629): weights averaged by number of training examples."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvg, Strategy

from common.config import Section
from common.messages import ARRAYS, CONFIG, EXAMPLES


class Options(Section):
    """FedAvg has none."""


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg."""
    return FedAvg(
        fraction_train=1.0,
        fraction_evaluate=1.0,
        min_train_nodes=1,
        min_evaluate_nodes=1,
        min_available_nodes=1,
        weighted_by_key=EXAMPLES,
        arrayrecord_key=ARRAYS,
        configrecord_key=CONFIG,
    )
