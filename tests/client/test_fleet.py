"""The session with the server where the network or a proxy fails."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from client import fleet
from client.fleet import FleetSession
from client.supernode import create_node_key
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
