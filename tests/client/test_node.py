"""A hospital's node: messages to the worker and back, what survives its end, and how failures are retried."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client import node
from client.fleet import Delivery, RunEnded, ServerUnavailable
from client.gate.audit_log import AuditLog, get_audit_path
from client.node import Node
from client.supernode import NodeSettings, create_node_key
from client.worker_channel import Parcel
from client.worker_process import WorkerFailed
from common.errors import EngineError
from common.receipts import RECEIPT_TYPE, read_receipt
from server.control import build_bundle
from server.superlink import format_app_settings
from tests.client.test_supernode import bundle


class ScriptOver(Exception):
    pass


class Session:
    """A session whose pulls give what is written, and that keeps what is pushed."""

    def __init__(self, pulls: list[Any], bundle: bytes = b"", number: int = 17) -> None:
        self.pulls, self.bundle, self.number = pulls, bundle, number
        self.pushed: list[Any] = []
        self.errors: list[tuple[str, str]] = []
        self.receipts: list[tuple[str, str]] = []
        self.opened: list[int] = []
        self.fetched = self.closed = 0
        self.signs_off = True
        self.push_fails: EngineError | None = None

    def open(self, last_node: int = 0) -> int:
        self.opened.append(last_node)
        return self.number

    def pull(self) -> Delivery | None:
        if not self.pulls:
            raise ScriptOver
        item = self.pulls.pop(0)
        if isinstance(item, BaseException):
            raise item
        assert item is None or isinstance(item, Delivery)
        return item

    def fetch_bundle(self, run: int) -> bytes:
        self.fetched += 1
        return self.bundle

    def push(self, message: bytes, tree: bytes, objects: dict[str, bytes], seconds: float) -> None:
        if self.push_fails:
            raise self.push_fails
        self.pushed.append((message, tree, objects))

    def push_error(self, head: Message, reason: str, code: int = 0) -> None:
        self.errors.append((head.metadata.message_type, json.loads(reason)["text"]))

    def push_content(self, head: Message, content: RecordDict) -> None:
        if self.push_fails:
            raise self.push_fails
        self.receipts.append((head.metadata.message_id, read_receipt(content)))

    def is_running(self, run: int) -> bool:
        return True

    def close(self) -> bool:
        self.closed += 1
        return self.signs_off


class Worker:
    """A worker that answers, fails or is interrupted as written."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Parcel] = []
        self.started = self.stopped = 0

    def start(self) -> None:
        self.started += 1

    def stop(self) -> None:
        self.stopped += 1

    def keep_running(self) -> None: ...

    def ask(self, request: Parcel, is_awaited: Callable[[], bool]) -> Parcel:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Parcel)
        return answer


REPLY = Parcel("reply", {"message": "0a", "tree": "0b"}, {"x": b"1"})


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    create_node_key(tmp_path / "node.key")
    (tmp_path / "ca.pem").write_text("x")
    files = tmp_path / "ca.pem", tmp_path / "node.key", tmp_path / "state"
    return NodeSettings("north", "host.example.org:443", *files, {"site": "north", "data": "/d"})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(node, "check_server", lambda address, ca: None)


def plain(tmp_path: Path) -> bytes:
    return build_bundle({"pyproject.toml": format_app_settings("{}", tmp_path).encode()})


def message(kind: str = "train", run: int = 5) -> Delivery:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, 0, 0
    head = Message(RecordDict(), 17, kind)
    head.metadata.__dict__["_message_id"] = f"{kind} {run}"
    return Delivery(head, {"a": b"abc"})


def run_node(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, session: Session, worker: Worker
) -> tuple[Node, list[str]]:
    """Run a node until its script is over."""
    monkeypatch.setattr(node, "FleetSession", lambda *given: session)
    one, said = Node(settings), []
    one.worker = worker  # type: ignore[assignment]
    with pytest.raises((ScriptOver, KeyboardInterrupt)):
        one.run(said.append)
    return one, said


