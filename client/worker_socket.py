"""A worker under an operating-system user of its own, so that the process with the network cannot read the data.

The worker listens on a Unix socket; the node connects to it. Each end has the kernel say which user the other end is,
and refuses every other one.
"""

from __future__ import annotations

import logging
import os
import pwd
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from client.worker_channel import ChannelClosed, Parcel
from client.worker_process import WorkerLink
from common.errors import ConfigError, EngineError

log = logging.getLogger("wardround.site")
RESTART_SECONDS = 30.0
"""How long a request waits for a worker that does not listen."""
_CREDENTIALS = struct.Struct("3i")
"""Linux, <sys/socket.h>, struct ucred: process, user, group."""


class WorkerMissing(EngineError):
    """No worker listens at the socket."""


def find_user(name: str) -> int:
    """Return the number of an operating-system user.

    Raises:
        ConfigError: there is none of that name, or this system does not say who is at the other end of a socket.
    """
    if sys.platform != "linux":
        raise ConfigError("a worker under a user of its own needs Linux: leave out the worker's socket")
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(f"this system has no user {name!r}") from None


def read_peer_user(end: socket.socket) -> int:
    """Return the user at the other end of a Unix socket, as the kernel states it."""
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return int(user)


def serve_socket(path: Path, user: int, serve: Callable[[Connection], None]) -> None:
    """Serve the node that connects to a socket, one after another, until interrupted.

    Args:
        path: the socket; anyone may connect to it, and only `user` is served.
        user: the user that the node runs under.
        serve: serves one connection until it closes.

    Raises:
        ConfigError: the socket cannot be made, or another worker serves it.
    """
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        raise ConfigError(f"{path} is served by another worker")
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o666)  # the kernel's word on who connects counts, not the file's permissions
        except OSError as error:
            raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from None
        try:
            listener.listen(1)
            while True:
                end, _ = listener.accept()
                if (peer := read_peer_user(end)) != user:
                    log.warning("refused user %d at %s: the node runs as user %d", peer, path, user)
                    end.close()
                    continue
                with suppress(ChannelClosed):
                    serve(Connection(end.detach()))
        finally:
            path.unlink(missing_ok=True)


class WorkerSocket(WorkerLink):
    """A worker that another user runs.

    Args:
        path: the socket that it listens on.
        user: the user that it runs under.
    """

    def __init__(self, path: Path, user: int) -> None:
        super().__init__()
        self._path, self._user = path, user

    def start(self) -> None:
        """Connect to the worker; does nothing if connected.

        Raises:
            WorkerMissing: nothing listens there.
            EngineError: another user does.
        """
        if self._channel is not None:
            return
        with socket.socket(socket.AF_UNIX) as end:
            try:
                end.connect(str(self._path))
            except OSError as error:
                raise WorkerMissing(f"no worker at {self._path} ({error.strerror or error}): start it") from None
            if (peer := read_peer_user(end)) != self._user:
                raise EngineError(f"{self._path} is served by user {peer}, not by user {self._user}")
            self._channel = Connection(os.dup(end.fileno()))

    def ask(self, request: Parcel, is_awaited: Callable[[], bool] = lambda: True) -> Parcel:
        """Return the worker's reply to a request, as `WorkerLink.ask`; wait for a worker that is being started again.

        Its service takes a few seconds for that, and a round without this hospital would cost more.
        """
        deadline = time.monotonic() + RESTART_SECONDS
        while self._channel is None and time.monotonic() < deadline:
            try:
                self.start()
            except WorkerMissing:
                time.sleep(0.2)
            except EngineError:
                break  # reported below
        self._next_start = 0.0
        return super().ask(request, is_awaited)

    def stop(self) -> None:
        """Close the channel; the worker ends its work on it and waits for the next connection."""
        self._close_channel()
