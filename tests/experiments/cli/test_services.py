"""What a running server and client report besides their work."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.node import Node
from client.supernode import NodeSettings, create_node_key
from common.errors import ConfigError, EngineError, StoppedError
from common.service_file import find_service
from common.service_manager import ServiceState
from experiments.cli import services
from experiments.cli.main import app
from server.credentials import Credentials, create_credentials


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what takes messages as systemd does."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "notify"))
    receiver.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

    def take() -> list[str]:
        messages = []
        while True:
            try:
                messages.append(receiver.recv(4096).decode())
            except BlockingIOError:
                return messages

    yield take
    receiver.close()


def test_a_service_can_be_found_logs_and_says_that_it_stops(tmp_path: Path, manager: Any) -> None:
    state, file = tmp_path / "state", tmp_path / "service.log"
    handlers = list(logging.getLogger().handlers)
    with services.run_as_service(state, file, "127.0.0.1:8000", "", "", "it ends") as service:
        result = find_service(state)
        assert result is not None
        assert result.pid == os.getpid()
        services.say("serving")
        service.report_ready("serving")
        os.kill(os.getpid(), signal.SIGHUP)  # pytest's standard input is no terminal
    assert find_service(state) is None
    assert logging.getLogger().handlers == handlers
    lines = file.read_text().splitlines()
    assert lines[0].endswith("Z INFO wardround: serving")
    assert "SIGHUP" in lines[1]
    assert manager() == ["READY=1\nSTATUS=serving", "STOPPING=1"]


def test_with_a_terminal_sighup_ends_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with (
        pytest.raises(StoppedError, match=r"^stopped; north takes no part$"),
        services.run_as_service(
            tmp_path / "state", tmp_path / "service.log", "127.0.0.1:8000", "", "", "north takes no part"
        ),
    ):
        os.kill(os.getpid(), signal.SIGHUP)
    assert find_service(tmp_path / "state") is None


def test_a_node_reports_when_it_connects_and_that_it_does_not_hang(
    tmp_path: Path, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    create_node_key(tmp_path / "node.key")
    ca = create_credentials(tmp_path / "server", []).ca
    node = Node(NodeSettings("north", "h:1", ca, tmp_path / "node.key", tmp_path / "state", {"site": "north"}))
    services.attach_service(node, ServiceState(), services.CertificateWatch(ca))
    node.beat()
    node.number = 7
    node.beat()
    node.number = 0
    node.beat()
    assert manager() == ["WATCHDOG=1", "READY=1\nSTATUS=connected as node 7", "STATUS=not connected"]


def test_a_worker_gives_signs_of_life_while_it_works(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")  # a sign every 10 ms
    monkeypatch.setattr(services, "BEAT_SECONDS", 0.005)
    messages: list[str] = []
    deadline = time.monotonic() + 120
    with services.beat_in_background(ServiceState()):
        while len(messages) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
            messages += manager()
    assert messages[:3] == ["WATCHDOG=1"] * 3
    assert "sign of life to the service manager" not in {thread.name for thread in threading.enumerate()}


class Link:
    """A server's process that answers, and ends, as written."""

    def __init__(self, answers: list[bool]) -> None:
        self.answers, self.log = answers, Path("superlink.log")
        self.connection = SimpleNamespace(address="127.0.0.1:8000")

    def poll(self) -> int | None:
        return None if self.answers else 1

    def is_healthy(self) -> bool:
        return self.answers.pop(0)


def test_a_server_whose_process_gives_no_answer_gives_no_sign_of_life(
    manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    now = [0.0]
    monkeypatch.setattr(services.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(services.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    link: Any = Link([True] * 3 + [False] * 20)  # it hangs after 20 s; a look every 10 s
    with pytest.raises(EngineError, match="ended unexpectedly"):
        services.serve_until_stopped(link, ServiceState(lambda: now[0]), services.CertificateWatch())
    messages = manager()
    assert messages[0] == "READY=1\nSTATUS=serving on 127.0.0.1:8000"
    assert messages[1:] == ["WATCHDOG=1"] * 8  # every 10 s, until 60 s after the last answer


def test_certificates_that_end_soon_are_warned_about_once_a_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = create_credentials(tmp_path / "a", [], days=20)
    now = [10.0**6]
    monkeypatch.setattr(services.time, "monotonic", lambda: now[0])
    watch = services.CertificateWatch(short.certificate, short.ca, tmp_path / "absent.pem")
    for _ in range(5):
        watch.check()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"WARNING: {short.certificate} expires in 20 days")
    assert lines[1].startswith(f"WARNING: cannot read {tmp_path / 'absent.pem'}")
    now[0] += services.CERTIFICATE_SECONDS + 1
    watch.check()
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_server_listens_where_others_could_connect_only_if_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_credentials(tmp_path, [])
    started: list[str] = []

    class Server:
        def __init__(self, state: Path, credentials: Credentials, *, host: str, port: int) -> None:
            started.append(f"{host}:{port}")
            raise StoppedError("as far as this test goes")

    monkeypatch.setattr("server.superlink.SuperLink", Server)
    command = ["server", "--state", str(tmp_path), "--listen", "0.0.0.0:8000"]
    with pytest.raises(ConfigError, match="wardround server proxy"):
        app(command, standalone_mode=False)
    assert not started
    with pytest.raises(StoppedError):
        app([*command, "--allow-public-address"], standalone_mode=False)
    with pytest.raises(StoppedError):
        app([*command[:-1], "127.0.0.1:8001"], standalone_mode=False)
    assert started == ["0.0.0.0:8000", "127.0.0.1:8001"]
