"""Limits of a download: connections, timeouts and repeats."""

from __future__ import annotations

from dataclasses import dataclass

from urllib3.util import Retry


@dataclass(frozen=True)
class RetryPolicy:
    """How many connections a server gets, how long it is waited for, and how often a request is repeated.

    Attributes:
        threads: files at a time.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes.
        attempts: repeats in a row that bring no byte before a file is given up.
        failures: repeats of one file in all before it is given up.
        backoff: seconds; the n-th repeat in a row waits `backoff * 2 ** (n - 1)`, the first not at all.
        max_wait: longest wait in seconds; a server that asks for more is given up.
        agent: the User-Agent header.
    """

    threads: int = 4
    connect: float = 15.0
    read: float = 60.0
    attempts: int = 6
    failures: int = 100
    backoff: float = 1.0
    max_wait: float = 300.0
    agent: str = "wardround (federated learning research)"

    def new_retry(self) -> Retry:
        """Return the state of the repeats of one file."""
        return Retry(
            total=self.failures,
            other=self.attempts,
            backoff_factor=self.backoff,
            backoff_jitter=self.backoff / 4,
            backoff_max=self.max_wait,
        )
