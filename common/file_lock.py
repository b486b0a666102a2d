"""A lock on an open file, by which processes and threads take turns; waiting for it has a limit."""

from __future__ import annotations

import errno
import fcntl
import time

LOCK_TIMEOUT_SECONDS = 60.0
_PAUSE = 0.01


def take_lock(file: int, timeout: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Take the lock of an open file; closing the file releases it, and so does the end of the process.

    Args:
        file: the open file's descriptor; two that were opened separately exclude each other, also in one process.
        timeout: seconds to wait.

    Raises:
        OSError: another process held it all the time.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise OSError(errno.EBUSY, f"another process has held its lock for {timeout:g} s") from None
            time.sleep(_PAUSE)