def test_a_message_goes_to_the_worker_and_its_reply_back(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    session = Session([None, message("query"), None, message("train"), message("train", 6)], plain(tmp_path))
    worker = Worker(REPLY, REPLY, REPLY)
    _, said = run_node(monkeypatch, settings, session, worker)
    assert said == [f"north: connected to host.example.org:443 as node 17; log: {settings.state}/supernode.log"]
    assert session.pushed == [(b"\x0a", b"\x0b", {"x": b"1"})] * 3
    assert worker.requests[0] == Parcel("request", {"run": "5", "node": "17", "root": "query 5"}, {"a": b"abc"})
    assert session.fetched == 2  # the bundle of each run is checked once
    assert (session.closed, worker.stopped) == (1, 1)
    assert [path.name for path in settings.state.iterdir()] == ["admitted"]


def test_the_node_says_which_message_it_received_last(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    question = message(RECEIPT_TYPE)
    session, worker = Session([question, message(), question, question], plain(tmp_path)), Worker(REPLY)
    run_node(monkeypatch, settings, session, worker)
    assert [last for _, last in session.receipts] == ["", "train 5", "train 5"]
    assert len(worker.requests) == 1  # neither the worker nor the policy has a part in it
    session.push_fails, session.pulls = ServerUnavailable("no answer"), [question, None]
    run_node(monkeypatch, settings, session, worker)
    assert len(session.receipts) == 3


def test_a_run_that_carries_code_reaches_no_worker(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    evil = bundle(format_app_settings("{}", tmp_path), **{"client/app.py": "app = 1"})
    session, worker = Session([message(), message("evaluate")], evil), Worker()
    run_node(monkeypatch, settings, session, worker)
    assert worker.requests == []
    assert [text for _, text in session.errors] == [
        "refused a run that carries code (1 files): this site runs its own"
    ] * 2


def test_what_the_node_refuses_is_in_the_hospitals_audit_log(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    settings = replace(settings, node_config={**settings.node_config, "state": str(tmp_path / "runs")})
    evil = bundle(format_app_settings("{}", tmp_path), **{"client/app.py": "app = 1"})
    run_node(monkeypatch, settings, Session([message(), message("evaluate")], evil), Worker())
    log = AuditLog(get_audit_path(tmp_path / "runs", "north"))
    _, *lines = log.read()
    assert [(line.event, line.kind, line.server_run) for line in lines] == [
        ("refused", "train", "5"), ("refused", "evaluate", "5"),
    ]  # fmt: skip
    assert lines[0].server == "host.example.org:443"
    assert lines[0].reason.startswith("refused a run that carries code")
    log.head.unlink()
    run_node(monkeypatch, settings, session := Session([message()], evil), Worker())
    assert len(session.errors) == 1  # a log that cannot be written changes nothing: no code runs


def test_a_bundle_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, settings: NodeSettings) -> None:
    session, worker = Session([message()], b"no zip file"), Worker()
    run_node(monkeypatch, settings, session, worker)
    assert worker.requests == []
    assert session.errors == [("train", "refused a run whose settings cannot be read")]


def test_a_failed_worker_loses_its_message_alone(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    session = Session([message(), message("evaluate")], plain(tmp_path))
    run_node(monkeypatch, settings, session, Worker(WorkerFailed("the site's worker ended by signal 9"), REPLY))
    assert session.errors == [("train", "the site's worker ended by signal 9")]
    assert len(session.pushed) == 1


def test_a_reply_that_cannot_be_sent_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session([message(), None], plain(tmp_path))
    session.push_fails = RunEnded("the run has ended")
    run_node(monkeypatch, settings, session, Worker(REPLY))
    assert "the reply was not sent: the run has ended" in caplog.text
    assert not (settings.state / "pending").exists()


def test_a_stopped_client_answers_the_message_in_work(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    session = Session([message()], plain(tmp_path))
    run_node(monkeypatch, settings, session, Worker(KeyboardInterrupt()))
    assert session.errors == [("train", "the site's client was stopped")]
    assert session.closed == 1


def test_after_a_power_cut_the_old_session_is_ended_and_its_message_answered(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    first = Session([message("train")], plain(tmp_path))

    def cut(*_: Any) -> Parcel:
        raise SystemExit  # nothing of the node's own end runs

    monkeypatch.setattr(node, "FleetSession", lambda *given: first)
    one = Node(settings)
    one.worker = Worker()  # type: ignore[assignment]
    monkeypatch.setattr(one.worker, "ask", cut)
    monkeypatch.setattr(one, "_disconnect", lambda: None)
    with pytest.raises(SystemExit):
        one.run(print)
    assert first.opened == [0]
    assert {path.name for path in settings.state.iterdir()} == {"admitted", "session", "pending"}

    second = Session([], plain(tmp_path))
    run_node(monkeypatch, settings, second, Worker())
    assert second.opened == [17]  # so that the server need not be waited for
    assert second.errors == [("train", "the site's client ended during this request")]
    assert [path.name for path in settings.state.iterdir()] == ["admitted"]


def test_a_session_that_could_not_be_ended_is_ended_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings, tmp_path: Path
) -> None:
    """As while the server's clock is off: it then would count the old session as open for as long as it was off."""
    first, second = Session([], plain(tmp_path)), Session([], plain(tmp_path))
    first.signs_off = False
    run_node(monkeypatch, settings, first, Worker())
    run_node(monkeypatch, settings, second, Worker())
    assert (first.opened, second.opened) == ([0], [17])
    assert not (settings.state / "session").exists()


def test_a_session_of_another_key_or_server_is_not_ended(settings: NodeSettings) -> None:
    settings.state.mkdir()
    (settings.state / "session").write_text("other.example.org:443 0123 17")
    assert Node(settings)._read_open_session() == 0
    (settings.state / "session").write_text("damaged")
    assert Node(settings)._read_open_session() == 0


def test_a_damaged_note_of_the_message_in_work_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, settings: NodeSettings
) -> None:
    settings.state.mkdir()
    (settings.state / "pending").write_bytes(b"\xff\xff")
    session = Session([])
    run_node(monkeypatch, settings, session, Worker())
    assert session.errors == []
    assert not (settings.state / "pending").exists()
