"""The session with the server where the network or a proxy fails."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse

from client import fleet
from client.fleet import FleetSession
from client.supernode import create_node_key
from common.errors import EngineError
from server.credentials import create_credentials


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now, self.closed = 0.0, False

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.closed

    def set(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fleet, "time", clock)
    return clock


@pytest.fixture
def session(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FleetSession:
    create_node_key(tmp_path / "node.key")
    ca = create_credentials(tmp_path / "server", []).ca
    session = FleetSession("127.0.0.1:1", ca, tmp_path / "node.key")
    assert isinstance(session._closing, threading.Event)
    monkeypatch.setattr(session, "_closing", clock)
    return session


def failing_until(clock: Clock, end: float, error: Exception) -> str:
    if clock.now < end:
        raise error
    return "sent"


def bad_gateway() -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://h/")
    return httpx.HTTPStatusError("502", request=request, response=httpx.Response(502, request=request))


@pytest.mark.parametrize("error", [httpx.ConnectTimeout(""), httpx.ReadError(""), bad_gateway()])
def test_a_part_of_a_message_outlasts_a_cut_of_half_a_minute(
    session: FleetSession, clock: Clock, error: Exception
) -> None:
    beats: list[float] = []
    session.beat = lambda: beats.append(clock.now)
    assert session._retry(lambda: failing_until(clock, 30.0, error)) == "sent"
    assert 30 <= clock.now < 36
    pauses = [later - earlier for earlier, later in zip([0.0, *beats], beats, strict=False)]
    assert max(pauses) <= 5.0  # a service manager must not take the node for hung


def test_attempts_end(session: FleetSession, clock: Clock) -> None:
    with pytest.raises(httpx.ReadError):
        session._retry(lambda: failing_until(clock, 1e9, httpx.ReadError("")))
    assert 80 < clock.now <= 90


def test_a_refusal_is_not_asked_again(session: FleetSession, clock: Clock) -> None:
    request = httpx.Request("POST", "https://h/")
    error = httpx.HTTPStatusError("403", request=request, response=httpx.Response(403, request=request))
    with pytest.raises(httpx.HTTPStatusError):
        session._retry(lambda: failing_until(clock, 1e9, error))
    assert clock.now == 0.0


def test_closing_ends_attempts(session: FleetSession, clock: Clock) -> None:
    clock.set()
    with pytest.raises(httpx.ReadError):
        session._retry(lambda: failing_until(clock, 1e9, httpx.ReadError("")))
    assert clock.now < 1


@pytest.mark.parametrize(("node", "answers", "signed_off"), [(17, True, True), (17, False, False), (0, True, False)])
def test_signing_off_says_whether_the_server_confirmed_it(
    session: FleetSession, monkeypatch: pytest.MonkeyPatch, node: int, answers: bool, signed_off: bool
) -> None:
    def deactivate(request: object) -> None:
        if not answers:
            raise httpx.ConnectError("")

    session.node = node
    monkeypatch.setattr(session._client, "DeactivateNode", deactivate)
    assert session.close() is signed_off


class Server:
    """Takes a reply in parts, and loses the answers to some requests after it has handled them."""

    def __init__(self, lost: set[int]) -> None:
        self.lost, self.requests = lost, 0
        self.lacks: set[str] | None = None
        self.stored: dict[str, bytes] = {}

    def _answer(self) -> None:
        self.requests += 1
        if self.requests in self.lost:
            raise bad_gateway()

    def PushMessages(self, request: PushMessagesRequest) -> PushMessagesResponse:
        names = [] if self.lacks is not None else ["a", "b"]
        self.lacks = {"a", "b"} if self.lacks is None else self.lacks
        self._answer()
        return PushMessagesResponse(objects_to_push=names, session_id="s" if names else "another")

    def PushObject(self, request: PushObjectRequest) -> PushObjectResponse:
        assert self.lacks is not None
        known = request.session_id in ("s", "") and request.object_id in self.lacks
        if known:
            self.lacks.remove(request.object_id)
            self.stored[request.object_id] = request.object_content
        self._answer()
        return PushObjectResponse(stored=known)


@pytest.mark.parametrize("lost", [set(), {1}, {2}, {3}, {1, 3}, {2, 3, 4}])
def test_a_reply_arrives_whole_whichever_answer_is_lost(
    session: FleetSession, monkeypatch: pytest.MonkeyPatch, lost: set[int]
) -> None:
    server = Server(lost)
    for name in ("PushMessages", "PushObject"):
        monkeypatch.setattr(session._client, name, getattr(server, name))
    session.push(b"", b"", {"a": b"1", "b": b"2"}, 0.0)
    assert server.stored == {"a": b"1", "b": b"2"}


def test_an_object_that_the_server_does_not_take_is_an_error(
    session: FleetSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(set())
    monkeypatch.setattr(session._client, "PushMessages", server.PushMessages)
    monkeypatch.setattr(session._client, "PushObject", lambda request: PushObjectResponse(stored=False))
    with pytest.raises(EngineError, match="did not take the whole reply"):
        session.push(b"", b"", {"a": b"1", "b": b"2"}, 0.0)
