"""Trees of child processes that end together, and the environment that Flower's commands need.

The coordinator's SuperLink and a hospital's processes are started in the same way: without telemetry, update checks or
installations at run time; with the code and commands of this installation first; with a log file; in a session of
their own, so that Ctrl-C reaches them through this program alone; and so that they end with the process that started
them, however that ends (common/process_guard.py).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from uuid import uuid4

import psutil

from common.errors import ConfigError, EngineError
from common.log_files import OutputLog

QUIET_VARIABLES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONUNBUFFERED": "1",
}
"""Environment of Flower's commands: no telemetry, update checks or installations, and logs without delay."""
ONE_THREAD_VARIABLES = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment of a worker that shares the machine with others: one thread for each numerical library."""
SITE_NAME = re.compile(r"[a-z0-9-]{1,40}")
"""Valid names of a site."""
_MARK_VARIABLE = "WARDROUND_TREE"
"""The environment variable whose value marks the processes of one tree."""


def check_site_name(name: str) -> None:
    """Refuse a name that cannot be a site's.

    Raises:
        ConfigError: the name has other characters than a-z, 0-9 and -, or is too long.
    """
    if not SITE_NAME.fullmatch(name):
        raise ConfigError(f"site name {name!r}: use 1 to 40 of the characters a-z, 0-9 and -")


def build_environment(home: Path) -> dict[str, str]:
    """Return the environment of a Flower command, with this installation's code and commands first.

    Args:
        home: the folder of Flower's own files.
    """
    code = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    python_path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), code]))
    return {**os.environ, **QUIET_VARIABLES, "FLWR_HOME": str(home), "PATH": path, "PYTHONPATH": python_path}


def find_free_port() -> int:
    """Return a loopback port on which nothing listens at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def require_free_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        EngineError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EngineError(
                f"port {port} on {host} is in use: stop the program that uses it, or choose another port"
            ) from None
        raise EngineError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


class ProcessTree:
    """A process and all its descendants, which end together.

    Flower detaches some of its helpers into sessions of their own, so that the process group does not hold all of them
    and a helper whose parent has ended is no child any more. Each tree therefore has its own mark in its
    environment, which all its processes inherit.

    Attributes:
        log: the file of the processes' output.
        pid: the first process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        home: Path,
        log: Path,
        variables: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start a command, which ends with this process; call it from a thread that lives as long.

        Args:
            command: program and arguments.
            home: the folder of Flower's own files.
            log: the file that output is appended to, with times and without colours (common/log_files.py).
            variables: environment variables, beyond those of `build_environment`.
            pass_fds: open files that the command inherits under the same numbers.
        """
        self.log = log
        self._mark = uuid4().hex
        log.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "common.process_guard", str(os.getpid()), *command],
            env={**build_environment(home), **(variables or {}), _MARK_VARIABLE: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        assert self._process.stdout is not None
        self._output = OutputLog(log, self._process.stdout)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status of the first process, None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Return what this tree has written so far, at most its first and last 500 lines."""
        if self._process.poll() is not None:
            self._output.finish()
        return self._output.read()

    def reason(self) -> str:
        """Return the line of the log that best explains why the process ended: the last error, else the last line."""
        plain = re.sub(r"\x1b\[\d*m", "", self.output())
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"error|exception|failed|cannot|denied", line, re.I)]
        return (errors or lines or ["it wrote nothing"])[-1]

    def stop(self, patience: float = 5.0) -> None:
        """End the first process, then all others; return when none of them runs any more.

        Args:
            patience: seconds in which the first process may end by itself.
        """
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        for number, wait in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            deadline = time.monotonic() + wait
            self._signal_all(number)
            while self._members() and time.monotonic() < deadline:
                time.sleep(0.05)
                if number == signal.SIGKILL:
                    self._signal_all(number)
        self._process.wait()
        self._output.finish()

    def kill(self) -> None:
        """End all processes at once, as a power cut would."""
        self._signal_all(signal.SIGKILL)
        self.stop(patience=0)

    def _signal_all(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for process in self._members():
            with suppress(psutil.Error):
                process.send_signal(number)

    def _members(self) -> list[psutil.Process]:
        """Return the running processes that have this tree's mark."""
        members = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # it ended meanwhile, or belongs to another user
                if process.environ().get(_MARK_VARIABLE) == self._mark:
                    members.append(process)
        return members


def find_command(name: str) -> str:
    """Return the path of one of Flower's commands in this Python's environment; its bare name if it is not there."""
    installed = Path(sysconfig.get_path("scripts")) / name
    return str(installed) if installed.exists() else name


def write_guarded_programs(folder: Path, names: Sequence[str]) -> str:
    """Write programs that start Flower's of the same names, so that each ends with the process that started it.

    Flower looks for its helpers on PATH, and lets them notice by themselves that their parent has been killed, which
    takes them a while. Return the folder, which must come first on PATH.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        own = shlex.quote(str(Path(sysconfig.get_path("scripts")) / name))
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m common.process_guard $PPID {own} "$@"\n'
        )
        program.chmod(0o700)
    return str(folder)


def to_toml(value: str | int | float | bool) -> str:
    """Return a value as TOML text: its JSON, with DEL escaped, which TOML demands."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@contextmanager
def interrupt_on_signals(on_hangup: Callable[[], None] | None = None) -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that child processes are ended too.

    Args:
        on_hangup: called at SIGHUP instead, as for a service without a terminal that may hang up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and on_hangup is not None:
            on_hangup()
            return
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
