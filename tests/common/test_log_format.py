"""Log lines with a time and without colours, and logs that do not grow without limit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from common import log_format
from common.log_format import rotate_log

ROOT = Path(__file__).parents[2]


def test_lines_have_a_time_and_no_colour(tmp_path: Path) -> None:
    file = tmp_path / "log"
    script = (
        "import logging, sys\n"
        "from pathlib import Path\n"
        "import flwr.supercore.logger\n"
        "from common.log_format import start_logging\n"
        "file = Path(sys.argv[1])\n"
        "start_logging(file)\n"
        "logging.getLogger('wardround.node').info('one')\n"
        "logging.getLogger('flwr').info('hidden')\n"
        "file.rename(file.with_name('moved'))\n"
        "logging.getLogger('flwr').warning('two')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr == b""
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z %s\n"
    assert re.fullmatch(line % "INFO wardround.node: one", (tmp_path / "moved").read_text())
    assert re.fullmatch(line % "WARNING flwr: two", file.read_text())


def test_a_large_log_is_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_format, "MAX_LOG_BYTES", 3)
    file = tmp_path / "log"
    rotate_log(file)
    for content in ("ab", "abc", "bcd", "cde", "def", "efg"):
        file.write_text(content)
        rotate_log(file)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "log.1": "efg",
        "log.2": "def",
        "log.3": "cde",
    }
