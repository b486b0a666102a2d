"""A clock for tests whose sites answer within the server's own calls."""

from __future__ import annotations

import time
from typing import Any

import pytest

from server import canary, exchange, receipts
from server.phases import handshake


class WaitingClock:
    """Stands in for the module `time`: only waiting moves it, so that no site is late because the machine is busy.

    Attributes:
        now: seconds that were waited.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the seconds that were waited so far."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Wait; some more than asked for, as a real clock does."""
        self.now += seconds + 1e-3

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def waiting_clock(monkeypatch: pytest.MonkeyPatch) -> WaitingClock:
    """Give the server's waits a clock that only they move; for grids that answer at once, as tests.wire.FakeGrid."""
    clock = WaitingClock()
    for module in (canary, exchange, handshake, receipts):
        monkeypatch.setattr(module, "time", clock)
    return clock
