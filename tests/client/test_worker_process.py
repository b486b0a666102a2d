"""The worker as the SuperNode sees it: started, asked, given up, started again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from client import worker_process
from client.worker_channel import Parcel
from client.worker_process import WorkerFailed, WorkerProcess, end_survivor, record_process

ECHO = """
import os, sys, time
from multiprocessing.connection import Connection
from client.worker_channel import Parcel, receive_parcel, send_parcel
from common.process_guard import end_with_parent

end_with_parent(int(sys.argv[2]))
channel = Connection(int(sys.argv[1]))
settings = receive_parcel(channel)
if "broken" in settings.fields:
    sys.exit(3)
send_parcel(channel, Parcel("ready"))
while True:
    request = receive_parcel(channel)
    if "die" in request.fields:
        os.kill(os.getpid(), 9)
    if "sleep" in request.fields:
        for _ in range(200):
            time.sleep(0.05)
            if "mute" not in request.fields:
                send_parcel(channel, Parcel("alive"))
    send_parcel(channel, Parcel("reply", {**request.fields, "pid": os.getpid(), "site": settings.fields["site"]}))
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, with a stand-in for client.worker installed for child processes."""
    package = tmp_path / "installed" / "client"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n")
    (package / "worker.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    return tmp_path


@pytest.fixture
def worker(directory: Path) -> Iterator[WorkerProcess]:
    one = WorkerProcess({"site": "north"}, directory, directory / "log")
    yield one
    one.stop()


@pytest.mark.processes
def test_one_worker_answers_request_after_request(worker: WorkerProcess, directory: Path) -> None:
    first = worker.ask(Parcel("request", {"n": 1}))
    assert first.fields == {"n": 1, "pid": worker.pid, "site": "north"}
    assert worker.ask(Parcel("request", {"n": 2})).fields["pid"] == worker.pid
    pid = worker.pid
    worker.stop()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert not (directory / "worker.pid").exists()


@pytest.mark.processes
def test_a_worker_that_dies_loses_its_message_alone(worker: WorkerProcess) -> None:
    pid = worker.ask(Parcel("request")).fields["pid"]
    with pytest.raises(WorkerFailed, match="the site's worker ended by signal 9"):
        worker.ask(Parcel("request", {"die": True}))
    assert worker.ask(Parcel("request", {"n": 3})).fields["pid"] != pid


@pytest.mark.processes
def test_a_worker_that_ends_between_requests_is_started_again(worker: WorkerProcess) -> None:
    pid = worker.ask(Parcel("request")).fields["pid"]
    os.kill(int(pid), 9)
    deadline = time.monotonic() + 120
    while worker.pid in (pid, None):
        worker.keep_running()
        assert time.monotonic() < deadline
    assert worker.ask(Parcel("request")).fields["pid"] == worker.pid


@pytest.mark.processes
def test_a_worker_that_cannot_start_waits_longer_each_time(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = WorkerProcess({"site": "north", "broken": True}, directory, directory / "log")
    clock = [1000.0]
    with pytest.raises(WorkerFailed, match="the site's worker ended with status 3"):
        one.ask(Parcel("request"))
    monkeypatch.setattr(worker_process.time, "monotonic", lambda: clock[0])
    one._next_start, one._failures = 0.0, 4
    one._give_up()
    with pytest.raises(WorkerFailed, match="starts again in 15 s"):
        one.ask(Parcel("request"))
    one.keep_running()
    assert one.pid is None
    one._failures = 20
    one._give_up()
    assert one._next_start == clock[0] + worker_process.MAX_BACKOFF


@pytest.mark.processes
def test_a_silent_worker_is_given_up(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.ask(Parcel("request"))
    monkeypatch.setattr(worker_process, "SILENCE_SECONDS", 0.1)
    with pytest.raises(WorkerFailed, match="no sign of life for 0 s"):
        worker.ask(Parcel("request", {"sleep": True, "mute": True}))
    assert worker.pid is None


@pytest.mark.processes
def test_work_that_nobody_waits_for_is_ended(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.ask(Parcel("request"))
    monkeypatch.setattr(worker_process, "ASK_SECONDS", 0.1)
    with pytest.raises(WorkerFailed, match="nobody waits"):
        worker.ask(Parcel("request", {"sleep": True}), lambda: False)


def test_a_survivor_of_a_killed_client_is_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        record_process(tmp_path / "pid", other.pid)
        assert end_survivor(tmp_path / "pid")
        assert not psutil.pid_exists(other.pid)
    assert not (tmp_path / "pid").exists()


def test_another_process_of_the_same_number_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()} 12.5\n")
    assert not end_survivor(tmp_path / "pid")
    (tmp_path / "pid").write_text("damaged")
    assert not end_survivor(tmp_path / "pid")
    assert not end_survivor(tmp_path / "absent")
