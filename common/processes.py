"""Child processes that end together, and what Flower's commands need around them.

The coordinator's SuperLink and a hospital's SuperNode are started the same way: quiet (no telemetry, no
update check, no installs at run time), with this installation's code and commands first, with a log file, and
in a session of their own so that Ctrl-C reaches them through us alone.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from uuid import uuid4

from common.errors import ConfigError, EngineError

QUIET_VARIABLES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONUNBUFFERED": "1",
}
ONE_THREAD_VARIABLES = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
SITE_NAME = re.compile(r"[a-z0-9-]{1,40}")
_MARK = "WARDROUND_TREE"


def check_site_name(name: str) -> None:
    """Raise `ConfigError` unless `name` can name a site."""
    if not SITE_NAME.fullmatch(name):
        raise ConfigError(f"site name {name!r}: use 1 to 40 of the characters a-z, 0-9 and -")


def build_environment(home: Path) -> dict[str, str]:
    """Return the variables of a Flower command: quiet, this installation's code and commands first."""
    code = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    python_path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), code]))
    return {**os.environ, **QUIET_VARIABLES, "FLWR_HOME": str(home), "PATH": path, "PYTHONPATH": python_path}


def find_free_port() -> int:
    """Return a loopback port that nothing listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def require_free_port(host: str, port: int) -> None:
    """Raise `EngineError` if `host:port` cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EngineError(f"port {port} on {host} is in use: stop what holds it, or choose another") from None
        raise EngineError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


class ProcessTree:
    """A process and everything it starts, which end together.

    Flower detaches some of its helpers into sessions of their own, so the group alone is not enough: each
    child carries a mark in its environment, which its descendants inherit and `/proc` shows.
    """

    def __init__(
        self, command: Sequence[str], *, home: Path, log: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self._mark = uuid4().hex
        log.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(parents=True, exist_ok=True)
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                env={**build_environment(home), **(variables or {}), _MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Return what this process has written to its log so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def reason(self) -> str:
        """Return the most telling line of the log: the last error, else the last line."""
        plain = re.sub(r"\x1b\[\d*m", "", self.output())
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"error|exception|failed|cannot|denied", line, re.I)]
        return (telling or lines or ["it wrote nothing"])[-1]

    def stop(self, patience: float = 5.0) -> None:
        """End the process, then whatever it left behind; returns when nothing of it runs any more."""
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

    def kill(self) -> None:
        """End everything at once, as a power cut would."""
        self._signal_all(signal.SIGKILL)
        self.stop(patience=0)

    def _signal_all(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in self._members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _members(self) -> list[int]:
        mark, found = f"{_MARK}={self._mark}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found


def find_command(name: str) -> str:
    """Return the path of one of Flower's commands: the one installed beside this Python, if there is one."""
    beside = Path(sysconfig.get_path("scripts")) / name
    return str(beside) if beside.exists() else name


def to_toml(value: str | int | float | bool) -> str:
    """Return `value` as TOML: a JSON value is one, but for DEL, which JSON leaves bare."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does, so that what it started is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
