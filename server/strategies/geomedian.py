"""Geometric median (Pillutla et al. 2022, arXiv:1912.13445): the model of least summed distance to the sites' models.

    w = argmin over v of the sum over sites of a_i ||w_i - v||

All sites count equally (a_i = 1), whatever `federation.weights` says; with `weighted`, a_i is the site's weight, as in
the paper, and no site may have half of all. However far a site's model is, it pulls with the same force as any other
of its weight, so sites with less than half of the weight, faulty or hostile, move the result by a bounded distance.
Unlike the median of each number by itself, the result does not go to the edge of what the honest sites sent where one
site is extreme in every number. With two sites every model between them is a geometric median: such a round is refused.

The minimum is computed by Weiszfeld's iteration, as in the paper: a mean in which a site weighs a_i / ||w_i - v||.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg, Strategy
from pydantic import Field

from common import messages
from common.errors import EngineError
from common.settings import Section
from server.strategies._flower import EVERY_SITE

MIN_SITES = 3
MAX_SHARE = 0.5
"""A site with so large a share of the weight decides alone."""
MAX_STEPS = 1000
"""Steps of the iteration at most."""
TOLERANCE = 1e-9
"""The iteration ends with a step below this share of the median distance to the sites' models."""
SMOOTHING = 1e-6
"""Smallest distance that a weight is computed from, as a share of the median distance."""


class Options(Section):
    """Options of the geometric median."""

    weighted: bool = Field(
        False,
        description="weigh sites as federation.weights says, instead of equally; needs federation.weight_cap below 0.5",
    )


def find_median_weights(
    models: npt.NDArray[np.float64], shares: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Return the weights, of sum 1, that make the weighted mean of models their geometric median.

    Args:
        models: `(sites, parameters)`.
        shares: how much each site's distance counts, `(sites,)`; default: all alike.
    """
    center = np.median(models, axis=0)
    shares = np.ones(len(models)) if shares is None else shares
    weights: npt.NDArray[np.float64] = shares / shares.sum()
    for _ in range(MAX_STEPS):
        distances = np.linalg.norm(models - center, axis=1)
        here = shares * (distances == 0)
        if here.sum() > MAX_SHARE * shares.sum():  # most of the weight is at one model
            weights = here / here.sum()
            break
        scale = float(np.median(distances)) or float(distances.max())
        weights = shares / np.maximum(distances, SMOOTHING * scale)
        weights /= weights.sum()
        moved = weights @ models
        step, center = float(np.linalg.norm(moved - center)), moved
        if step < TOLERANCE * scale:
            break
    return weights


class _GeometricMedian(FedAvg):
    weighted = False

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        answers = list(replies)
        if len(answers) < MIN_SITES:
            raise EngineError(
                f"geomedian needs {MIN_SITES} answers a round, {len(answers)} came: take fedavg for fewer sites"
            )
        shares = np.ones(len(answers))
        if self.weighted:
            shares = np.asarray([messages.read_weight(answer.content) for answer in answers])
            if shares.max() >= MAX_SHARE * shares.sum():
                raise EngineError("geomedian: one site has half of the weight: set federation.weight_cap below 0.5")
        arrays = [messages.read_update(answer.content).weights for answer in answers]
        flat = np.stack([np.concatenate([value.ravel() for value in each.values()]) for each in arrays])
        weights = find_median_weights(flat.astype(np.float64), shares)
        weighed = [messages.set_weight(answer, 1, each) for answer, each in zip(answers, weights, strict=True)]
        return super().aggregate_train(server_round, weighed)


def build(options: Options) -> Strategy:
    """Return Flower's FedAvg with the weights that make it the geometric median."""
    strategy = _GeometricMedian(**EVERY_SITE)
    strategy.weighted = options.weighted
    return strategy
