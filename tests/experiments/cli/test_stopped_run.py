"""A run of the command line that is stopped or killed while it works."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from common import config
from tests.experiments.cli.test_main import COMMAND, experiment, wardround

__all__ = ["experiment", "wardround"]  # fixtures


def started(experiment: Path, runs: Path, until: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a long run as a process, and return when its events hold `until`."""
    words = ["--set", "federation.rounds=100000", "--set", "training.epochs=2", "--quiet", "--runs", str(runs)]
    process = subprocess.Popen(
        [*COMMAND, "run", str(experiment), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        found = list(runs.glob("*/rounds.jsonl"))
        if found and until in found[0].read_text():
            return process, found[0].parent
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[1])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_mid_run(experiment: Path, tmp_path: Path, number: signal.Signals) -> None:
    process, folder = started(experiment, tmp_path / "runs", '"round": 3')
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out == ""
    assert err == f"wardround: stopped; go on with: wardround run --resume {folder}\n"
    report = json.loads((folder / "report.json").read_text())
    assert report["run"]["status"] == "interrupted"
    assert (folder / "report.html").is_file()
    assert json.loads((folder / "federated.json").read_text())["chosen"] >= 1


@pytest.mark.slow
def test_killed_in_mid_run(wardround, experiment: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from safetensors.numpy import load_file

    process, folder = started(experiment, tmp_path / "runs", '"round": 3')
    process.kill()
    process.communicate()
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in rounds] == list(range(1, len(rounds) + 1))
    for line in (folder / "events.jsonl").read_text().splitlines():
        json.loads(line)
    assert load_file(folder / "model.safetensors")
    assert config.load_config(folder / "config.yaml").name == "small"
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    done = wardround("report", str(folder))
    assert (done.code, done.err) == (0, "")
    assert json.loads((folder / "report.json").read_text())["run"]["status"] == "interrupted"
