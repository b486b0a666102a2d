"""The progress of a download, on a terminal and in a pipe, and how it is stopped."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from experiments.cli import download_progress
from sites.download.fetch import FetchResult
from tests.webserver import Server

COMMAND = [sys.executable, "-c", "from experiments.cli.main import main; main()"]


def terminal() -> tuple[download_progress.DownloadPrinter, Console]:
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO(), color_system=None)
    return download_progress.DownloadPrinter(console), console


def test_on_a_terminal_there_is_a_bar() -> None:
    screen, console = terminal()
    screen.handle(
        {
            "event": "plan",
            "files": 3,
            "present": 2,
            "replaced": 1,
            "bytes": 3_000_000,
            "already": 500_000,
            "exact": False,
        }
    )
    screen.handle({"event": "bytes", "count": 1_000_000})
    screen.handle({"event": "file", "path": "a", "bytes": 1_000_000})
    screen.handle({"event": "retry", "path": "b", "why": "the server is busy", "wait": 7.0})
    screen.handle({"event": "retry", "path": "b", "why": "a hiccup", "wait": 0.2})
    assert screen.bar is not None
    (task,) = screen.bar.tasks
    assert (task.completed, task.total, task.description) == (1_500_000, 3_000_000, "1 of 3 files")
    screen.handle({"event": "bytes", "count": 2_000_000})
    assert task.total == 3_500_000  # it was an estimate
    screen.close()
    text = console.export_text()
    assert "3 files to fetch, about 3.0 MB; 500.0 kB of it fetched earlier; 2 here already; 1 here differ from" in text
    assert "b: the server is busy, again in 7 s" in text
    assert "hiccup" not in text


def test_without_a_terminal_there_is_a_line_a_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    screen = download_progress.DownloadPrinter(Console(stderr=True, width=100))
    screen.handle(
        {"event": "plan", "files": 2, "present": 0, "replaced": 0, "bytes": 1000, "already": 0, "exact": True}
    )
    for _ in range(100):
        screen.handle({"event": "bytes", "count": 10})
    screen.handle(download_progress.download_done_event(FetchResult(2, 0, 1000, {}), Path("x")))
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == [f"{n}0%" for n in range(1, 11)]
    assert captured.out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_stopped_in_the_middle(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    server.always["101.dat"] = "pause"
    variables = {**os.environ, "NO_PROXY": "127.0.0.1"}
    words = ["data", "fetch", "mitdb", str(tmp_path / "a"), "--base-url", server.base]
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
    )
    part, whole = tmp_path / "a" / "101.dat.part", tmp_path / "a" / "100.hea"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size and whole.exists()):
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)  # the server is silent for longer
    assert (process.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    assert (
        last == f"wardround: stopped; files fetched so far are kept in {tmp_path / 'a'}: the same command resumes there"
    )
    assert part.stat().st_size
    assert whole.is_file()
