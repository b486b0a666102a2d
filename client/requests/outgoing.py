"""The one way by which what a site has learned leaves it.

Every update passes through `leave`; nothing else in a site's code puts weights into a reply (a test looks). The server
sees each site's update. A secure aggregation, by which it would learn the sum of the sites' updates and no single one,
has its place here and at the server's sum: it must take the arrays that `leave` sends, masked, with their weight in
them already, as at `privacy.level=hospital`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.privacy import hospital_level
from client.training.local_update import Update
from common.messages import Reply, Weights


def build_update_reply(
    site: str,
    came: Weights,
    update: Update,
    report: Mapping[str, Any],
    weight: float,
    share: hospital_level.ContributionPlan | None = None,
) -> Reply:
    """Return the reply to a round of training.

    Args:
        site: its name.
        came: the weights that the round began with.
        update: what training gave.
        report: what the site tells beside it.
        weight: what the update weighs.
        share: at privacy.level=hospital, what it becomes: then its weight is in it, and no loss is told.
    """
    if share is not None:
        weights = hospital_level.build_contribution(came, update.weights, share)
        return Reply(site, update.result.examples, report, weights=weights, weight=1.0)
    loss = float(report.get("loss", 0.0))
    return Reply(
        site,
        update.result.examples,
        report,
        weights=update.weights,
        loss=loss,
        weight=weight,
        control=update.control,
    )
