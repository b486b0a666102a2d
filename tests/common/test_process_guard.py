"""Processes that end with the one that started them, also when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

PARENT = """
import subprocess, sys, os, time
child = subprocess.Popen([sys.executable, "-m", "common.process_guard", str(os.getpid()), "sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


def ended(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal exists on Linux alone")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_guarded_command_ends_with_a_killed_parent(stopped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            pid = int(parent.stdout.readline())
            while psutil.Process(pid).cmdline()[:1] != ["sleep"]:  # empty while the guard becomes the command
                time.sleep(0.01)
            if stopped:
                os.kill(pid, signal.SIGSTOP)
        finally:
            parent.kill()
    deadline = time.monotonic() + 120
    while not ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_command_whose_parent_has_ended_already_does_not_start() -> None:
    command = [sys.executable, "-m", "common.process_guard", "1", "echo", "started"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""


def test_without_the_kernels_help_a_thread_notices(tmp_path: Path) -> None:
    child = (
        "import sys, time, common.process_guard as guard\n"
        "sys.platform = 'elsewhere'\n"
        "guard._CHECK_SECONDS = 0.02\n"
        "guard.end_with_parent(int(sys.argv[1]))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    source = (
        "import subprocess, sys, os\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 120
    while not ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
