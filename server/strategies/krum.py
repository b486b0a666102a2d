"""Krum (Blanchard et al. 2017, arXiv:1703.02757): the one model that is nearest to the others (see multikrum.py).

The new model is one site's own: `federation.weights` has no effect, and what the other sites learned in the round is
lost. That is the price of its robustness where no site is hostile.
"""

from __future__ import annotations

from flwr.serverapp.strategy import Strategy
from pydantic import Field

from common.settings import Section
from server.strategies._flower import EVERY_SITE
from server.strategies.multikrum import CheckedMultiKrum


class Options(Section):
    """Options of Krum."""

    malicious: int = Field(0, ge=0, le=500, description="sites that may be wrong or hostile: f; needs 2 f + 3 answers")


def build(options: Options) -> Strategy:
    """Return Flower's MultiKrum that selects one model, which is its Krum."""
    return CheckedMultiKrum(**EVERY_SITE, num_malicious_nodes=options.malicious, num_nodes_to_select=1)
