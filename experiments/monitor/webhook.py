"""Alerts and acknowledgements sent to another program over HTTP, signed, and tried again until it takes them.

Each event waits as a file in the state folder until it was delivered or given up, so that neither the end of the
monitor nor an outage of the receiver loses one; a receiver may get an event twice and knows it by its `id`. The
signature is the HMAC-SHA256 (RFC 2104), with the secret of `webhook.secret`, of the time, a full stop and the body:

    X-Wardround-Signature: t=1700000000,v1=<64 hexadecimal digits>

A receiver compares it in constant time, and refuses times that are minutes old: a recorded request is then useless.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.files import make_private_folder, write_text
from experiments.monitor.influx import check_url

log = logging.getLogger("wardround.monitor")
SECRET_FILE, FOLDER, HEADER = "webhook.secret", "webhook", "X-Wardround-Signature"
TIMEOUT_SECONDS, FIRST_WAIT, LONGEST_WAIT = 5.0, 1.0, 60.0
GIVE_UP_SECONDS = 24 * 3600.0
"""Age from which an event is not tried any more: who was on duty has changed."""
MAX_WAITING = 10_000
AGAIN = (408, 425, 429)
"""Refusals of a request, by number, that another try may change; of the others, only those from 500 on."""


@dataclass
class WebhookCounts:
    """What became of events.

    Attributes:
        delivered: events that the receiver took.
        failures: tries that failed.
        given_up: events that were refused for good, were too old, or found no room.
    """

    delivered: int = 0
    failures: int = 0
    given_up: int = 0


def sign_body(body: bytes, secret: str, seconds: int) -> str:
    """Return the signature of a body at a time (seconds since 1970)."""
    code = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={code}"


def load_secret(state: Path) -> str:
    """Return the secret that signs; the first call makes it.

    Raises:
        ConfigError: others can read it, or it is too short.
    """
    path = state / SECRET_FILE
    if not path.exists():
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read the secret; run chmod 600 {path}")
    secret = path.read_text(encoding="utf-8").strip()
    if len(secret) < 16:
        raise ConfigError(f"{path}: give a secret of 16 characters at least, or delete the file")
    return secret


class Webhook:
    """Sends events to one address, the oldest first."""

    def __init__(self, url: str, state: Path) -> None:
        """Start sending; events of an earlier start that were not delivered come first.

        Raises:
            ConfigError: the address or the secret is wrong.
        """
        import requests

        self._url, self._secret = check_url(url, "--webhook"), load_secret(state)
        self._folder = state / FOLDER
        make_private_folder(self._folder)
        self._session = requests.Session()
        self._session.trust_env = False
        self.counts = WebhookCounts()
        self._changed = threading.Event()
        self._closed = threading.Event()
        names = [path.name for path in self._folder.glob("*.json")]
        self._number = max((int(name.split("-")[0]) for name in names), default=0)
        self.waiting = len(names)
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def add(self, event: str, content: dict[str, Any]) -> None:
        """Keep an event until it is delivered."""
        if self.waiting >= MAX_WAITING:
            self.counts.given_up += 1
            log.warning("webhook: %d events wait: a further one is not sent", self.waiting)
            return
        self._number += 1
        name = f"{self._number:012d}-{int(time.time())}.json"
        body = json.dumps({"id": f"{self._number}-{secrets.token_hex(4)}", "event": event, **content})
        try:
            write_text(self._folder / name, body)
        except OSError as error:
            self.counts.given_up += 1
            log.warning("webhook: an event cannot be kept (%s): it is not sent", error.strerror)
            return
        self.waiting += 1
        self._changed.set()

    def close(self) -> None:
        """Stop; what was not delivered is sent after the next start."""
        self._closed.set()
        self._changed.set()
        self._thread.join(TIMEOUT_SECONDS + 5)
        self._session.close()

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._closed.is_set():
            waiting = sorted(self._folder.glob("*.json"))
            if not waiting:
                self._changed.wait(1.0)
                self._changed.clear()
                continue
            if self._deliver(waiting[0]):
                wait = FIRST_WAIT
            else:
                self._closed.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    def _deliver(self, path: Path) -> bool:
        """Send one event; return whether it is done with."""
        import requests

        age = time.time() - float(path.stem.split("-")[1])
        body = path.read_bytes()
        headers = {"Content-Type": "application/json", HEADER: sign_body(body, self._secret, int(time.time()))}
        try:
            answer = self._session.post(
                self._url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
            status = answer.status_code
        except requests.RequestException:
            status = 0
        if 200 <= status < 300:
            self.counts.delivered += 1
        elif age > GIVE_UP_SECONDS or (300 <= status < 500 and status not in AGAIN):
            self.counts.given_up += 1
            log.warning("webhook: an event was given up (answer %s)", status or "none")
        else:
            self.counts.failures += 1
            return False
        path.unlink(missing_ok=True)
        self.waiting -= 1
        return True
