"""Multi-Krum (Blanchard et al. 2017, arXiv:1703.02757): the mean of the models that are nearest to the others.

A site's score is the sum of the squared distances from its model to the n - f - 2 nearest others, with n answers
of which f may be wrong or hostile; the `select` models of lowest score are averaged, weighted as
`federation.weights` says. The paper's proof needs n >= 2 f + 3: a round with fewer answers is refused.

Flower computes |a|^2 + |b|^2 - 2 a.b in the arrays' own precision. In float32 that loses the distance between
models that differ by a thousandth of their norm, as they may after a round; so they are passed on as float64.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import MultiKrum, Strategy
from pydantic import Field

from common import messages
from common.errors import EngineError
from common.settings import Section
from server.strategies._flower import EVERY_SITE


class Options(Section):
    """Options of Multi-Krum."""

    malicious: int = Field(0, ge=0, le=500, description="sites that may be wrong or hostile: f")
    select: int = Field(2, ge=1, le=1000, description="models to average; at most n - f")


class CheckedMultiKrum(MultiKrum):
    """Flower's MultiKrum in double precision, which refuses a round with too few answers for the paper's proof."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the selected models' mean, in float64.

        Raises:
            EngineError: too few answers.
        """
        answers = list(replies)
        malicious, select, came = self.num_malicious_nodes, self.num_nodes_to_select, len(answers)
        need = max(2 * malicious + 3, select + malicious)
        if came < need:
            raise EngineError(
                f"krum that selects {select} with {malicious} malicious sites needs {need} answers a round, {came} came"
            )
        exact = [messages.map_arrays(answer, lambda value: value.astype(np.float64)) for answer in answers]
        return super().aggregate_train(server_round, exact)


def build(options: Options) -> Strategy:
    """Return Flower's MultiKrum."""
    return CheckedMultiKrum(**EVERY_SITE, num_malicious_nodes=options.malicious, num_nodes_to_select=options.select)
