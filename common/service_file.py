"""The file by which commands find a running server or client: `service.json` in its state folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import psutil

from common.errors import ConfigError
from common.files import write_json
from common.process_identity import read_start
from common.release import identify_release

FILE_NAME = "service.json"


@dataclass(frozen=True)
class ServiceInfo:
    """A running server or client.

    Attributes:
        address: a server's own address, or the server that a client is connected to, HOST:PORT.
        site: a client's hospital; empty for a server.
        metrics: HOST:PORT of its metrics; empty: it offers none.
        pid: its process.
        created: when the process started (common/process_identity.py): another one may have the number later.
        started: when it began to serve, seconds since 1970.
        release: its release (common/release.py).
    """

    address: str
    site: str = ""
    metrics: str = ""
    pid: int = field(default_factory=os.getpid)
    created: float = field(default_factory=lambda: read_start(os.getpid()))
    started: float = field(default_factory=time.time)
    release: str = field(default_factory=identify_release)


@contextmanager
def announce_service(state: Path, info: ServiceInfo) -> Iterator[None]:
    """Keep the file in a state folder while a server or client runs.

    Raises:
        ConfigError: another one runs with this folder.
    """
    path, other = state / FILE_NAME, find_service(state)
    if other is not None and other.pid != info.pid:
        raise ConfigError(f"{state} is in use by process {other.pid}: stop that one, or give another --state")
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(path, asdict(info))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def find_service(state: Path) -> ServiceInfo | None:
    """Return the server or client that runs with a state folder; None if none does, whatever a killed one left."""
    try:
        raw = json.loads((state / FILE_NAME).read_text(encoding="utf-8"))
        info = ServiceInfo(**{item.name: raw[item.name] for item in fields(ServiceInfo)})
        running = abs(read_start(info.pid) - info.created) < 0.05
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return info if running else None
