"""`wardround run` that is killed at random moments and resumed ends as one that was not, on each engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from client.privacy.ledger import Ledger, get_ledger_path
from common import config
from common.run_folder import RunFolder
from experiments.engines.local import run_local
from tests.faults.deployment import MARK, PRIVATE, RAW, find_command, read_tail
from tests.faults.trial import check_run, read_results

LONG = os.environ.get("WARDROUND_FAULTS") == "long"
KILLS = 4 if LONG else 2
STRATEGIES = ("scaffold", "private", "ditto", "fedadam", "fedavgm", "fedbn")
"""Strategies with state, and a private run; in short mode each engine has one or two of them."""
RUN_SECONDS = 1800.0
ROUNDS = 12
"""So many that a run whose first rounds are over within a tenth of a second is still killed before its end."""
ATTEMPTS = 10
"""Most runs that are started until one is killed before its end; more than one where this process was held up."""


def sections(strategy: str) -> dict[str, Any]:
    """Return the configuration of a run; `private` is one with a ledger."""
    federation = {"rounds": ROUNDS, "connect_timeout": 900, "round_timeout": 900}  # a busy machine starts slowly
    if strategy == "private":
        return {**PRIVATE, "federation": {**PRIVATE["federation"], **federation}}
    options = {"ditto": {"pull": 2.0}, "scaffold": {"lr": 0.5}}.get(strategy, {})
    federation["strategy"] = {"name": strategy, "options": options}
    return {**RAW, "federation": {**RAW["federation"], **federation}}


def marked(mark: str) -> list[psutil.Process]:
    """Return the running processes that carry a mark in their environment."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def wait_until_gone(mark: str, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while left := marked(mark):
        if time.monotonic() > deadline:
            lines = [" ".join(process.cmdline()) for process in left]
            for process in left:
                process.kill()
            raise AssertionError(f"still running {seconds:.0f} s after the kill: {lines}")
        time.sleep(0.1)


def wait_for_events(root: Path, process: subprocess.Popen[bytes], size: int) -> int:
    """Wait until a run has written events beyond a size, and return the new size; it may end before."""
    deadline = time.monotonic() + RUN_SECONDS
    while process.poll() is None:
        new = sum(path.stat().st_size for path in root.glob("*/events.jsonl"))
        if new > size:
            return new
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return size


def wait_for_checkpoint(root: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run has a round from which it can be resumed; it may end before."""
    deadline = time.monotonic() + RUN_SECONDS
    while process.poll() is None and not any(root.glob("*/checkpoints/round-*.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def run_with_kills(engine: str, strategy: str, tmp_path: Path, seed: int) -> tuple[Path, int]:
    """Carry out a run whose process is killed a few times; return its folder and how often it was.

    The first kill comes as soon as there is a checkpoint, so that at least one start has something to resume.
    """
    rng, mark, log, file = np.random.default_rng(seed), str(tmp_path), tmp_path / "run.log", tmp_path / "wanted.yaml"
    file.write_text(yaml.safe_dump(sections(strategy)))

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [find_command(), "run", *arguments],
                env={**os.environ, MARK: mark}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def kill(process: subprocess.Popen[bytes]) -> bool:
        process.send_signal(signal.SIGKILL)
        was_running = process.wait(120) == -signal.SIGKILL
        wait_until_gone(mark)
        return was_running

    for attempt in range(ATTEMPTS):
        root = tmp_path / f"runs-{attempt}"
        settings = [f"federation.engine={engine}", "federation.workers=2"]
        process = start(str(file), "--runs", str(root), *(word for text in settings for word in ("--set", text)))
        wait_for_checkpoint(root, process)
        kills = int(kill(process))
        (folder,) = root.glob("*")
        if kills and not RunFolder(folder).outcome.exists():
            break
    size = 0
    for _ in range(1, KILLS):
        process = start("--resume", str(folder))
        for _ in range(int(rng.integers(2, 6))):  # messages of hospitals
            size = wait_for_events(root, process, size)
        time.sleep(float(rng.uniform(0, 0.3)))
        kills += kill(process)
    process = start("--resume", str(folder))
    assert process.wait(RUN_SECONDS) == 0, read_tail(log)
    wait_until_gone(mark)
    return folder, kills


def check_against_local(folder: Path, strategy: str, tmp_path: Path) -> None:
    run_local(config.parse_config(sections(strategy), []), tmp_path / "whole", 2)
    check_run(folder, read_results(tmp_path / "whole"))
    resumed = [line for line in RunFolder(folder).events.read_text().splitlines() if '"resume"' in line]
    assert resumed
    for path in (folder / "sites").glob(f"*/*/round-{ROUNDS:05d}.safetensors"):
        twin = next((tmp_path / "whole" / "sites" / path.parent.parent.name).glob(f"*/round-{ROUNDS:05d}.safetensors"))
        assert path.read_bytes() == twin.read_bytes()
    if strategy != "private":
        return
    lines = [json.loads(line) for line in RunFolder(folder).rounds.read_text().splitlines()]
    for name in ("north", "south"):
        rows = Ledger.read(get_ledger_path(folder / "sites", name)).rows()
        stated = [line["sites"][name]["train"]["privacy"] for line in lines]
        assert {row.round for row in rows} == set(range(1, ROUNDS + 1))
        assert len({row.run for row in rows}) == 1
        assert sum(item["steps"] + item.get("lost_steps", 0) for item in stated) == sum(row.steps for row in rows)
        assert stated[-1]["epsilon_run"] == rows[-1].epsilon_run


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES if LONG else ("scaffold", "private"))
def test_a_killed_run_of_the_local_engine(tmp_path: Path, strategy: str) -> None:
    folder, kills = run_with_kills("local", strategy, tmp_path, seed=3)
    assert kills >= 1  # a fast run may end before the next one
    check_against_local(folder, strategy, tmp_path)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES if LONG else ("ditto",))
def test_a_killed_run_of_real_processes(tmp_path: Path, strategy: str) -> None:
    folder, kills = run_with_kills("federation", strategy, tmp_path, seed=4)
    assert kills >= 1  # a fast run may end before the next one
    check_against_local(folder, strategy, tmp_path)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES if LONG else ("private",))
def test_a_killed_run_on_ray(tmp_path: Path, strategy: str) -> None:
    pytest.importorskip("ray")
    folder, kills = run_with_kills("ray", strategy, tmp_path, seed=5)
    assert kills >= 1  # a fast run may end before the next one
    check_against_local(folder, strategy, tmp_path)
