"""Geometric median (Pillutla et al. 2022, arXiv:1912.13445): the model of least summed distance to the sites' models.

    w = argmin over v of the sum over sites of ||w_i - v||

All sites count equally, whatever `federation.weights` says. However far a site's model is, it pulls with the same
force as any other, so fewer than half of the sites, faulty or hostile, move the result by a bounded distance. Unlike
the median of each number by itself, the result does not go to the edge of what the honest sites sent where one site is
extreme in every number. With two sites every model between them is a geometric median: such a round is refused.

The minimum is computed by Weiszfeld's iteration, as in the paper: a mean in which a site weighs 1 / ||w_i - v||.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg, Strategy

from common import messages
from common.errors import EngineError
from common.settings import Section
from server.strategies._flower import EVERY_SITE

MIN_SITES = 3
MAX_STEPS = 1000
"""Steps of the iteration at most."""
TOLERANCE = 1e-9
"""The iteration ends with a step below this share of the median distance to the sites' models."""
SMOOTHING = 1e-6
"""Smallest distance that a weight is computed from, as a share of the median distance."""


class Options(Section):
    """The geometric median has no options."""


def find_median_weights(models: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the weights, of sum 1, that make the weighted mean of models their geometric median.

    Args:
        models: `(sites, parameters)`.
    """
    center = np.median(models, axis=0)
    weights: npt.NDArray[np.float64] = np.full(len(models), 1 / len(models))
    for _ in range(MAX_STEPS):
        distances = np.linalg.norm(models - center, axis=1)
        scale = float(np.median(distances))
        if scale == 0:  # most models are the same
            weights = (distances == 0).astype(np.float64)
            weights /= weights.sum()
            break
        weights = 1 / np.maximum(distances, SMOOTHING * scale)
        weights /= weights.sum()
        moved = weights @ models
        step, center = float(np.linalg.norm(moved - center)), moved
        if step < TOLERANCE * scale:
            break
    return weights


class _GeometricMedian(FedAvg):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        answers = list(replies)
        if len(answers) < MIN_SITES:
            raise EngineError(
                f"geomedian needs {MIN_SITES} answers a round, {len(answers)} came: take fedavg for fewer sites"
            )
        arrays = [messages.read_update(answer.content).weights for answer in answers]
        flat = np.stack([np.concatenate([value.ravel() for value in each.values()]) for each in arrays])
        weights = find_median_weights(flat.astype(np.float64))
        weighed = [messages.set_weight(answer, 1, each) for answer, each in zip(answers, weights, strict=True)]
        return super().aggregate_train(server_round, weighed)


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg with the weights that make it the geometric median."""
    return _GeometricMedian(**EVERY_SITE)
