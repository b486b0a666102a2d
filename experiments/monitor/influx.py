"""Beats, risks and alerts for an InfluxDB, by its line protocol, with a bounded spool on disk while it is away.

A thread writes in batches. What the database does not take goes to files of the spool folder, the oldest of which is
tried again until it is back; after a restart they are sent first. Points have times, so one that is sent twice is
stored once. A spool that is full makes the service refuse samples (503): nothing is dropped in silence.
Protocol: https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import ConfigError
from common.files import make_private_folder, write_text

log = logging.getLogger("wardround.monitor")
BATCH_SECONDS, RETRY_SECONDS, TIMEOUT_SECONDS = 0.25, 1.0, 5.0
MAX_LINES = 5000
"""Lines of one request; the server's documentation advises 5,000 to 10,000."""
MAX_QUEUED = 200_000
"""Lines in memory from which the service refuses more."""
MAX_SPOOL_BYTES = 512 * 2**20
"""About an hour and a half of beats of 1,000 patients."""
LOGIN_FILE = "influxdb.login"
"""In the state folder: `user:password`, readable by its owner alone; without it no login is sent."""
FINAL = (400, 413)
"""Answers after which the same lines would be refused again."""


@dataclass(frozen=True)
class InfluxSettings:
    """Where an InfluxDB is.

    Attributes:
        url: its address.
        database: the database; it is created if it is missing.
        keep_hours: hours that single beats are kept there, at least 1; their sums by minute stay.
        max_spool: bytes of the spool.
    """

    url: str
    database: str = "wardround"
    keep_hours: float = 24.0
    max_spool: int = MAX_SPOOL_BYTES


