"""Ends a process together with the one that started it, also when that one is killed.

As a program, `python -m common.process_guard PARENT COMMAND...` runs a command that ends with the process PARENT. This
module imports next to nothing, so that it adds little to the start of the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
"""Linux, <sys/prctl.h>: the kernel sends this process a signal when its parent ends."""
_CHECK_SECONDS = 0.5


def end_with_parent(parent: int, *, watch: bool = True) -> None:
    """Arrange that this process ends when its parent does; end it now if the parent has ended already.

    On Linux the kernel sends SIGKILL at once, also to a process that is stopped or busy in compiled code. The kernel
    means the parent's thread: a process should be started by a thread that lives as long. Elsewhere a thread looks
    twice a second.

    Args:
        parent: the parent's process id, as the parent knows it.
        watch: look by a thread where the kernel does not do it.
    """
    armed = False
    if sys.platform == "linux":
        armed = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)
    if watch and not armed:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True, name="parent watch").start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    os._exit(1)


def main() -> None:
    """Run the command of the command line so that it ends with the process that is named first."""
    end_with_parent(int(sys.argv[1]), watch=False)  # a thread would not survive the next line
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
