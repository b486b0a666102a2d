"""The form of the log lines of servers and clients: a time in UTC, the level, the part that writes, the text."""

from __future__ import annotations

import logging
import time
from logging.handlers import WatchedFileHandler
from pathlib import Path

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


MAX_LOG_BYTES = 16 << 20
"""Size at which a log is moved away when a program starts."""
OLD_LOGS = 3
"""Earlier logs that remain: `.1` is the last one."""


def rotate_log(file: Path) -> None:
    """Move a large log away, and the oldest one out."""
    if not file.is_file() or file.stat().st_size < MAX_LOG_BYTES:
        return
    for number in range(OLD_LOGS - 1, 0, -1):
        older = file.with_name(f"{file.name}.{number}")
        if older.exists():
            older.replace(file.with_name(f"{file.name}.{number + 1}"))
    file.replace(file.with_name(f"{file.name}.1"))


def start_logging(file: Path | None = None) -> None:
    """Write this process's log lines, those of Flower and of HTTP libraries from warnings upwards.

    Args:
        file: where they are appended; it may be moved away at any time. None: to standard error.
    """
    formatter = logging.Formatter(FORMAT, TIME_FORMAT)
    formatter.converter = time.gmtime
    handler = WatchedFileHandler(file, encoding="utf-8") if file is not None else logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("flwr", "httpx", "httpcore", "matplotlib"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        if name == "flwr":  # it has a handler of its own, with colours
            logger.handlers.clear()
            logger.propagate = True
