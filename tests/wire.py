"""A Grid of scripted sites, for tests of the server without any transport."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from client.policy import SIMULATION_POLICY, SitePolicy
from client.requests import handle
from client.site import Site
from client.site_context import SiteContext
from common import messages
from common.arrays import Weights
from common.config import RunConfig
from common.joint_messages import ERROR_KEY, REASON_KEY, VALIDATION_PREFIX
from common.messages import MESSAGE_TYPES
from common.metrics.counts import empty_counts
from common.replies import (
    CanaryReply,
    DomainShiftReply,
    FinalTestReply,
    GrowReply,
    HandshakeReply,
    LatentReply,
    Reply,
    ScalingReply,
    TrainReply,
    ValidateReply,
)
from common.reports import (
    CanaryReport,
    DomainShiftReport,
    FinalTestReport,
    GrowReport,
    HandshakeCounts,
    HandshakeReport,
    LatentReport,
    ScalingReport,
    SplitCounts,
    TrainReport,
    ValidateReport,
)
from common.request_record import PROTOCOL
from common.requests import (
    CanaryRequest,
    DomainShiftRequest,
    FinalTestRequest,
    GrowRequest,
    HandshakeRequest,
    LatentRequest,
    Request,
    RequestKind,
    ScalingRequest,
    TrainRequest,
    ValidateRequest,
)
from tests import tiny

KINDS: dict[str, RequestKind] = {name: kind for kind, name in MESSAGE_TYPES.items()}
REQUEST_TYPES: dict[str, type[Request]] = {
    each.kind: each
    for each in (
        HandshakeRequest, ScalingRequest, TrainRequest, ValidateRequest, LatentRequest, FinalTestRequest,
        DomainShiftRequest, CanaryRequest, GrowRequest,
    )
}  # fmt: skip
Answer = Reply | RecordDict | Error | None
Script = Callable[[Request], Answer]


class FakeGrid(Grid):
    """Nodes by number; each answers by its script, `None` is silence. `order` sorts what has arrived."""

    fixed_nodes = True

    def __init__(self, scripts: Sequence[Script], order: Callable[[Message], Any] | None = None) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0
        self.scripts = dict(enumerate(scripts, start=1))
        self.offline: set[int] = set()
        self.order = order or (lambda message: message.metadata.dst_node_id)
        self.sent: list[tuple[int, Request]] = []
        self._waiting: dict[str, Message] = {}
        self._count = 0

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return Message(*args, **kwargs)

    def get_node_ids(self) -> list[int]:
        return [node for node in self.scripts if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            self._count += 1
            name = str(self._count)
            message.metadata.__dict__["_message_id"] = name
            self._waiting[name] = message
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """One answer a call, in the order of `order`."""
        wanted = set(message_ids)
        for name, message in sorted(self._waiting.items(), key=lambda item: self.order(item[1])):
            node = message.metadata.dst_node_id
            if name not in wanted or node in self.offline:
                continue
            del self._waiting[name]
            request = messages.unpack_request(KINDS[message.metadata.message_type], message.content)
            content = self.answer(node, request)
            if content is None:
                continue
            reply = Message(content, reply_to=message)
            reply.metadata.__dict__["_reply_to_message_id"] = name
            return [reply]
        return []

    def answer(self, node: int, request: Request) -> RecordDict | Error | None:
        """Return what a node answers by its script; a request that came with another one is answered after it."""
        if isinstance(request, TrainRequest) and request.validation is not None:
            halves = [self.answer(node, each) for each in (request.validation, replace(request, validation=None))]
            for half in halves:
                if half is None or (isinstance(half, Error) and half.code != messages.ERROR_CODE):
                    return half  # no site wrote it, so there is no answer at all
            validated, trained = (each.reason or "" if isinstance(each, Error) else each for each in halves)
            return join_halves(trained, validated)
        self.sent.append((node, request))
        answer = self.scripts[node](request)
        return messages.pack_reply(answer) if isinstance(answer, Reply) else answer

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError


def join_halves(trained: Any, validated: Any) -> RecordDict:
    """Return the answer to two requests; each half is a reply's records, anything in their place, or a reason."""
    content = RecordDict()
    for prefix, half in (("", trained), (VALIDATION_PREFIX, validated)):
        records = RecordDict({ERROR_KEY: ConfigRecord({REASON_KEY: half})}) if isinstance(half, str) else half
        for name, record in records.items():
            content[prefix + name] = record
    return content


def site_script(site: Site, policy: SitePolicy = SIMULATION_POLICY) -> Script:
    """Return what a real site answers; needs `client.site.read_site` to return the site of a Place's name."""

    def answer(request: Request) -> Reply:
        return handle(SiteContext(policy, site=site.name), request)

    return answer


def build_request(
    kind: str,
    config: RunConfig,
    number: int = 0,
    weights: Weights | None = None,
    class_counts: tuple[int, ...] = (),
    **more: Any,
) -> Any:
    """Return a request of a kind; what such requests do not have is left out."""
    wanted = REQUEST_TYPES[kind]
    given = {"round": number, "weights": weights or {}, "class_counts": class_counts, **more}
    names = {item.name for item in fields(wanted)}
    return wanted(config, **{name: value for name, value in given.items() if name in names})


_COUNTS = SplitCounts(patients=1, examples=3, classes=(1, 1, 1))
SAMPLE_REPLIES: dict[RequestKind, Reply] = {
    each.kind: each
    for each in (
        HandshakeReply(
            "north",
            HandshakeReport(
                protocol=PROTOCOL, task=tiny.TASK, fingerprint=tiny.TASK.fingerprint(), synthetic=True,
                split="patient", warning="", excluded={}, shift={},
                counts=HandshakeCounts(train=_COUNTS, validation=_COUNTS, test=_COUNTS), device="cpu",
            ),
        ),
        ScalingReply("north", ScalingReport(), sums={"count": np.ones(2)}),
        TrainReply("north", TrainReport(examples=3, loss=0.5), weights={"w": np.ones(2, np.float32)}),
        ValidateReply("north", ValidateReport(patients=1), tables={"all": empty_counts((3, 3), 16)}),
        GrowReply("north", GrowReport(examples=3, seconds=0.5), sums={"people": np.ones(1)}),
        LatentReply("north", LatentReport(), sums={"count": np.ones(1)}),
        FinalTestReply("north", FinalTestReport(evaluations={}, suppressed={"all": 5})),
        DomainShiftReply("north", DomainShiftReport(columns=("age",)), sums={"count": np.ones(1)}),
        CanaryReply(
            "north",
            CanaryReport(
                protocol=PROTOCOL, release="1.0", task=tiny.TASK, device="cpu", load_seconds=0.1, refusals=("x",)
            ),
        ),
    )
}  # fmt: skip
"""A reply of each kind."""


def change_report(reply: Any, **changes: Any) -> Any:
    """Return a reply with some of its report changed, unchecked."""
    return replace(reply, report=reply.report.model_copy(update=changes))


def change_json(reply: Reply, change: Callable[[dict[str, Any]], Any]) -> RecordDict:
    """Return an answer whose report is anything: `change` changes the JSON in place, or returns another or a text."""
    content = messages.pack_reply(reply)
    record = content.config_records[messages.REPLY_KEY]
    report = json.loads(str(record["report"]))
    changed = change(report)
    record["report"] = changed if isinstance(changed, str) else json.dumps(report if changed is None else changed)
    return content


def over_the_wire(content: RecordDict) -> RecordDict:
    """Return records after a trip through Flower's serialisation."""
    return recorddict_from_proto(recorddict_to_proto(content))
