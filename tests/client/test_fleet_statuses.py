"""Calls that fail for a while are tried again; calls that will fail again are not."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from client.fleet import FleetSession
from client.supernode import create_node_key
from server.credentials import create_credentials


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetSession:
    create_node_key(tmp_path / "node.key")
    session = FleetSession("127.0.0.1:1", create_credentials(tmp_path / "server", []).ca, tmp_path / "node.key")
    monkeypatch.setattr(session._closing, "wait", lambda seconds: False)
    return session


def answer_after(*statuses: int):  # type: ignore[no-untyped-def]
    """Return a call that is answered with each status in turn, then with "done"."""
    left = list(statuses)

    def send() -> str:
        if not left:
            return "done"
        response = httpx.Response(left.pop(0), request=httpx.Request("POST", "https://h/v1/fleet/push-object"))
        response.raise_for_status()
        return "done"

    return send


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_call_that_a_proxy_or_the_server_could_not_pass_is_repeated(session: FleetSession, status: int) -> None:
    assert session._retry(answer_after(status, status)) == "done"


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_a_call_that_is_refused_for_good_is_not_repeated(session: FleetSession, status: int) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        session._retry(answer_after(status))
