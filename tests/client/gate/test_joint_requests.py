"""Two requests in one message pass the gate as two: the same answers, counts and log as of two messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from client import app
from client.gate.audit_trail import open_audit_log
from client.gate.register import open_register
from client.requests import handle
from client.site_context import SiteContext, read_site_context
from common import messages, models
from common.arrays import Weights
from common.config import RunConfig, load_config
from common.joint_messages import join_requests, split_answer
from common.messages import MESSAGE_TYPES
from common.replies import TrainReply, ValidateReply
from common.requests import HandshakeRequest, Request, TrainRequest, ValidateRequest
from sites.datasets.heart_disease import simulate
from tests.client.gate.test_audit_trail import CONFIG, SETTINGS
from tests.wire import FakeGrid

RUN = "1f" * 16


class Hospital:
    """A hospital of generated heart patients, asked through its app as the server would."""

    def __init__(self, folder: Path, policy: str) -> None:
        FakeGrid([])
        simulate.generate(folder / "data", hospitals=1, patients=120, seed=3)
        (folder / "policy.yaml").write_text(policy)
        self.node = {"site": "north", "data": str(folder / "data"), "state": str(folder / "runs")}
        self.node["policy"] = str(folder / "policy.yaml")
        self.context: SiteContext = read_site_context(self.node)

    def ask(self, message: Message) -> Message:
        context = Context(run_id=1, node_id=1, node_config=self.node, state=RecordDict(), run_config={})
        return app.app(message, context)

    def log(self) -> list[tuple[Any, ...]]:
        lines = open_audit_log(self.context).read()
        return [(line.event, line.kind, line.round, line.reason, [fact[:3] for fact in line.arrays]) for line in lines]

    def counts(self) -> dict[str, dict[str, int]]:
        return open_register(self.context).summary()


def message(request: Request) -> Message:
    return Message(messages.pack_request(request), 1, MESSAGE_TYPES[request.kind])


def first_round(hospital: Hospital, config: RunConfig) -> Weights:
    """Return the update of the first round, from which the server's next weights are."""
    report: Any = handle(hospital.context, HandshakeRequest(config)).report
    model = models.build_model(report.task, config.model, config.seed)
    weights = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
    reply: Any = handle(hospital.context, TrainRequest(config, 1, weights, run_id=RUN))
    return dict(reply.weights)


@pytest.mark.parametrize(
    ("policy", "refused"),
    [("{}", ""), ("{max_rounds_per_run: 1}", "train"), ("{max_validated_models_per_month: 1}", "validate")],
    ids=["both", "no training", "no validation"],
)
def test_a_joint_message_is_counted_logged_and_answered_as_two(tmp_path: Path, policy: str, refused: str) -> None:
    config = load_config(CONFIG, [*SETTINGS, "federation.on_lost=continue", "evaluation.bins=62"])
    hospitals = [Hospital(tmp_path / name, policy) for name in ("joint", "apart")]
    merged = [first_round(each, config) for each in hospitals]
    for each in hospitals if refused == "validate" else ():
        handle(each.context, ValidateRequest(config, 0, merged[0], run_id=RUN, state_round=1))
    requests: tuple[Request, Request] = (
        TrainRequest(config, 2, merged[0], run_id=RUN, state_round=1),
        ValidateRequest(config, 1, merged[0], run_id=RUN, state_round=1),
    )
    joined = join_requests(*map(message, requests))
    assert joined is not None
    joint = split_answer(hospitals[0].ask(joined))
    apart = [hospitals[1].ask(message(each)) for each in reversed(requests)][::-1]
    for kind, half, alone in zip((TrainReply, ValidateReply), joint, apart, strict=True):
        if kind.kind == refused:
            assert alone.has_error()
            assert half == messages.unpack_error(alone.error.code, alone.error.reason)[1]
            assert str(half).startswith("policy: ")
            continue
        assert isinstance(half, Message)
        got, expected = (messages.unpack_reply(kind, each.content) for each in (half, alone))
        assert got.site == expected.site
        assert set(got.report.to_dict()) == set(expected.report.to_dict())
    assert hospitals[0].counts() == hospitals[1].counts()
    assert hospitals[0].log() == hospitals[1].log()
    expected_lines = [
        (event, kind)
        for kind in ("validate", "train")
        for event in (("refused",) if kind == refused else ("admitted", "released"))
    ]
    assert [line[:2] for line in hospitals[0].log()][-len(expected_lines) :] == expected_lines
