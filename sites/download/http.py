"""One file over HTTPS: resumed where it broke off, checked, and there whole or not at all.

A part is only ever continued with bytes of the same version, by its ETag or its date (RFC 9110: Range, If-Range,
Content-Range). A file takes its name when its length and its SHA-256 are right, so a process may be killed at any
moment, and the next one goes on.
"""

from __future__ import annotations

import email.utils
import os
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException, SSLError, Timeout
from urllib3.exceptions import HTTPError, NameResolutionError

from common.errors import FetchError
from sites.download.destination import file_sha256, file_size, partial_paths, report_disk_errors, require_space

CHUNK = 1 << 13
"""Bytes at a time; as much is lost at most when a connection breaks off."""

RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})


class DownloadStopped(Exception):
    """Someone asked to stop; what has come so far is kept."""


class FileUnavailable(Exception):
    """One file cannot be had, and asking again would not help."""


class _Again(Exception):
    """Ask again: after `wait` seconds where given, else after longer each time."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """How a server is treated: how many connections, how long to wait for it, how often to ask again.

    A file is given up after `attempts` failures in a row that brought no byte, or `failures` altogether, or when
    the server asks to wait longer than `longest_wait` seconds.
    """

    threads: int = 4
    connect: float = 15.0
    read: float = 60.0
    attempts: int = 6
    failures: int = 100
    first_wait: float = 1.0
    longest_wait: float = 300.0
    agent: str = "wardround (federated learning research)"


@dataclass
class HttpClient:
    """Downloads below one URL, from several threads.

    `insecure`: the base may be http, for a server on one's own machine. `came`: called with the number of bytes that
    came, negative where they have to be thrown away. `retry`: called with a path, why, and the seconds it waits.
    """

    base: str
    manners: RetryPolicy = field(default_factory=RetryPolicy)
    insecure: bool = False
    came: Callable[[int], None] = lambda count: None
    retry: Callable[[str, str, float], None] = lambda path, why, wait: None

    def __post_init__(self) -> None:
        self._scheme = urlsplit(self.base).scheme
        if self._scheme != "https" and not (self.insecure and self._scheme == "http"):
            raise FetchError(f"{self.base} is not https: nothing is fetched over a connection that anyone can alter")
        self.base = self.base.rstrip("/") + "/"
        self._stop = threading.Event()
        self._local = threading.local()
        self._open: set[requests.Response] = set()
        self._lock = threading.Lock()

    def interrupt(self) -> None:
        """Ask all downloads to stop, also those that wait for a byte."""
        self._stop.set()
        with self._lock:
            for answer in self._open:
                with suppress(Exception):
                    answer.raw.shutdown()

    def size(self, path: str) -> int | None:
        """Return how many bytes a file has, none where the server does not say.

        Raises:
            Refused: the server does not have it.
            FetchError: the server cannot be reached.
        """
        failures = 0
        while True:
            try:
                with self._ask("HEAD", path, {}) as answer:
                    if answer.status_code in (405, 501):
                        return None
                    _accept(path, answer, {200})
                    return _number(answer.headers.get("Content-Length"))
            except _Again as again:
                failures += 1
                self._pause(path, again, failures, failures)

    def fetch(self, path: str, target: Path, sha256: str | None) -> None:
        """Bring one file.

        Raises:
            Refused: the server does not have it, or has another one than was published.
            FetchError: the server cannot be reached, or keeps breaking off.
            DataError: the disk is full or cannot be written.
            Stopped: `interrupt` was called.
        """
        part, tag = partial_paths(target)
        idle = failures = wrong = 0
        while True:
            had = file_size(part)
            try:
                self._continue(path, part, tag, sha256)
            except _Again as again:
                failures += 1
                idle = 1 if file_size(part) > had else idle + 1
                self._pause(path, again, idle, failures)
                continue
            if sha256 is not None and file_sha256(part) != sha256:
                self._drop(part, tag)
                wrong += 1
                if wrong == 2:
                    raise FileUnavailable(f"{path}: what the server sends has another SHA-256 than was published")
                self.retry(path, "its SHA-256 differs from the published one: from the start", 0.0)
                continue
            with report_disk_errors(target):
                os.replace(part, target)
                tag.unlink(missing_ok=True)
            return

    def _continue(self, path: str, part: Path, tag: Path, sha256: str | None) -> None:
        """Bring what is missing of a part, or all of it where the server will not go on."""
        version = _text(tag)
        have = file_size(part) if version or sha256 else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and version:
            headers["If-Range"] = version
        with self._ask("GET", path, headers) as answer:
            same = not version or _etag(answer) in ("", version)
            if answer.status_code == 416 and have:
                if _total(answer) == have and same:
                    return  # all of it had come; its SHA-256 decides
                self._drop(part, tag)
                raise _Again("the server has less of it than had come: from the start", 0.0)
            _accept(path, answer, {200, 206} if have else {200})
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise FileUnavailable(f"{path}: the server sends it compressed, which was not asked for")
            if answer.status_code == 206:
                if _start(answer) != have or not same:
                    self._drop(part, tag)
                    raise _Again("the server went on with something else: from the start", 0.0)
                expected = _total(answer)
            else:
                expected, have = _number(answer.headers.get("Content-Length")), 0
                if expected is None and sha256 is None and "Transfer-Encoding" not in answer.headers:
                    raise FileUnavailable(
                        f"{path}: the server does not say how long it is, so none can tell if it is whole"
                    )
                self._drop(part, tag)  # before the new tag: no old bytes under it
                with report_disk_errors(tag):
                    tag.write_text(_etag(answer) or answer.headers.get("Last-Modified", ""), encoding="utf-8")
            require_space(part.parent, max(0, (expected or have) - have))
            self._write(part, answer)
        got = file_size(part)
        if expected is not None and got > expected:
            self._drop(part, tag)
            raise _Again("more of it came than was promised: from the start")
        if expected is not None and got < expected:
            raise _Again(f"the connection ended after {got:,} of {expected:,} bytes")

    def _write(self, part: Path, answer: requests.Response) -> None:
        with self._lock:
            self._open.add(answer)
        try:
            with report_disk_errors(part), part.open("ab") as out:
                chunks = answer.iter_content(CHUNK)
                while True:
                    self._heed()
                    try:
                        chunk = next(chunks, b"")
                    except (RequestException, HTTPError) as error:
                        self._heed()
                        raise _Again(_why(error, self.manners)) from None
                    if not chunk:
                        return
                    out.write(chunk)
                    self.came(len(chunk))
        finally:
            with self._lock:
                self._open.discard(answer)

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> requests.Response:
        """Return the answer, having followed redirects that stay on https.

        Raises:
            Refused: a redirect leads elsewhere.
            FetchError: the certificate is not accepted.
            _Again: the network failed, or the server is busy.
        """
        self._heed()
        url = urljoin(self.base, quote(path))
        asked = {"Accept-Encoding": "identity", "User-Agent": self.manners.agent, **headers}
        limits = (self.manners.connect, self.manners.read)
        for _ in range(6):
            try:
                answer = self._session().request(
                    method, url, headers=asked, stream=True, timeout=limits, allow_redirects=False
                )
            except SSLError:
                raise FetchError(
                    f"the certificate of {urlsplit(url).hostname} is not accepted: behind a proxy of your own, point "
                    "REQUESTS_CA_BUNDLE at its certificates"
                ) from None
            except (RequestException, HTTPError) as error:
                self._heed()
                raise _Again(_why(error, self.manners)) from None
            if answer.status_code in RETRY_STATUS:
                answer.close()
                wait = _retry_after(answer.headers.get("Retry-After"))
                raise _Again(f"the server answers {answer.status_code} {answer.reason}", wait)
            if answer.status_code not in REDIRECT_STATUS or "Location" not in answer.headers:
                return answer
            answer.close()
            url = urljoin(url, answer.headers["Location"])
            if urlsplit(url).scheme != self._scheme:
                raise FileUnavailable(f"{path}: the server redirects to {urlsplit(url).scheme}:, which is not followed")
        raise FileUnavailable(f"{path}: the server redirects in a circle")

    def _pause(self, path: str, again: _Again, idle: int, failures: int) -> None:
        """Wait before asking again, longer each time, or give up."""
        manners = self.manners
        if idle > manners.attempts or failures > manners.failures:
            raise FetchError(f"{path}: {again}; given up after {failures} attempts")
        wait = again.wait
        if wait is None:
            wait = min(manners.first_wait * 2.0 ** (idle - 1) * random.uniform(0.75, 1.25), manners.longest_wait)
        if wait > manners.longest_wait:
            raise FetchError(f"{path}: {again} and asks to wait {wait / 60:.0f} minutes: go on later")
        self.retry(path, str(again), wait)
        if wait > 0:
            self._stop.wait(wait)
        self._heed()

    def _heed(self) -> None:
        if self._stop.is_set():
            raise DownloadStopped

    def _drop(self, part: Path, tag: Path) -> None:
        self.came(-file_size(part))
        with report_disk_errors(part):
            part.unlink(missing_ok=True)
            tag.unlink(missing_ok=True)

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session


def _accept(path: str, answer: requests.Response, good: set[int]) -> None:
    code = answer.status_code
    if code in good:
        return
    if code in (401, 403):
        raise FileUnavailable(f"{path}: the server asks for a login ({code})")
    if code in (404, 410):
        raise FileUnavailable(f"{path}: the server does not have it ({code})")
    raise FileUnavailable(f"{path}: the server answers {code} {answer.reason}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _etag(answer: requests.Response) -> str:
    """Return a strong ETag: a weak one says nothing about single bytes."""
    found = answer.headers.get("ETag", "")
    return "" if found.startswith("W/") else found


def _start(answer: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _total(answer: requests.Response) -> int | None:
    match = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _retry_after(text: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3).

    >>> _retry_after("7"), _retry_after("soon")
    (7.0, None)
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _why(error: Exception, manners: RetryPolicy) -> str:
    causes: list[Any] = [error, *error.args, *(getattr(item, "reason", None) for item in error.args)]
    if any(isinstance(item, NameResolutionError) for item in causes):
        return "the server's name is not known: is there a network, or a proxy to name in HTTPS_PROXY?"
    if isinstance(error, Timeout) or "timed out" in str(error):
        return f"no answer within {manners.read:g} s"
    if isinstance(error, NoConnection) and "refused" in str(error):
        return "the server refuses connections"
    return "the connection broke off"
