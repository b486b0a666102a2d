from __future__ import annotations

import errno
import logging
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common import log_files
from common.log_files import LogFileHandler, OutputLog, clean_line, write_log_line

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_lines_get_a_time_and_lose_their_colours() -> None:
    assert re.fullmatch(
        f"{TIME} WARNING flwr: Connection failed", clean_line("\x1b[93mWARNING \x1b[0m:   Connection failed\n")
    )
    assert re.fullmatch(f"{TIME} Traceback", clean_line("Traceback"))
    timed = "2026-11-29T23:35:21.538Z INFO [uvicorn.error] Shutting down"
    assert clean_line(timed + "\r\n") == timed
    assert len(clean_line("x" * 10**6)) < log_files.MAX_LINE + 40


def test_a_log_is_rotated_and_old_ones_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "MAX_LOG_BYTES", 100)
    path = tmp_path / "a.log"
    for number in range(100):
        write_log_line(path, f"line {number:04}")
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["a.log", *(f"a.log.{number}" for number in range(1, 6))]
    assert all(file.stat().st_size <= 100 + 10 for file in tmp_path.iterdir())
    lines = [line for name in ["a.log.5", "a.log.4", "a.log.3", "a.log.2", "a.log.1", "a.log"]
             for line in (tmp_path / name).read_text().splitlines()]  # fmt: skip
    assert lines == [f"line {number:04}" for number in range(100 - len(lines), 100)]
    assert len(lines) > 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_several_writers_lose_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "MAX_LOG_BYTES", 4000)
    monkeypatch.setattr(log_files, "OLD_LOGS", 50)
    path = tmp_path / "a.log"

    def write(name: int) -> None:
        for number in range(200):
            write_log_line(path, f"{name} {number:04}")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name} {number:04}" for name in range(4) for number in range(200))


def test_a_log_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write_log_line(path, "before")
    path.rename(tmp_path / "moved")
    write_log_line(path, "after")
    assert path.read_text() == "after\n"
    assert (tmp_path / "moved").read_text() == "before\n"


def test_a_full_disk_stops_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(log_files.os, "write", full)
    write_log_line(tmp_path / "a.log", "line")
    write_log_line(tmp_path / "no folder" / "a.log", "line")


def test_own_lines_have_a_time_and_a_level(tmp_path: Path) -> None:
    logger = logging.Logger("wardround.node")
    logger.addHandler(LogFileHandler(tmp_path / "a.log"))
    logger.warning("no answer from %s", "\x1b[1mhost\x1b[0m")
    assert re.fullmatch(f"{TIME} WARNING wardround.node: no answer from host\n", (tmp_path / "a.log").read_text())


def test_output_is_copied_to_its_end_and_its_first_and_last_lines_are_remembered(tmp_path: Path) -> None:
    source = "print('\\x1b[92mINFO \\x1b[0m:  up', flush=True)\nfor i in range(1500): print(i)\nprint('end', end='')"
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = OutputLog(tmp_path / "a.log", process.stdout)
    process.wait()
    output.finish(30)
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert len(lines) == 1502
    assert re.fullmatch(f"{TIME} INFO flwr: up", lines[0])
    assert all(re.match(TIME, line) for line in lines)
    remembered = output.read().splitlines()
    assert len(remembered) == 1000
    assert (remembered[0], remembered[-1]) == ("\x1b[92mINFO \x1b[0m:  up", "end")
