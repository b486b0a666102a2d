"""What the ClientApp lets out: an answer, or an error without data."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from client import app
from client import requests as work
from client.policy import SIMULATION_POLICY
from client.site_context import SiteContext
from common import messages
from common.errors import DataError, SiteError
from common.joint_messages import split_answer
from common.messages import MESSAGE_TYPES
from common.replies import Reply
from common.request_record import PROTOCOL
from common.requests import Request, RequestKind
from tests import tiny
from tests.wire import SAMPLE_REPLIES, FakeGrid, build_request

HOSPITAL = {"site": "north", "data": "/data/north"}
SIMULATED = {"partition-id": 0, "num-partitions": 1}
PATIENT = "Jane Roe born 1950-01-01"


def ask_node(kind: RequestKind, node_config: dict[str, Any], **run_config: Any) -> Message:
    FakeGrid([])
    context = Context(run_id=1, node_id=1, node_config=node_config, state=RecordDict(), run_config=run_config)
    request = messages.pack_request(build_request(kind, tiny.run_config(data__path="/etc")))
    return app.app(Message(request, 1, MESSAGE_TYPES[kind]), context)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def handle(test_context: SiteContext, request: Request) -> Reply:
        raise error

    monkeypatch.setattr(work, "handle", handle)


def read_error(reply: Message) -> dict[str, str]:
    assert reply.has_error()
    assert reply.error.code == messages.ERROR_CODE
    result: dict[str, str] = json.loads(reply.error.reason or "")
    return result


@pytest.mark.parametrize("kind", list(MESSAGE_TYPES))
@pytest.mark.parametrize("error", [ValueError(PATIENT), DataError(PATIENT), KeyError(PATIENT)])
def test_a_patients_value_never_leaves_a_hospital(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: RequestKind, error: Exception
) -> None:
    failing(monkeypatch, error)
    reply = ask_node(kind, HOSPITAL)
    assert "Roe" not in (reply.error.reason or "")
    assert read_error(reply) == {
        "site": "north",
        "kind": type(error).__name__,
        "text": f"{kind} failed with {type(error).__name__}; the site's own log says why",
    }
    assert PATIENT in caplog.text


def test_the_chain_of_an_error_does_not_leave_either(monkeypatch: pytest.MonkeyPatch) -> None:
    error = SiteError("no training examples at this site")
    error.__cause__ = ValueError(PATIENT)
    failing(monkeypatch, error)
    assert read_error(ask_node("train", HOSPITAL))["text"] == "no training examples at this site"


def test_a_simulation_reports_planned_errors_in_full_and_others_without_their_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing(monkeypatch, ValueError("row 3\nand more"))
    assert read_error(ask_node("train", SIMULATED))["text"].startswith(
        "unexpected ValueError in tests/client/test_app.py, line "
    )
    assert "row 3" not in caplog.text  # it would be on the terminal
    monkeypatch.setenv("WARDROUND_DEBUG", "1")
    ask_node("train", SIMULATED)
    assert "Traceback" in caplog.text
    failing(monkeypatch, DataError("no data folder x"))
    assert read_error(ask_node("train", SIMULATED))["text"] == "no data folder x"


def test_a_planned_error_of_a_simulation_stays_off_the_screen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing(monkeypatch, SiteError("policy"))
    ask_node("train", SIMULATED)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    ask_node("train", HOSPITAL)
    assert [record.levelname for record in caplog.records if record.levelno > logging.DEBUG] == ["ERROR"]


def test_a_node_that_is_neither() -> None:
    reply = read_error(ask_node("handshake", {}))
    assert (reply["site"], reply["kind"]) == ("", "ConfigError")


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "handle", lambda test_context, request: pytest.fail("it must not come here"))
    content = messages.pack_request(build_request("handshake", tiny.run_config()))
    content.config_records[messages.CONFIG_KEY]["protocol"] = PROTOCOL + 1
    FakeGrid([])
    context = Context(run_id=1, node_id=1, node_config=SIMULATED, state=RecordDict(), run_config={})
    reply = app.app(Message(content, 1, "query"), context)
    assert "protocol" in read_error(reply)["text"]


@pytest.mark.parametrize(("kind", "name"), MESSAGE_TYPES.items())
def test_each_message_reaches_its_function(monkeypatch: pytest.MonkeyPatch, kind: RequestKind, name: str) -> None:
    observed: list[tuple[SiteContext, Request]] = []

    def handle(test_context: SiteContext, request: Request) -> Reply:
        observed.append((test_context, request))
        return SAMPLE_REPLIES[kind]

    monkeypatch.setattr(work, "handle", handle)
    reply = messages.unpack_reply(type(SAMPLE_REPLIES[kind]), ask_node(kind, HOSPITAL).content)
    assert (type(reply), reply.site, reply.report) == (type(SAMPLE_REPLIES[kind]), "north", SAMPLE_REPLIES[kind].report)
    assert observed[0][1].kind == kind


def ask_both(node_config: dict[str, Any]) -> tuple[Message | str, Message | str]:
    """Return the halves of the answer to a message with two requests."""
    FakeGrid([])
    context = Context(run_id=1, node_id=1, node_config=node_config, state=RecordDict(), run_config={})
    config = tiny.run_config(data__path="/etc")
    request = build_request("train", config, 4, validation=build_request("validate", config, 3))
    return split_answer(app.app(Message(messages.pack_request(request), 1, "train"), context))


def test_two_requests_of_one_message_are_answered_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[Any] = []

    def handle(test_context: SiteContext, request: Request) -> Reply:
        observed.append(request)
        return SAMPLE_REPLIES[request.kind]

    monkeypatch.setattr(work, "handle", handle)
    trained, validated = ask_both(HOSPITAL)
    assert [(request.kind, request.round) for request in observed] == [("validate", 3), ("train", 4)]
    assert observed[1].validation is None
    for kind, half in (("train", trained), ("validate", validated)):
        assert isinstance(half, Message)
        got = messages.unpack_reply(type(SAMPLE_REPLIES[kind]), half.content)  # type: ignore[index]
        assert got.report == SAMPLE_REPLIES[kind].report  # type: ignore[index]


@pytest.mark.parametrize("failed", ["train", "validate"])
@pytest.mark.parametrize("error", [SiteError("policy: too few people"), ValueError(PATIENT)])
def test_one_of_two_requests_may_fail_without_the_other_and_without_data(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failed: RequestKind, error: Exception
) -> None:
    def handle(test_context: SiteContext, request: Request) -> Reply:
        if request.kind == failed:
            raise error
        return SAMPLE_REPLIES[request.kind]

    monkeypatch.setattr(work, "handle", handle)
    halves = dict(zip(("train", "validate"), ask_both(HOSPITAL), strict=True))
    planned = isinstance(error, SiteError)
    assert halves.pop(failed) == (
        "policy: too few people" if planned else f"{failed} failed with ValueError; the site's own log says why"
    )
    assert all(isinstance(half, Message) for half in halves.values())
    assert str(error) in caplog.text  # in the site's own log, in full
    assert f"{failed} failed" in caplog.text


def test_the_door_takes_one_request_at_a_time() -> None:
    config = tiny.run_config()
    joint = build_request("train", config, 2, validation=build_request("validate", config, 1))
    with pytest.raises(TypeError, match="one after the other"):
        work.handle(SiteContext(SIMULATION_POLICY), joint)


def test_no_run_can_change_a_hospitals_path(monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[SiteContext] = []

    def handle(test_context: SiteContext, request: Request) -> Reply:
        observed.append(test_context)
        return SAMPLE_REPLIES["handshake"]

    monkeypatch.setattr(work, "handle", handle)
    ask_node("handshake", HOSPITAL, data="/etc", site="other", policy="/tmp/loose.yaml")
    assert observed[0].data == Path("/data/north")
    assert observed[0].site == "north"
    assert not observed[0].policy.share_resamples


def test_the_app_imports_no_torch() -> None:
    code = "import sys, client.app; sys.exit('torch' in sys.modules or 'sites' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
