"""Recognising a process: its number is given to another one after its end, so the time of its start counts too."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def read_start(pid: int) -> float:
    """Return when a process started, in seconds that no change of the machine's clock moves.

    On Linux it is the time since the system's start, as /proc/PID/stat has it; elsewhere since 1970, by psutil. (On
    Linux psutil adds the system's start, whose date changes with the clock.)

    Raises:
        psutil.Error: there is no such process.
    """
    path = Path("/proc") / str(pid) / "stat"
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        if not path.parent.parent.joinpath("self").exists():
            return psutil.Process(pid).create_time()
        raise psutil.NoSuchProcess(pid) from None
    except OSError:  # it ended while the file was read
        raise psutil.NoSuchProcess(pid) from None
    fields = text.rpartition(")")[2].split()  # its name, in parentheses, may hold anything; the state is field 3
    return int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")
