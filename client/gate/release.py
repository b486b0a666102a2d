"""The last check of a reply before it leaves a hospital, independent of what computed it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from client.gate.guarded_settings import LATENT_VIEW, allows
from client.gate.register import open_register
from client.gate.run_limits import check_update
from client.gate.weights import keep_update
from client.site_context import SiteContext
from common.errors import NotFiniteError, SiteError
from common.metrics.table_names import RESAMPLED_SUFFIX
from common.replies import (
    DomainShiftReply,
    FinalTestReply,
    GrowReply,
    LatentReply,
    Reply,
    ScalingReply,
    TrainReply,
    ValidateReply,
)
from common.reports import FinalTestReport
from common.requests import Request, TrainRequest


def check_reply(context: SiteContext, request: Request, reply: Reply) -> None:
    """Refuse to send a reply that the policy does not allow, and keep an update for the check of the next weights.

    Raises:
        SiteError: the policy does not allow the reply; it is not sent.
        NotFiniteError: a number of the reply is not finite; it is not sent.
    """
    if context.simulated:
        return
    if reply.site != context.site or reply.kind != request.kind:
        raise SiteError("policy: the reply is not this site's to this request: it is not sent")
    if not all(np.isfinite(values).all() for values in list_arrays(reply)):
        raise NotFiniteError("the reply holds numbers that are not finite")
    if isinstance(reply, ValidateReply | FinalTestReply):
        check_tables(context, reply)
        if request.config.privacy.evaluation_on or context.policy.evaluation == "private":
            check_noisy(reply)
    if isinstance(reply, TrainReply) and isinstance(request, TrainRequest):
        if reply.report.loss is not None and not context.policy.share_training_loss:
            raise SiteError("policy: the training loss does not leave here: the reply is not sent")
        check_update(context.policy, request, reply)
        if context.policy.max_weight_distance is not None:
            keep_update(
                open_register(context),
                request.run_id,
                request.weights,
                reply.weights,
                control=reply.control,
                bounded=request.config.privacy.kind != "hospital",
            )


def list_arrays(reply: Reply) -> Iterable[npt.NDArray[np.generic]]:
    """Return every array of a reply, whose numbers must be finite."""
    if isinstance(reply, TrainReply):
        return [*reply.weights.values(), *reply.control.values()]
    if isinstance(reply, ScalingReply | LatentReply | DomainShiftReply | GrowReply):
        return list(reply.sums.values())
    if isinstance(reply, ValidateReply | FinalTestReply):
        exact = [np.asarray(part) for table in reply.tables.values() for part in (table.confusion, table.scores)]
        return [*exact, *reply.noisy.values()]
    return []


def check_noisy(reply: ValidateReply | FinalTestReply) -> None:
    """Refuse anything but noisy sums that were charged, where evaluation is private.

    Raises:
        SiteError: the reply is not sent.
    """
    report = reply.report
    exact = bool(reply.tables)
    if isinstance(report, FinalTestReport):
        exact |= bool(report.evaluations or report.recalibration or report.explanation or report.view)
    if exact or report.privacy is None:
        raise SiteError("policy: evaluation is private here, and the reply holds exact results: it is not sent")


def check_tables(context: SiteContext, reply: ValidateReply | FinalTestReply) -> None:
    """Refuse counts that are finer than the policy's grain.

    Raises:
        SiteError: the reply is not sent.
    """
    policy = context.policy
    for name, table in reply.tables.items():
        if name.endswith(RESAMPLED_SUFFIX):
            if not policy.share_resamples:
                raise SiteError("policy: resampled counts do not leave here: the reply is not sent")
            continue
        if table.scores.shape[-1] > policy.max_bins:
            raise SiteError("policy: a histogram has more bins than max_bins: the reply is not sent")
    view = reply.report.view if isinstance(reply, FinalTestReply) else None
    if view is not None and (not allows(policy, LATENT_VIEW) or (view.examples and not policy.share_examples)):
        raise SiteError("policy: a view of latent space does not leave here: the reply is not sent")
