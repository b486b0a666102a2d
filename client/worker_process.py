"""A hospital's worker process, seen from the SuperNode: started, watched, and started again when it ends."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import psutil

from client.worker_channel import ChannelClosed, Parcel, receive_parcel, send_parcel
from common import files
from common.errors import EngineError
from common.process_identity import read_start
from common.processes import ONE_THREAD_VARIABLES, ProcessTree

log = logging.getLogger("wardround.node")
START_SECONDS = 180.0
"""Most seconds from the start of a worker to its first sign that it is ready."""
SILENCE_SECONDS = 120.0
"""Seconds without a sign of life after which a worker counts as hung; it sends one every few seconds."""
ASK_SECONDS = 15.0
"""Seconds between two questions whether somebody still waits for the reply."""
MAX_BACKOFF = 60.0
"""Most seconds between two starts of a worker that keeps ending."""


class WorkerFailed(EngineError):
    """The worker ended, hung or cannot be started: the request is lost, the next one may succeed."""


class WorkerLink:
    """A channel to a worker, wherever that runs; subclasses say how it is opened and closed."""

    def __init__(self) -> None:
        self._channel: Connection | None = None
        self._ready = False
        self._failures = 0
        self._next_start = 0.0

    def start(self) -> None:
        """Open the channel without waiting for the worker to be ready; does nothing if it is open.

        Raises:
            EngineError: it cannot be opened.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Close the channel, and end the worker where it is this process's; does nothing if it is closed."""
        raise NotImplementedError

    def keep_running(self) -> None:
        """Read signs of life between two requests, and open a channel that has closed again when its pause is over."""
        try:
            while self._channel is not None and self._channel.poll(0):
                self._ready = receive_parcel(self._channel).kind == "ready" or self._ready
        except ChannelClosed:
            self._give_up()
        if self._channel is None and time.monotonic() >= self._next_start:
            try:
                self.start()
            except EngineError as error:
                log.warning("%s", error)
                self._give_up()

    def ask(self, request: Parcel, is_awaited: Callable[[], bool] = lambda: True) -> Parcel:
        """Return the worker's reply to a request.

        Args:
            request: a parcel of kind `request`.
            is_awaited: asked every few seconds; False ends the worker's work.

        Raises:
            WorkerFailed: it gave none.
        """
        if self._channel is None and (pause := self._next_start - time.monotonic()) > 0:
            raise WorkerFailed(f"the site's worker ended before and starts again in {pause:.0f} s")
        try:
            self.start()
            if not self._ready:
                self._receive("ready", START_SECONDS, is_awaited)
                self._ready = True
            assert self._channel is not None
            send_parcel(self._channel, request)
            reply = self._receive("reply", SILENCE_SECONDS, is_awaited)
        except EngineError as error:
            reason = self._describe_end(error)
            self._give_up()
            raise WorkerFailed(reason) from None
        self._failures = 0
        return reply

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel, self._ready = None, False

    def _give_up(self) -> None:
        """End the worker; the next one may start at once after a first failure, and later after each further one."""
        self.stop()
        self._next_start = time.monotonic() + min(MAX_BACKOFF, 2.0**self._failures - 1.0)
        self._failures += 1

    def _receive(self, kind: str, limit: float, is_awaited: Callable[[], bool]) -> Parcel:
        """Return the next parcel of a kind, passing over signs of life."""
        assert self._channel is not None
        last_sign = last_question = time.monotonic()
        while True:
            if self._channel.poll(1.0):
                parcel = receive_parcel(self._channel)
                last_sign = time.monotonic()
                if parcel.kind == kind:
                    return parcel
                if parcel.kind not in ("alive", "ready"):
                    raise ChannelClosed(f"the worker sent {parcel.kind} where {kind} was due")
            now = time.monotonic()
            if now - last_sign > limit:
                raise WorkerFailed(f"the site's worker gave no sign of life for {limit:.0f} s")
            if now - last_question > ASK_SECONDS:
                last_question = now
                if not is_awaited():
                    raise WorkerFailed("nobody waits for the reply any more")

    def _describe_end(self, error: EngineError) -> str:
        return "the site's worker ended" if isinstance(error, ChannelClosed) else str(error)


class WorkerProcess(WorkerLink):
    """A worker that is a child of this process.

    Args:
        node_config: the site's settings, as client/site_context.py reads them; they reach the worker over the channel.
        state: the client's state folder.
        log: the file of the worker's output.
        variables: further environment variables.
    """

    def __init__(
        self,
        node_config: Mapping[str, str | int | float | bool],
        state: Path,
        log: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._settings = Parcel("settings", dict(node_config))
        self._state, self._log = state, log
        # One thread for each site: the number of threads changes sums, and so the weights.
        self._variables = {**ONE_THREAD_VARIABLES, **(variables or {})}
        self._child: ProcessTree | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while none runs."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the worker without waiting for it; does nothing if it runs. Call it from the main thread."""
        if self._child is not None:
            return
        end_survivor(self._pid_file)
        self._channel, other = Pipe()
        with other:
            command = [sys.executable, "-P", "-m", "client.worker", str(other.fileno()), str(os.getpid())]
            self._child = ProcessTree(
                command,
                home=self._state / "flower",
                log=self._log,
                variables=self._variables,
                pass_fds=(other.fileno(),),
            )
        self._ready = False
        record_process(self._pid_file, self._child.pid)
        with suppress(ChannelClosed):  # it has ended already, which the first request reports
            send_parcel(self._channel, self._settings)

    def keep_running(self) -> None:
        """Start the worker again if it has ended between two requests and its pause is over."""
        if self._child is not None and self._child.poll() is not None:
            self._give_up()
        super().keep_running()

    def stop(self, patience: float = 2.0) -> None:
        """End the worker; does nothing if none runs.

        Args:
            patience: seconds in which it may end by itself.
        """
        self._close_channel()
        if self._child is not None:
            self._child.stop(patience)
            self._pid_file.unlink(missing_ok=True)
        self._child = None

    def _describe_end(self, error: EngineError) -> str:
        if not isinstance(error, ChannelClosed) or self._child is None:
            return str(error)
        deadline = time.monotonic() + 2.0
        while (status := self._child.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        how = "" if status is None else f" by signal {-status}" if status < 0 else f" with status {status}"
        return f"the site's worker ended{how}"

    @property
    def _pid_file(self) -> Path:
        return self._state / "worker.pid"


def record_process(file: Path, pid: int) -> None:
    """Write down a process, so that `end_survivor` recognises it."""
    with suppress(psutil.Error):
        files.write_bytes(file, f"{pid} {read_start(pid)}\n".encode())


def end_survivor(file: Path) -> bool:
    """End the process that `record_process` wrote down, if it still runs; return whether it did.

    A process of the same number that started at another time is another one.
    """
    try:
        pid, started = file.read_text(encoding="utf-8").split()
        process = psutil.Process(int(pid))
        if abs(read_start(process.pid) - float(started)) > 0.05:
            return False
        process.kill()
        process.wait(5)
    except (OSError, ValueError, psutil.Error):
        return False
    finally:
        file.unlink(missing_ok=True)
    return True
