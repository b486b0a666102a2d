"""FedTrimmedAvg (Yin et al. 2018, arXiv:1803.01498): the mean of the sites' values without the extreme ones.

Of the n sites' values of a weight, the floor(cut n) lowest and as many highest are left out; the others count equally,
whatever `federation.weights` says. A round in which floor(cut n) is 0 would be a plain mean under a robust name: it
is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedTrimmedAvg, Strategy
from pydantic import Field

from common.errors import EngineError
from common.settings import Section
from server.strategies._flower import EVERY_SITE


class Options(Section):
    """Options of FedTrimmedAvg."""

    cut: float = Field(0.2, gt=0, lt=0.5, description="share of the sites that is left out at either end")


class _Trimmed(FedTrimmedAvg):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        answers = list(replies)
        if int(self.beta * len(answers)) < 1:
            raise EngineError(
                f"fedtrimmedavg: cut={self.beta:g} leaves out none of {len(answers)} answers: "
                f"set cut to at least 1/{max(len(answers), 3)}, or take fedmedian"
            )
        return super().aggregate_train(server_round, answers)


def build(options: Options) -> Strategy:
    """Return Flower's FedTrimmedAvg, which refuses a round with too few sites to leave any value out."""
    return _Trimmed(**EVERY_SITE, beta=options.cut)
