"""The benchmark of a federation: which configurations it measures, how it reads a run, and its table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.errors import EngineError
from common.run_folder import RunFolder
from experiments.bench import federation
from experiments.bench.federation import Memory, benchmark_federation, read_rounds, render_federation_table


def test_a_run_is_read_without_its_first_round(tmp_path: Path) -> None:
    rounds = [(100.0, 7.0, "a"), (103.0, 3.0, "b"), (104.0, 1.0, "c"), (109.0, 5.0, "d")]
    lines = [json.dumps({"time": time, "seconds": seconds, "weights": weights}) for time, seconds, weights in rounds]
    RunFolder(tmp_path).rounds.write_text("\n".join(lines) + "\n")
    assert read_rounds(tmp_path) == {"seconds": 3.0, "first": 93.0, "weights": "d"}


@pytest.mark.parametrize("name", ["synthetic", "heart_disease"])
def test_workloads_have_one_round_more_than_is_timed(name: str) -> None:
    config = federation.build_workload_config(name, 4)
    assert config.federation.rounds == 5
    assert not config.baselines.local


def answers(engine: str, config: Any, weights: str = "w") -> dict[str, Any]:
    local = {"seconds": 1.0, "weights": weights, "load": 0.4}
    memory = {"start": 9.0, "bytes over weights": 1.01, "worker": (300, 250), "node": (70, 60), "server": (300, 200)}
    return local if engine == "local" else local | memory | {"seconds": 3.5}


def test_the_table_has_the_difference_and_the_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def measure(engine: str, config: Any) -> dict[str, Any]:
        order.append(engine)
        return answers(engine, config)

    monkeypatch.setattr(federation, "_measure_in_process", measure)
    results = benchmark_federation(["synthetic"], 2, 2)
    assert order == ["local", "federation"] * 2  # in turn, so that both meet the same load
    assert results["synthetic"]["seconds over local"] == 2.5
    row = render_federation_table(results).splitlines()[2]
    assert "| 1.0 | 3.5 | 2.5 | 9.0 | 300 (250) | 70 (60) | 1.01 | yes | 0, 0 |" in row


def test_other_weights_are_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = iter("abcd")
    monkeypatch.setattr(federation, "_measure_in_process", lambda *given: answers(*given, weights=next(weights)))
    with pytest.raises(EngineError, match="different weights"):
        benchmark_federation(["synthetic"], 2, 2)


def test_memory_is_that_of_the_processes_with_a_role() -> None:
    held = "x = bytearray(b'1' * 50_000_000); print('up', flush=True); import time; time.sleep(60)"
    memory = Memory()
    with subprocess.Popen(
        [sys.executable, "-c", f"{held} # client.worker"], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        memory.sample(psutil.Process(os.getpid()))
        worker.kill()
    proportional, own = memory.megabytes("worker")
    assert 50 <= own <= proportional < 120
    assert memory.megabytes("node") == (0, 0)
