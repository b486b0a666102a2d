"""Following a run: what ends it without a result is noticed soon, also where the server does not know yet."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pytest

from common.errors import EngineError
from experiments.engines import federation
from server.superlink import Connection

APP = """
import sys, time
from pathlib import Path
from common.run_folder import hold_lock

folder = Path(sys.argv[1])
with hold_lock(folder / sys.argv[2]):
    (folder / "events.jsonl").write_text('{"event": "begun"}\\n')
    time.sleep(float(sys.argv[3]))
    if sys.argv[4]:
        (folder / "server.done").write_text(sys.argv[4])
"""


class Server:
    """A server that says of every run that it runs, and whose app is a process of its own."""

    def __init__(self, seconds: float, outcome: str) -> None:
        self.seconds, self.outcome = seconds, outcome
        self.stopped: list[str] = []
        self.app: subprocess.Popen[bytes] | None = None

    def submit(self, config_json: str, out: Path, simulation: Mapping[str, int] | None = None) -> str:
        lock = federation.RunFolder(out).server_lock.name
        self.app = subprocess.Popen([sys.executable, "-c", APP, str(out), lock, str(self.seconds), self.outcome])
        return "17"

    def run_status(self, run: str) -> tuple[str, str]:
        return "running", ""

    def stop_run(self, run: str) -> None:
        self.stopped.append(run)


def follow(server: Server, out: Path, on_event: Callable[[federation.Event], None]) -> str:
    try:
        return federation.follow_run(cast(Connection, server), "{}", out, on_event)
    finally:
        assert server.app is not None
        server.app.kill()
        server.app.wait()


def kill_later(server: Server) -> None:
    assert server.app is not None
    threading.Timer(1.0, server.app.kill).start()


def test_an_app_that_is_killed_is_noticed_before_the_server_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "STATUS_SECONDS", 0.05)
    server = Server(600, "")

    start = time.monotonic()
    with pytest.raises(EngineError, match="the server's app ended without a result: its process ended"):
        follow(server, tmp_path, lambda event: kill_later(server))
    assert time.monotonic() - start < 300
    assert server.stopped == ["17"]


def test_an_app_that_has_a_result_ends_the_run_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "STATUS_SECONDS", 0.05)
    server = Server(1.0, json.dumps({"status": "complete"}))
    assert follow(server, tmp_path, lambda event: None) == "17"
    assert server.stopped == []
