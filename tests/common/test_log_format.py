"""Log lines with a time and without colours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_lines_have_a_time_and_no_colour() -> None:
    script = (
        "import logging, sys\n"
        "import flwr.supercore.logger\n"
        "from common.log_format import start_logging\n"
        "start_logging()\n"
        "logging.getLogger('wardround.node').info('one')\n"
        "logging.getLogger('flwr').info('hidden')\n"
        "logging.getLogger('flwr').warning('two')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z %s\n"
    assert re.fullmatch(line % "INFO wardround.node: one" + line % "WARNING flwr: two", done.stderr)
