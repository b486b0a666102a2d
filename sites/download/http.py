"""Download of one file over HTTPS: resumed where the connection ended, verified, and written completely or not at all.

A partial file is continued only with bytes of the same version, by its ETag or its date (RFC 9110: Range, If-Range,
Content-Range). A file gets its name when its length and its SHA-256 are right, so a process may be killed at any
moment and the next one continues. Back-off and Retry-After are urllib3's (`urllib3.util.Retry`).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException, SSLError, Timeout
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NameResolutionError
from urllib3.util import Retry

from common.errors import FetchError
from sites.download.destination import file_sha256, file_size, partial_paths, report_disk_errors, require_space
from sites.download.retry_policy import RetryPolicy

CHUNK = 1 << 13
"""Bytes read at a time; at most as many are lost when a connection ends early."""

RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5


class DownloadStopped(Exception):
    """`HttpClient.interrupt` was called; the bytes received so far are kept."""


class FileUnavailable(Exception):
    """One file cannot be fetched, and another attempt would not help."""


class _TransientError(Exception):
    """An attempt failed; `wait`: seconds until the next one, None for the back-off of the policy."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass
class HttpClient:
    """Downloads below one URL; safe to use from several threads.

    Attributes:
        base: the URL.
        policy: connections, timeouts and repeats.
        insecure: whether the URL may be http, as of a server on one's own machine.
        on_bytes: called with the number of bytes received, negative when they are discarded.
        on_retry: called with the path, the reason and the seconds until the next attempt.
    """

    base: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    insecure: bool = False
    on_bytes: Callable[[int], None] = lambda count: None
    on_retry: Callable[[str, str, float], None] = lambda path, reason, wait: None

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
        """Stop all downloads, also those that are waiting for bytes."""
        self._stop.set()
        with self._lock:
            for response in self._open:
                with suppress(Exception):
                    response.raw.shutdown()

    def size(self, path: str) -> int | None:
        """Return the length of a file in bytes, None if the server does not report it.

        Raises:
            FileUnavailable: the server does not have it.
            FetchError: the server cannot be reached.
        """
        retry = self.policy.new_retry()
        while True:
            try:
                with self._request("HEAD", path, {}) as response:
                    if response.status_code in (405, 501):
                        return None
                    _require_status(path, response, {200})
                    return _parse_number(response.headers.get("Content-Length"))
            except _TransientError as error:
                retry = self._wait_for_retry(path, error, retry)

    def fetch(self, path: str, target: Path, sha256: str | None) -> None:
        """Download one file.

        Raises:
            FileUnavailable: the server does not have it, or has a version other than the published one.
            FetchError: the server cannot be reached, or keeps closing connections.
            DataError: the disk is full or cannot be written.
            DownloadStopped: `interrupt` was called.
        """
        part, tag = partial_paths(target)
        retry = self.policy.new_retry()
        mismatches = 0
        while True:
            size_before = file_size(part)
            try:
                self._continue(path, part, tag, sha256)
            except _TransientError as error:
                if file_size(part) > size_before:
                    retry = retry.new(other=self.policy.attempts, history=())
                retry = self._wait_for_retry(path, error, retry)
                continue
            if sha256 is not None and file_sha256(part) != sha256:
                self._discard(part, tag)
                mismatches += 1
                if mismatches == 2:
                    raise FileUnavailable(f"{path}: what the server sends has another SHA-256 than was published")
                self.on_retry(path, "its SHA-256 differs from the published one: from the start", 0.0)
                continue
            with report_disk_errors(target):
                os.replace(part, target)
                tag.unlink(missing_ok=True)
            return

    def _continue(self, path: str, part: Path, tag: Path, sha256: str | None) -> None:
        """Download the rest of a partial file, or all of it if the server does not continue the same version."""
        version = _read_text(tag)
        have = file_size(part) if version or sha256 else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and version:
            headers["If-Range"] = version
        with self._request("GET", path, headers) as response:
            same = not version or _strong_etag(response) in ("", version)
            if response.status_code == 416 and have:
                if _range_total(response) == have and same:
                    return  # the partial file is complete; its SHA-256 decides
                self._discard(part, tag)
                raise _TransientError("the server has less of it than was received: from the start", 0.0)
            _require_status(path, response, {200, 206} if have else {200})
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise FileUnavailable(f"{path}: the server sends it compressed, which was not asked for")
            if response.status_code == 206:
                if _range_start(response) != have or not same:
                    self._discard(part, tag)
                    raise _TransientError("the server continued with other bytes: from the start", 0.0)
                expected = _range_total(response)
            else:
                expected, have = _parse_number(response.headers.get("Content-Length")), 0
                if expected is None and sha256 is None and "Transfer-Encoding" not in response.headers:
                    raise FileUnavailable(f"{path}: the server does not say how long it is, so it cannot be checked")
                self._discard(part, tag)  # before the new tag is written: old bytes must not stay under it
                with report_disk_errors(tag):
                    tag.write_text(
                        _strong_etag(response) or response.headers.get("Last-Modified", ""), encoding="utf-8"
                    )
            require_space(part.parent, max(0, (expected or have) - have))
            self._append_body(part, response)
        received = file_size(part)
        if expected is not None and received > expected:
            self._discard(part, tag)
            raise _TransientError("the server sent more bytes than it announced: from the start")
        if expected is not None and received < expected:
            raise _TransientError(f"the connection ended after {received:,} of {expected:,} bytes")

    def _append_body(self, part: Path, response: requests.Response) -> None:
        with self._lock:
            self._open.add(response)
        try:
            with report_disk_errors(part), part.open("ab") as out:
                chunks = response.iter_content(CHUNK)
                while True:
                    self._raise_if_stopped()
                    try:
                        chunk = next(chunks, b"")
                    except (RequestException, HTTPError) as error:
                        self._raise_if_stopped()
                        raise _TransientError(_describe(error, self.policy)) from None
                    if not chunk:
                        return
                    out.write(chunk)
                    self.on_bytes(len(chunk))
        finally:
            with self._lock:
                self._open.discard(response)

    def _request(self, method: str, path: str, headers: dict[str, str]) -> requests.Response:
        """Return the response, after redirects that stay on https.

        Raises:
            FileUnavailable: a redirect leads to another scheme or in a circle.
            FetchError: the certificate is not accepted.
            _TransientError: the network failed, or the server is busy.
        """
        self._raise_if_stopped()
        url = urljoin(self.base, quote(path))
        sent = {"Accept-Encoding": "identity", "User-Agent": self.policy.agent, **headers}
        limits = (self.policy.connect, self.policy.read)
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = self._session().request(
                    method, url, headers=sent, stream=True, timeout=limits, allow_redirects=False
                )
            except SSLError:
                raise FetchError(
                    f"the certificate of {urlsplit(url).hostname} is not accepted: behind a proxy of your own, point "
                    "REQUESTS_CA_BUNDLE at its certificates"
                ) from None
            except (RequestException, HTTPError) as error:
                self._raise_if_stopped()
                raise _TransientError(_describe(error, self.policy)) from None
            if response.status_code in RETRY_STATUS:
                wait = _retry_after(response)
                response.close()
                raise _TransientError(f"the server answers {response.status_code} {response.reason}", wait)
            if response.status_code not in REDIRECT_STATUS or "Location" not in response.headers:
                return response
            response.close()
            url = urljoin(url, response.headers["Location"])
            if urlsplit(url).scheme != self._scheme:
                raise FileUnavailable(f"{path}: the server redirects to {urlsplit(url).scheme}:, which is not followed")
        raise FileUnavailable(f"{path}: the server redirects in a circle")

    def _wait_for_retry(self, path: str, error: _TransientError, retry: Retry) -> Retry:
        """Wait until the next attempt and return the state of the repeats.

        Raises:
            FetchError: there were too many failures, or the server asks to wait too long.
            DownloadStopped: `interrupt` was called.
        """
        try:
            retry = retry.increment(url=path, error=error)
        except MaxRetryError:
            failures = self.policy.failures - int(retry.total or 0) + 1
            raise FetchError(f"{path}: {error}; given up after {failures} attempts") from None
        wait = retry.get_backoff_time() if error.wait is None else error.wait
        if wait > self.policy.max_wait:
            raise FetchError(f"{path}: {error} and asks to wait {wait / 60:.0f} minutes: go on later")
        self.on_retry(path, str(error), wait)
        if wait > 0:
            self._stop.wait(wait)
        self._raise_if_stopped()
        return retry

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set():
            raise DownloadStopped

    def _discard(self, part: Path, tag: Path) -> None:
        self.on_bytes(-file_size(part))
        with report_disk_errors(part):
            part.unlink(missing_ok=True)
            tag.unlink(missing_ok=True)

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session


