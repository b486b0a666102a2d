"""How processor time, memory and the folder of a run grow with the number of hospitals, SYNTHETIC.

Each size runs in a process of its own, on one worker: a perceptron of hospitals in the layout of UCI Heart Disease.
Work that is linear in the hospitals gives the same time for each hospital at every size.
"""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import EngineError
from common.run_folder import RunFolder
from experiments.markdown_table import render_markdown_table

PATIENTS, BATCH_SIZE = 50, 16


def measure_growth(sizes: Sequence[int], rounds: int, *, stacked: bool = False) -> list[dict[str, Any]]:
    """Return what a run costs at each number of hospitals.

    Args:
        sizes: numbers of hospitals.
        rounds: rounds of each run; the first, which loads the sites, is not in the time of a message.
        stacked: whether the perceptrons of several hospitals train in one step (`federation.stacked`).

    Raises:
        EngineError: a run failed.
    """
    results = []
    for hospitals in sizes:
        command = [sys.executable, "-m", "experiments.bench.growth", str(hospitals), str(rounds), str(int(stacked))]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            raise EngineError(f"the run of {hospitals} hospitals failed: {process.stderr.strip().splitlines()[-1]}")
        results.append(json.loads(process.stdout.splitlines()[-1]))
    return results


def render_growth_table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return the measurements as a Markdown table."""
    heads = ["hospitals", "start, s", "a message, ms", "test, s", "report, s", "memory, MB", "folder, MB", "weights"]
    keys = ("hospitals", "start", "message_ms", "test", "report", "megabytes", "folder_megabytes", "weights")
    return render_markdown_table(heads, [[str(item[key]) for key in keys] for item in measured])


class _Stopwatch:
    """Watches a run and keeps the processor time of the process at each event."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = [("process started", time.process_time())]

    def handle(self, event: Mapping[str, Any]) -> None:
        """Keep the time of an event."""
        self.times.append((str(event["event"]), time.process_time()))

    def find_times(self, name: str) -> list[float]:
        """Return the times of the events of one name."""
        return [at for event, at in self.times if event == name]


def _measure_run(hospitals: int, rounds: int, stacked: int) -> dict[str, Any]:
    """Return the processor time, in seconds, of the parts of a run in this process, and what it leaves."""
    from common.config import parse_config
    from experiments.runs.run import run_experiment

    with tempfile.TemporaryDirectory() as scratch:
        config = parse_config(
            {
                "name": "growth",
                "data": {
                    "dataset": "heart_disease",
                    "cache": str(Path(scratch) / "cache"),
                    "scaling": "standard",
                    "options": {
                        "protocol": "explicit",
                        "simulated": True,
                        "hospitals": hospitals,
                        "patients": PATIENTS,
                    },
                },
                "sites": {"scheme": "natural", "split": "published", "validation": 0.0},
                "model": {"name": "mlp"},
                "training": {"epochs": 1, "batch_size": BATCH_SIZE, "lr": 0.002},
                "federation": {"rounds": rounds, "choose": "last", "workers": 1, "stacked": bool(stacked)},
                "evaluation": {"metric": "auroc", "bootstrap": 0},
                "baselines": {"local": False, "pooled": False},
            }
        )
        watch = _Stopwatch()
        folder = RunFolder(run_experiment(config, Path(scratch) / "runs", watch))
        end = time.process_time()
        weights = json.loads(folder.rounds.read_text(encoding="utf-8").splitlines()[-1])["weights"]
        size = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
    ends = watch.find_times("round")
    [done] = watch.find_times("done")
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    return {
        "hospitals": hospitals,
        "start": round(watch.find_times("handshake")[0] - watch.times[0][1], 2),
        "message_ms": round(1000 * statistics.median(seconds) / hospitals, 2),
        "test": round(done - ends[-1], 2),
        "report": round(end - done, 2),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "folder_megabytes": round(size / 1e6, 1),
        "weights": weights,
    }


if __name__ == "__main__":
    print(json.dumps(_measure_run(*(int(value) for value in sys.argv[1:4]))))
