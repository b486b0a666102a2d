"""The way from a hospital to its server: what answers there, and both clocks."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.doctor import network
from experiments.doctor.checks import run_checks
from server.credentials import Credentials, create_credentials
from tests.experiments.doctor.test_doctor import Results, by_topic

NOW = 1_800_000_000.5
"""This machine's clock, which stands still: a request that takes long makes no difference."""


class Front:
    """A TLS server that answers each path with a status, and with a clock of its own."""

    def __init__(self, credentials: Credentials) -> None:
        self.status = {network.FLEET_PATH: 405, network.CONTROL_PATH: 404}
        self.ahead = 0.0
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response_only(front.status[self.path])
                self.send_header("Date", formatdate(NOW - front.ahead, usegmt=True))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None: ...

        self.server = Quiet(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(credentials.certificate, credentials.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    for name in network.PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(network, "time", SimpleNamespace(time=lambda: NOW))
    front = Front(create_credentials(tmp_path / "front", []))
    yield front
    front.server.shutdown()
    front.server.server_close()


def connect(front: Front, tmp_path: Path) -> Results:
    ca = tmp_path / "front" / "ca.pem"
    return by_topic(run_checks([("network", lambda: network.check_network(front.address, ca))]))


def test_a_server_behind_a_proxy_passes(front: Front, tmp_path: Path) -> None:
    actual = connect(front, tmp_path)
    assert {topic: check.level for topic, check in actual.items()} == dict.fromkeys(
        ("server's certificate", "server", "control interface", "clock"), "ok"
    )


@pytest.mark.parametrize("status", [404, 403, 502])
def test_a_proxy_that_does_not_reach_the_server_fails(front: Front, tmp_path: Path, status: int) -> None:
    front.status[network.FLEET_PATH] = status
    check = connect(front, tmp_path)["server"]
    assert (check.level, f"answered {status}" in check.finding) == ("fail", True)


def test_a_control_interface_that_can_be_reached_is_pointed_out(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.status[network.CONTROL_PATH] = 405
    assert connect(front, tmp_path)["control interface"].level == "warn"  # on one machine
    monkeypatch.setattr(network, "LOOPBACK", ())
    assert connect(front, tmp_path)["control interface"].level == "fail"


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, "ok"), (4, "warn"), (7, "fail"), (-100, "warn"), (-310, "fail"), (86_400, "fail")]
)
def test_clocks_that_differ_are_found(front: Front, tmp_path: Path, ahead: float, level: str) -> None:
    front.ahead = ahead
    check = connect(front, tmp_path)["clock"]
    assert check.level == level, check
    if abs(ahead) > 10:
        assert ("ahead of" if ahead > 0 else "behind") in check.finding


def test_the_limits_of_clocks_are_those_of_flower() -> None:
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

    assert network.AHEAD_SECONDS == SYSTEM_TIME_TOLERANCE
    assert network.BEHIND_SECONDS == TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE


def test_a_wrong_authority_or_an_unreachable_server_fails(front: Front, tmp_path: Path) -> None:
    other = create_credentials(tmp_path / "other", []).ca
    (check,) = run_checks([("server", lambda: network.check_network(front.address, other))])
    assert (check.level, "does not vouch for" in check.finding) == ("fail", True)
    (check,) = run_checks([("server", lambda: network.check_network("127.0.0.1:1", other))])
    assert (check.level, "cannot reach" in check.finding) == ("fail", True)


def test_a_proxy_is_named_without_its_password(front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    actual = connect(front, tmp_path)
    assert actual["proxy"].level == "warn"
    assert "secret" not in str(actual)