def _require_status(path: str, response: requests.Response, accepted: set[int]) -> None:
    code = response.status_code
    if code in accepted:
        return
    if code in (401, 403):
        raise FileUnavailable(f"{path}: the server asks for a login ({code})")
    if code in (404, 410):
        raise FileUnavailable(f"{path}: the server does not have it ({code})")
    raise FileUnavailable(f"{path}: the server answers {code} {response.reason}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _parse_number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _strong_etag(response: requests.Response) -> str:
    """Return a strong ETag or "": a weak one does not identify single bytes."""
    etag = response.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


def _range_start(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _range_total(response: requests.Response) -> int | None:
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds of a Retry-After header, None without one that can be read."""
    try:
        return Retry().get_retry_after(response.raw)
    except InvalidHeader:
        return None


def _describe(error: Exception, policy: RetryPolicy) -> str:
    causes: list[Any] = [error, *error.args, *(getattr(item, "reason", None) for item in error.args)]
    if any(isinstance(item, NameResolutionError) for item in causes):
        return "the server's name is not known: is there a network, or a proxy to name in HTTPS_PROXY?"
    if isinstance(error, Timeout) or "timed out" in str(error):
        return f"no answer within {policy.read:g} s"
    if isinstance(error, NoConnection) and "refused" in str(error):
        return "the server refuses connections"
    return "the connection broke off"
