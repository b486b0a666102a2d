"""The form of the log lines of servers and clients: a time in UTC, the level, the part that writes, the text."""

from __future__ import annotations

import logging
import time

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


def start_logging() -> None:
    """Write this process's log lines to standard error; of Flower and of HTTP libraries only warnings and errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    quiet_libraries()


def make_formatter() -> logging.Formatter:
    """Return what gives log lines their form."""
    formatter = logging.Formatter(FORMAT, TIME_FORMAT)
    formatter.converter = time.gmtime
    return formatter


def quiet_libraries() -> None:
    """Let Flower and HTTP libraries log from warnings upwards, in the form of this process's log lines."""
    for name in ("flwr", "httpx", "httpcore", "matplotlib"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        if name == "flwr":  # it has a handler of its own, with colours
            logger.handlers.clear()
            logger.propagate = True
