"""What a site answers: one frozen type for each kind of reply.

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
    DomainShiftReport,
    FinalTestReport,
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
    """What every reply carries.

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
        sums: as common/scaling.py or common/noisy_scaling.py name them.
    """

    kind: ClassVar[RequestKind] = "scaling"
    report_type: ClassVar[type[Report]] = ScalingReport
    report: ScalingReport
    sums: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class TrainReply(Reply):
    """The answer to a TrainRequest. What the update weighs is the server's to compute.

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
        tables: counts by table name: one, of all.
    """

    kind: ClassVar[RequestKind] = "validate"
    report_type: ClassVar[type[Report]] = ValidateReport
    report: ValidateReport
    tables: Mapping[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True)
class LatentReply(Reply):
    """The answer to a LatentRequest.

    Attributes:
        sums: as `common.latent.moments` names them.
    """

    kind: ClassVar[RequestKind] = "latent"
    report_type: ClassVar[type[Report]] = LatentReport
    report: LatentReport
    sums: Sums = field(default_factory=dict)


@dataclass(frozen=True)
class FinalTestReply(Reply):
    """The answer to a FinalTestRequest.

    Attributes:
        tables: counts by table name, each of which the report has figures of, or the name of one and RESAMPLED.
    """

    kind: ClassVar[RequestKind] = "test"
    report_type: ClassVar[type[Report]] = FinalTestReport
    report: FinalTestReport
    tables: Mapping[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True)
class DomainShiftReply(Reply):
    """The answer to a DomainShiftRequest.

    Attributes:
        sums: as common/scaling.py or `common.distance.Summary` name them.
    """

    kind: ClassVar[RequestKind] = "domain_shift"
    report_type: ClassVar[type[Report]] = DomainShiftReport
    report: DomainShiftReport
    sums: Sums = field(default_factory=dict)


REPLY_TYPES: dict[RequestKind, type[Reply]] = {
    each.kind: each
    for each in (HandshakeReply, ScalingReply, TrainReply, ValidateReply, LatentReply, FinalTestReply, DomainShiftReply)
}
