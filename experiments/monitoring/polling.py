"""Values that take a call to a server: read in the background now and then, so that nobody who asks for them waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from common.errors import WardroundError

Value = TypeVar("Value")
POLL_SECONDS = 15.0


class PolledValue(Generic[Value]):
    """The last value that was read.

    Args:
        read: reads it; may take long, and may fail.
        absent: stands for it before the first reading, and after one that failed.
    """

    def __init__(self, read: Callable[[], Value], absent: Value) -> None:
        self._read, self._absent = read, absent
        self._value = absent
        self._stop = threading.Event()

    def get(self) -> Value:
        """Return the last value."""
        return self._value

    def update(self) -> None:
        """Read the value now."""
        try:
            self._value = self._read()
        except (WardroundError, OSError):
            self._value = self._absent

    @contextmanager
    def keep_updated(self, seconds: float = POLL_SECONDS) -> Iterator[None]:
        """Read the value at once and then every few seconds, in a thread of its own, until the block ends."""

        def poll() -> None:
            self.update()
            while not self._stop.wait(seconds):
                self.update()

        thread = threading.Thread(target=poll, daemon=True, name="polling")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(1)
