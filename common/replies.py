"""The replies of a site: one frozen type for each kind.

A reply is the site's name, a report (the JSON part, common/reports.py) and arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from common.arrays import Weights
from common.metrics.counts import Counts
from common.reports import (
    CanaryReport,
    DomainShiftReport,
    FinalTestReport,
    GrowReport,
    HandshakeReport,
    LatentReport,
    Report,
    ScalingReport,
    TrainReport,
    ValidateReport,
)
from common.requests import RequestKind

Sums = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Reply:
    """The fields of every reply.

    Attributes:
        kind: the kind of the request that it answers.
        site: the site's name.
        report: the JSON part, of the reply's own type.
    """

    kind: ClassVar[RequestKind]
    report_type: ClassVar[type[Report]]
    site: str
    report: Report


@dataclass(frozen=True)
class HandshakeReply(Reply):
    """The answer to a HandshakeRequest; no arrays."""

    kind: ClassVar[RequestKind] = "handshake"
    report_type: ClassVar[type[Report]] = HandshakeReport
    report: HandshakeReport


@dataclass(frozen=True)
class ScalingReply(Reply):
    """The answer to a ScalingRequest.

    Attributes:
        sums: arrays by name, as in common/scaling.py or common/noisy_scaling.py.
    """

    kind: ClassVar[RequestKind] = "scaling"
    report_type: ClassVar[type[Report]] = ScalingReport
    report: ScalingReport
    sums: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class TrainReply(Reply):
    """The answer to a TrainRequest. The server computes the weight of the update.

    Attributes:
        weights: the model's arrays after training, but for those that stay at the site, in the model's order.
        control: the change of the site's control variates (SCAFFOLD).
    """

    kind: ClassVar[RequestKind] = "train"
    report_type: ClassVar[type[Report]] = TrainReport
    report: TrainReport
    weights: Weights = field(default_factory=dict)
    control: Weights = field(default_factory=dict)


@dataclass(frozen=True)
class ValidateReply(Reply):
    """The answer to a ValidateRequest.

    Attributes:
        tables: counts by table name; there is one table, of all patients; none where evaluation is private.
        noisy: noisy sums over people by table and part (common/private_evaluation.py), where evaluation is private.
    """

    kind: ClassVar[RequestKind] = "validate"
    report_type: ClassVar[type[Report]] = ValidateReport
    report: ValidateReport
    tables: Mapping[str, Counts] = field(default_factory=dict)
    noisy: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class LatentReply(Reply):
    """The answer to a LatentRequest.

    Attributes:
        sums: arrays by name, as `common.latent.compute_latent_moments` returns them.
    """

    kind: ClassVar[RequestKind] = "latent"
    report_type: ClassVar[type[Report]] = LatentReport
    report: LatentReport
    sums: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class FinalTestReply(Reply):
    """The answer to a FinalTestRequest.

    Attributes:
        tables: counts by table name; resampled counts are under the table's name followed by RESAMPLED_SUFFIX.
        noisy: in private evaluation, noisy sums over people by table and part; tables and figures are then absent.
    """

    kind: ClassVar[RequestKind] = "test"
    report_type: ClassVar[type[Report]] = FinalTestReport
    report: FinalTestReport
    tables: Mapping[str, Counts] = field(default_factory=dict)
    noisy: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class DomainShiftReply(Reply):
    """The answer to a DomainShiftRequest.

    Attributes:
        sums: arrays by name, as in common/scaling.py or `common.distance.ColumnSummary.arrays`.
    """

    kind: ClassVar[RequestKind] = "domain_shift"
    report_type: ClassVar[type[Report]] = DomainShiftReport
    report: DomainShiftReport
    sums: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class GrowReply(Reply):
    """The answer to a GrowRequest.

    Attributes:
        sums: `gradient` and `hessian` `(nodes, columns, cells, outputs)` and `people` `(nodes, columns, cells)` of the
            open nodes, tree by tree (common/trees.py).
    """

    kind: ClassVar[RequestKind] = "grow"
    report_type: ClassVar[type[Report]] = GrowReport
    report: GrowReport
    sums: Sums = field(default_factory=dict)


REPLY_TYPES: dict[RequestKind, type[Reply]] = {
    each.kind: each
    for each in (
        HandshakeReply,
        ScalingReply,
        TrainReply,
        ValidateReply,
        LatentReply,
        FinalTestReply,
        DomainShiftReply,
        GrowReply,
    )
}


@dataclass(frozen=True)
class CanaryReply(Reply):
    """The answer to a CanaryRequest; no arrays."""

    kind: ClassVar[RequestKind] = "canary"
    report_type: ClassVar[type[Report]] = CanaryReport
    report: CanaryReport
