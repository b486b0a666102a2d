from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import service_manager
from common.service_manager import ServiceState, notify_manager, read_watchdog_seconds


class Manager:
    """Takes messages as systemd does."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def take(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    name = f"wardround-test-{os.getpid()}"
    address = str(tmp_path / "notify") if request.param == "path" else f"\0{name}"
    manager = Manager(address)
    monkeypatch.setenv(service_manager.SOCKET_VARIABLE, address.replace("\0", "@"))
    yield manager
    manager.socket.close()


def test_a_service_says_once_that_it_is_ready(manager: Manager) -> None:
    state = ServiceState()
    state.report_ready("connected as node 7")
    state.report_ready("connected as node 8")
    state.report_stopping()
    assert manager.take() == ["READY=1\nSTATUS=connected as node 7", "STATUS=connected as node 8", "STOPPING=1"]


def test_signs_of_life_are_given_as_often_as_they_are_needed(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    now = [0.0]
    state = ServiceState(lambda: now[0])
    for second in range(100):  # each second, though one in 10 s is enough
        now[0] = float(second)
        state.beat()
    assert manager.take() == ["WATCHDOG=1"] * 10


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("30000000", None, 30.0), ("30000000", "1", None), ("", None, None), ("x", None, None), ("0", None, None)],
)
def test_the_watchdog_of_another_process_is_not_this_ones(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert read_watchdog_seconds() == seconds


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address in ("", "relative", str(tmp_path / "nobody")):
        monkeypatch.setenv(service_manager.SOCKET_VARIABLE, address)
        assert not notify_manager("READY=1")
    monkeypatch.delenv(service_manager.SOCKET_VARIABLE)
    assert not notify_manager("READY=1")
