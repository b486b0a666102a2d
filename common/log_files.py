"""Log files of servers and clients: lines with a time and without colours, in files that are rotated.

Each line opens its file anew. A log that another program has moved away, as logrotate does, is therefore made again
with the next line, and nothing has to be reopened. Several processes may write into one log. What cannot be written, as
on a full disk, is dropped: a log must not stop a service.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from common.files import replace_file
from common.log_format import make_formatter

MAX_LOG_BYTES = 10 << 20
"""Bytes after which a log is moved to `.1`, and a new one begins."""
OLD_LOGS = 5
"""Older logs that remain, `.1` to `.5`."""
PIPE_BYTES = 1 << 20
"""Bytes of output that a process may write while nobody reads it."""
MAX_LINE = 20_000
"""Characters of a line; longer ones are cut."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TIMED = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_FLOWER_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) *: +")


def clean_line(line: str, now: datetime | None = None) -> str:
    r"""Return a line of a process's output as it is logged: with a time, in UTC, and without colours.

    >>> clean_line("\x1b[92mINFO \x1b[0m:      Starting\n", datetime(2027, 1, 5, 12, tzinfo=UTC))
    '2027-01-05T12:00:00.000Z INFO flwr: Starting'
    """
    text = _COLOUR.sub("", line).rstrip()[:MAX_LINE]
    if _TIMED.match(text):
        return text
    time_text = (now or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{time_text} " + _FLOWER_LEVEL.sub(r"\1 flwr: ", text, count=1)


def write_log_line(path: Path, line: str) -> None:
    """Append a line to a log, which is rotated first where it is long."""
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(file).st_size > MAX_LOG_BYTES and _rotate(path, file):
                os.close(file)
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(file, line.encode(errors="replace") + b"\n")
        finally:
            os.close(file)


def _rotate(path: Path, file: int) -> bool:
    """Move a log and its older ones by one number; return whether a new one is to be made."""
    fcntl.flock(file, fcntl.LOCK_EX)  # of several processes one moves it
    if not path.exists() or path.stat().st_ino != os.fstat(file).st_ino:
        return True
    for number in range(OLD_LOGS - 1, 0, -1):
        with suppress(FileNotFoundError):
            replace_file(path.with_name(f"{path.name}.{number}"), path.with_name(f"{path.name}.{number + 1}"))
    replace_file(path, path.with_name(f"{path.name}.1"))
    return True


class LogFileHandler(logging.Handler):
    """Writes this process's own log lines into a log file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.setFormatter(make_formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        write_log_line(self._path, _COLOUR.sub("", self.format(record)))


class OutputLog:
    """Copies the output of a process into a log file, line by line, and remembers its first and last lines.

    Args:
        path: the file.
        output: the read end of the process's output; closed when nobody writes to it any more.
    """

    def __init__(self, path: Path, output: IO[bytes]) -> None:
        self._path = path
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=500)
        with suppress(OSError, AttributeError):  # only Linux can do it
            fcntl.fcntl(output.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = threading.Thread(target=self._copy, args=(output,), daemon=True, name=f"log {path.name}")
        self._thread.start()

    def _copy(self, output: IO[bytes]) -> None:
        with output:
            for raw in output:
                line = raw.decode(errors="replace")
                if len(self._first) < 500:
                    self._first.append(line)
                else:
                    self._last.append(line)
                write_log_line(self._path, clean_line(line))

    def read(self) -> str:
        """Return what the process has written so far: at most its first and its last 500 lines."""
        return "".join([*self._first, *self._last])

    def finish(self, timeout: float = 1.0) -> None:
        """Wait until everything that an ended process wrote has been copied."""
        self._thread.join(timeout)
