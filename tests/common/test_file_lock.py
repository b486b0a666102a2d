from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from common.file_lock import take_lock


def test_a_held_lock_is_waited_for_with_a_limit(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    take_lock(first)
    with pytest.raises(OSError, match=r"another process has held its lock for 0\.05 s"):
        take_lock(second, 0.05)
    threading.Timer(0.1, os.close, [first]).start()
    take_lock(second, 30)
    os.close(second)
