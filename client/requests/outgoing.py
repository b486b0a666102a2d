"""The only place where a site's model update is put into a reply.

Every update passes through `build_update_reply`; nothing else in a site's code puts weights into a reply (a test
checks it). The server sees each site's update. A secure aggregation, which would show the server only the sum of the
sites' updates, belongs here and at the server's sum: it must mask the arrays that `build_update_reply` sends, with
their weight in them already, as at `privacy.level=hospital`.
"""

from __future__ import annotations

from client.privacy.hospital_level import ContributionPlan, build_contribution
from client.training.local_update import Update
from common.arrays import Weights
from common.replies import TrainReply
from common.reports import TrainReport


def build_update_reply(
    site: str,
    start: Weights,
    update: Update,
    report: TrainReport,
    plan: ContributionPlan | None = None,
) -> TrainReply:
    """Return the reply to a round of training.

    Args:
        site: its name.
        start: the weights that the round started from.
        update: what training gave.
        report: what is reported to the server about the round.
        plan: at privacy.level=hospital, what the update becomes, with its weight in it; None: it is sent as it is.
    """
    if plan is not None:
        return TrainReply(site, report, weights=build_contribution(start, update.weights, plan))
    return TrainReply(site, report, weights=update.weights, control=update.control)
