"""Messages to the service manager that started this process, such as systemd: ready, stopping, alive.

The protocol is a datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)). Without a service manager nothing is
sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE, WATCHDOG_PROCESS_VARIABLE = "WATCHDOG_USEC", "WATCHDOG_PID"


def notify_manager(message: str) -> bool:
    """Send a message such as `READY=1`; return whether a service manager took it."""
    address = os.environ.get(SOCKET_VARIABLE, "")
    if not address.startswith(("/", "@")):
        return False
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(message.encode())
        return True
    return False


def read_watchdog_seconds() -> float | None:
    """Return the seconds after which the service manager restarts a process that gives no sign of life; None: never."""
    try:
        seconds = int(os.environ.get(WATCHDOG_VARIABLE, "")) / 1e6
    except ValueError:
        return None
    process = os.environ.get(WATCHDOG_PROCESS_VARIABLE)
    return seconds if seconds > 0 and process in (None, str(os.getpid())) else None


class ServiceState:
    """Reports a service to its manager: once when it is ready, then that it is alive, and when it stops.

    Call `beat` from the loop that does the work, so that a loop that hangs is noticed.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ready = False
        self._last_beat: float | None = None
        seconds = read_watchdog_seconds()
        self._interval = None if seconds is None else seconds / 3

    def report_ready(self, status: str) -> None:
        """Say that the service serves, and as what; a further call changes the status."""
        notify_manager(f"STATUS={status}" if self._ready else f"READY=1\nSTATUS={status}")
        self._ready = True

    def beat(self) -> None:
        """Give a sign of life, where the service manager wants one and the last is long enough ago."""
        now = self._clock()
        if self._interval is not None and (self._last_beat is None or now - self._last_beat >= self._interval):
            self._last_beat = now
            notify_manager("WATCHDOG=1")

    def report_stopping(self) -> None:
        """Say that the service ends on purpose."""
        notify_manager("STOPPING=1")
