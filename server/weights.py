"""The weight of each site's update, from its counts in the handshake: never from what comes with the update."""

from __future__ import annotations

from collections.abc import Mapping

from common.reports import SplitCounts
from common.sections.training import FederationConfig


def compute_weights(counts: Mapping[str, SplitCounts], wanted: FederationConfig) -> dict[str, float]:
    """Return each site's weight by `federation.weights`, no site's share above `federation.weight_cap`.

    Args:
        counts: training counts of the sites that take part in the round.
        wanted: the settings of the weights.

    Returns:
        weights by site, each above 0; only their ratios matter.
    """
    if wanted.weights == "equal":
        weights = dict.fromkeys(counts, 1.0)
    elif wanted.weights == "patients":
        weights = {site: float(held.patients) for site, held in counts.items()}
    else:
        weights = {site: float(held.examples) for site, held in counts.items()}
    return weights if wanted.weight_cap is None else cap_shares(weights, wanted.weight_cap)


def cap_shares(weights: Mapping[str, float], cap: float) -> dict[str, float]:
    """Return weights of which none is more than `cap` of their sum; the others keep their ratios.

    With n sites no share can be below 1 / n for all of them, so a lower cap makes all weights equal.

    >>> cap_shares({"large": 900.0, "middle": 60.0, "small": 40.0}, 0.5)
    {'large': 100.0, 'middle': 60.0, 'small': 40.0}
    """
    if cap * len(weights) <= 1:
        return dict.fromkeys(weights, 1.0)
    capped: set[str] = set()
    while True:
        free = sum(weight for site, weight in weights.items() if site not in capped)
        limit = cap * free / (1 - cap * len(capped))  # the weight that is `cap` of the sum
        over = {site for site, weight in weights.items() if site not in capped and weight > limit * (1 + 1e-12)}
        if not over:
            return {site: limit if site in capped else weight for site, weight in weights.items()}
        capped |= over
