from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from common.process_identity import read_start


def test_the_start_is_what_psutil_says_apart_from_the_date() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        ours = read_start(process.pid) - read_start(os.getpid())
        theirs = psutil.Process(process.pid).create_time() - psutil.Process().create_time()
        process.kill()
    assert ours == pytest.approx(theirs, abs=0.011)
    assert ours > 0


def test_a_process_that_ended_has_no_start() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    with pytest.raises(psutil.NoSuchProcess):
        read_start(process.pid)
