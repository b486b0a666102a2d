"""A worker under another user: the kernel says who is at the other end."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from client import worker_socket
from client.worker_channel import ChannelClosed, Parcel, receive_parcel, send_parcel
from client.worker_process import WorkerFailed
from client.worker_socket import WorkerSocket, find_user, serve_socket
from common.errors import ConfigError

ME = os.getuid()


def echo(channel: Connection) -> None:
    send_parcel(channel, Parcel("ready"))
    while True:
        request = receive_parcel(channel)
        if "leave" in request.fields:
            channel.close()
            raise ChannelClosed("left")
        send_parcel(channel, Parcel("alive"))
        send_parcel(channel, Parcel("reply", request.fields, request.objects))


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[int], Path]:
    """Start a worker in a thread."""
    path = tmp_path / "worker"

    def start(user: int) -> Path:
        threading.Thread(target=serve_socket, args=(path, user, echo), daemon=True).start()
        deadline = time.monotonic() + 120
        while True:  # until it listens
            with socket.socket(socket.AF_UNIX) as end, suppress(OSError):
                end.connect(str(path))
                return path
            assert time.monotonic() < deadline

    return start


def test_a_worker_serves_one_connection_after_another(serve: Callable[[int], Path]) -> None:
    path = serve(ME)
    assert stat.S_ISSOCK(path.stat().st_mode)
    one = WorkerSocket(path, ME)
    for number in range(3):
        assert one.ask(Parcel("request", {"n": number}, {"a": b"x"})).objects == {"a": b"x"}
    one.keep_running()
    one.stop()
    other = WorkerSocket(path, ME)
    other.keep_running()
    assert other.ask(Parcel("request", {"n": 9})).fields == {"n": 9}
    with pytest.raises(WorkerFailed, match="the site's worker ended"):
        other.ask(Parcel("request", {"leave": True}))
    assert other.ask(Parcel("request", {"n": 10})).fields == {"n": 10}
    other.stop()


def test_a_node_of_another_user_is_not_served(serve: Callable[[int], Path], caplog: pytest.LogCaptureFixture) -> None:
    stranger = WorkerSocket(serve(ME + 1), ME)
    with pytest.raises(WorkerFailed, match="ended"):
        stranger.ask(Parcel("request"))
    assert f"refused user {ME}" in caplog.text


def test_a_worker_of_another_user_gets_no_message(serve: Callable[[int], Path]) -> None:
    with pytest.raises(WorkerFailed, match=f"is served by user {ME}, not by user {ME + 1}"):
        WorkerSocket(serve(ME), ME + 1).ask(Parcel("request"))


def test_a_missing_worker_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_socket, "RESTART_SECONDS", 0.3)
    absent = WorkerSocket(tmp_path / "absent", ME)
    absent.keep_running()
    assert f"no worker at {tmp_path / 'absent'} (No such file or directory): start it" in caplog.text
    with pytest.raises(WorkerFailed, match="no worker at"):
        absent.ask(Parcel("request"))


def test_a_request_waits_for_a_worker_that_is_started_again(tmp_path: Path, serve: Callable[[int], Path]) -> None:
    link = WorkerSocket(tmp_path / "worker", ME)
    link.keep_running()  # it does not listen yet, so that the next attempt would be made later
    link.keep_running()
    threading.Timer(0.5, serve, args=(ME,)).start()
    assert link.ask(Parcel("request", {"n": 1})).fields == {"n": 1}
    link.stop()


def test_a_socket_has_one_worker(serve: Callable[[int], Path]) -> None:
    path = serve(ME)
    with pytest.raises(ConfigError, match="is served by another worker"):
        serve_socket(path, ME, echo)


def test_a_socket_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on .*absent/worker"):
        serve_socket(tmp_path / "absent" / "worker", ME, echo)


def test_users_are_known_by_name() -> None:
    assert find_user(pwd.getpwuid(ME).pw_name) == ME
    with pytest.raises(ConfigError, match="no user 'nobody-at-all'"):
        find_user("nobody-at-all")