def check_url(url: str, option: str) -> str:
    """Return an address without its final slash; beyond this machine it must be https.

    Raises:
        ConfigError: it is none, or patients' data would go over the network unencrypted.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError(f"{option}: give an address such as https://host:8086, without a login in it")
    try:
        local = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        local = False
    if parts.scheme == "http" and not local:
        raise ConfigError(f"{option}: give an https address, or one of this machine: data of patients would be open")
    return url.rstrip("/")


def escape_tag(text: str) -> str:
    r"""Return text as the value of a tag or the name of a measurement.

    >>> escape_tag("ventricular run, fast")
    'ventricular\\ run\\,\\ fast'
    """
    out = text.replace("\\", "/").replace("\n", " ").replace("\r", " ")
    for character in (",", "=", " "):
        out = out.replace(character, "\\" + character)
    return out or "none"


def build_line(measurement: str, tags: dict[str, str], fields: dict[str, float | str], wall: float) -> str:
    """Return one line; its time is in milliseconds.

    >>> build_line("beat", {"device": "bed-1", "class": "V"}, {"alarm": 0.5}, 1.25)
    'beat,device=bed-1,class=V alarm=0.5 1250'
    """
    head = ",".join([escape_tag(measurement), *(f"{name}={escape_tag(value)}" for name, value in tags.items())])
    return f"{head} {','.join(f'{name}={_write_field(value)}' for name, value in fields.items())} {round(1000 * wall)}"


def _write_field(value: float | str) -> str:
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        return f'"{text}"'
    return repr(float(value))


class LineWriter:
    """Writes lines to an InfluxDB."""

    def __init__(self, settings: InfluxSettings, state: Path) -> None:
        """Start writing.

        Raises:
            ConfigError: the address or the file of the login is wrong.
        """
        import requests

        self.settings, self._url = settings, check_url(settings.url, "--influx-url")
        self._spool = state / "influxdb-spool"
        make_private_folder(self._spool)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = _read_login(state / LOGIN_FILE)
        self._queue: deque[str] = deque()
        self._closed = threading.Event()
        self._prepared, self._idle = False, True
        self.written = self.failures = self.rejected = 0
        self.spooled_bytes = sum(path.stat().st_size for path in self._spool.glob("*.lines"))
        self._next = max((int(path.stem) for path in self._spool.glob("*.lines")), default=0) + 1
        self._thread = threading.Thread(target=self._run, name="influxdb", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Lines in memory that wait to be written."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether so much waits that no more may come."""
        return len(self._queue) > MAX_QUEUED or self.spooled_bytes >= self.settings.max_spool

    def add(self, line: str) -> None:
        """Queue a line."""
        self._queue.append(line)

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything is in the database; return whether it is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self._queue and not self.spooled_bytes and self._idle:
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        """Write what is queued, to the database or the spool."""
        self._closed.set()
        self._thread.join(2 * TIMEOUT_SECONDS + 5)
        self._session.close()

    def _run(self) -> None:
        retry = spooled = 0.0
        while not self._closed.wait(BATCH_SECONDS) or self._queue:
            now = time.monotonic()
            away = now < retry
            if self.spooled_bytes and not away and not self._send_spool():
                away, retry = True, now + RETRY_SECONDS
            if away and now < spooled + RETRY_SECONDS and len(self._queue) < MAX_LINES and not self._closed.is_set():
                continue  # one file a second, not one a batch
            while self._queue:
                self._idle = False
                batch = [self._queue.popleft() for _ in range(min(MAX_LINES, len(self._queue)))]
                text = "\n".join(batch) + "\n"
                if not (away or self.spooled_bytes) and not self._send(text.encode()):
                    away, retry = True, now + RETRY_SECONDS
                elif not (away or self.spooled_bytes):
                    continue
                spooled = now
                if not self._keep(text):
                    self._queue.extendleft(reversed(batch))
                    break
            self._idle = True
            if self._closed.is_set() and self._queue:
                return  # neither the database nor the disk takes them

    def _send_spool(self) -> bool:
        """Send the oldest files of the spool; return whether the database took them."""
        for path in sorted(self._spool.glob("*.lines"))[:20]:
            size = path.stat().st_size
            if not self._send(path.read_bytes()):
                return False
            path.unlink()
            self.spooled_bytes -= size
        return True

    def _keep(self, text: str) -> bool:
        """Write lines to the spool; return whether the disk took them."""
        path = self._spool / f"{self._next:012d}.lines"
        try:
            write_text(path, text)
        except OSError:
            self.failures += 1
            return False
        self._next += 1
        self.spooled_bytes += path.stat().st_size
        return True

    def _send(self, body: bytes) -> bool:
        """Send lines; return whether they need not be sent again."""
        import requests

        try:
            if not self._prepared:
                self._prepare()
            answer = self._post("write", {"db": self.settings.database, "precision": "ms", "rp": "beats"}, body)
        except requests.RequestException:
            self.failures += 1
            return False
        if answer.status_code in FINAL:
            self.rejected += body.count(b"\n")
            log.warning("the InfluxDB refuses lines (%d): they are dropped and counted", answer.status_code)
            return True
        if answer.status_code >= 300:
            self.failures += 1
            self._prepared = False  # the database may have to be created again
            return False
        self.written += body.count(b"\n")
        return True

    def _prepare(self) -> None:
        """Create the database, the retention of beats, and their sums by minute."""
        name = self.settings.database.replace('"', "")
        hours = max(1, round(self.settings.keep_hours))
        minutes = (
            f'CREATE CONTINUOUS QUERY "minutes" ON "{name}" RESAMPLE FOR 60m BEGIN SELECT count("alarm") AS "beats" '
            f'INTO "{name}"."autogen"."minute" FROM "{name}"."beats"."beat" GROUP BY time(1m), "device", "class" END'
        )
        for query in (
            f'CREATE DATABASE "{name}"',
            f'CREATE RETENTION POLICY "beats" ON "{name}" DURATION {hours}h REPLICATION 1',
            f'ALTER RETENTION POLICY "beats" ON "{name}" DURATION {hours}h',
            minutes,
        ):
            self._post("query", {"q": query}, b"").raise_for_status()
        self._prepared = True

    def _post(self, path: str, parameters: dict[str, str], body: bytes) -> Any:
        return self._session.post(
            f"{self._url}/{path}", params=parameters, data=body, timeout=TIMEOUT_SECONDS, allow_redirects=False
        )


def _read_login(path: Path) -> tuple[str, str] | None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: others can read the login; run chmod 600 {path}")
        user, separator, password = path.read_text(encoding="utf-8").strip().partition(":")
        if not separator:
            raise ConfigError(f"{path}: give one line user:password")
        return user, password
    return None
