"""Time, memory and traffic of a federation of real processes on this machine, compared with the local engine.

Both run the same configuration, one after the other in processes of their own, several times; figures are medians.
Differences in seconds grow with the machine's other load, so each measurement states the load that it met.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from common.config import RunConfig, config_from_json, config_to_json, load_config
from common.errors import EngineError
from common.run_folder import RunFolder
from experiments.markdown_table import render_markdown_table

QUICK = ("baselines.local=false", "baselines.pooled=false", "evaluation.bootstrap=0")
WORKLOADS = {
    "synthetic": "experiments/synthetic.yaml, 4 hospitals (SYNTHETIC)",
    "cnn": "CNN, 10 hospitals of 2,000 beats (SYNTHETIC)",
    "heart_disease": "experiments/heart_disease.yaml, logistic regression, 4 hospitals",
}
ROLES = {"client.node_process": "node", "client.worker": "worker", "flower-superlink": "server"}
"""Parts of command lines, and which process has them."""
SAMPLE_SECONDS = 0.5


@dataclass
class Memory:
    """Peak memory of the processes of a federation, in bytes.

    Attributes:
        proportional: by process: what it holds alone, and its share of pages that it shares with others.
        own: by process: what it holds alone.
        role: what each process is.
    """

    proportional: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    own: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    role: dict[int, str] = field(default_factory=dict)

    def sample(self, root: psutil.Process) -> None:
        """Look at a process and its descendants."""
        for process in root.children(recursive=True):
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                role = next((role for part, role in ROLES.items() if part in line), None)
                if role is None:
                    continue
                memory = process.memory_full_info()
                self.role[process.pid] = role
                proportional = int(getattr(memory, "pss", memory.rss))
                self.proportional[process.pid] = max(self.proportional[process.pid], proportional)
                self.own[process.pid] = max(self.own[process.pid], int(memory.uss))

    def megabytes(self, role: str) -> tuple[int, int]:
        """Return the largest PSS and USS (proportional and unique memory) of a role's processes, in MB."""
        pids = [pid for pid, other in self.role.items() if other == role]
        largest = (max((table[pid] for pid in pids), default=0) for table in (self.proportional, self.own))
        first, second = (round(value / 1e6) for value in largest)
        return first, second


def build_workload_config(name: str, rounds: int) -> RunConfig:
    """Return the configuration of a workload with `rounds` rounds after the first."""
    from experiments.bench.engines import bench_config, make_bench_data
    from experiments.runs.checks import resolve_paths

    if name == "cnn":
        config: RunConfig = bench_config(10, 2000, rounds, 2, make_bench_data(10))
        return config
    settings = (*QUICK, f"federation.rounds={rounds + 1}", "evaluation.domain_shift=false")
    return resolve_paths(load_config(Path(f"experiments/{name}.yaml"), settings))


def benchmark_federation(names: Sequence[str], rounds: int, turns: int) -> dict[str, Any]:
    """Return the figures of some workloads.

    Args:
        names: keys of WORKLOADS.
        rounds: rounds that are timed; the first, which loads data, is not.
        turns: how often each engine is measured.

    Raises:
        EngineError: a measurement failed.
    """
    results: dict[str, Any] = {"cores": os.cpu_count(), "rounds": rounds, "turns": turns}
    for name in names:
        config = build_workload_config(name, rounds)
        runs: dict[str, list[dict[str, Any]]] = {"local": [], "federation": []}
        for _ in range(turns):
            for engine, measured in runs.items():
                measured.append(_measure_in_process(engine, config))
        local, deployed = (_combine(measured) for measured in runs.values())
        results[name] = {
            "local": local,
            "federation": deployed,
            "seconds over local": round(deployed["seconds"] - local["seconds"], 2),
            "same weights": local["weights"] == deployed["weights"],
        }
    return results


def render_federation_table(results: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    header = ["workload", "local, s a round", "federation, s a round", "difference, s", "start, s"]
    header += ["worker, MB (own)", "node, MB (own)", "bytes over weights", "same weights", "load"]
    rows = []
    for name, title in WORKLOADS.items():
        if name not in results:
            continue
        local, deployed = results[name]["local"], results[name]["federation"]
        memory = [f"{deployed[role][0]} ({deployed[role][1]})" for role in ("worker", "node")]
        seconds = [local["seconds"], deployed["seconds"], results[name]["seconds over local"], deployed["start"]]
        equal = "yes" if results[name]["same weights"] else "NO"
        load = f"{local['load']:.0f}, {deployed['load']:.0f}"
        rows.append([title, *seconds, *memory, deployed["bytes over weights"], equal, load])
    return render_markdown_table(header, rows, right_aligned=range(1, len(header)))


def _combine(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of some measurements; of memory the largest."""
    first = measured[0]
    combined: dict[str, Any] = {"weights": first["weights"], "each": [item["seconds"] for item in measured]}
    if any(item["weights"] != first["weights"] for item in measured):
        raise EngineError("two runs of the same configuration ended with different weights")
    for key in ("seconds", "start", "bytes over weights", "load"):
        if key in first:
            combined[key] = round(statistics.median(item[key] for item in measured), 3)
    for role in set(ROLES.values()):
        if role in first:
            combined[role] = [max(item[role][kind] for item in measured) for kind in range(2)]
    return combined


def _measure_in_process(engine: str, config: RunConfig) -> dict[str, Any]:
    """Return the figures of one run in a process of its own."""
    load = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bench.federation", engine],
        input=config_to_json(config),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EngineError(f"the {engine} engine failed: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result | {"load": load}


def _measure_local(config: RunConfig, out: Path) -> dict[str, Any]:
    from experiments.engines.local import run_local
    from sites import datasets

    hospitals, _, _ = datasets.assign_hospitals(datasets.open_source(config, None), config)
    run_local(config, out, len(hospitals))
    return read_rounds(out)


def _measure_federation(config: RunConfig, out: Path) -> dict[str, Any]:
    from experiments.engines import prepare_site_processes
    from experiments.engines.federation import Federation
    from sites import datasets

    source = datasets.open_source(config, None)
    hospitals, _, _ = datasets.assign_hospitals(source, config)
    federation = config.federation.model_copy(update={"engine": "federation", "expect": tuple(sorted(hospitals))})
    config = config.model_copy(update={"federation": federation})
    root = out / "hospitals"
    root.mkdir(parents=True)
    sites = prepare_site_processes(config, root, RunFolder(out).sites.resolve(), hospitals, source)
    memory, over = Memory(), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            memory.sample(psutil.Process())

    watcher = threading.Thread(target=watch)
    start = time.time()
    watcher.start()
    try:
        with Federation(sites, log_dir=out / "logs") as running:
            run = running.run(config_to_json(config), out.resolve())
            traffic = sum(running.link.connection.control.run_traffic(int(run)))
    finally:
        over.set()
        watcher.join()
    result = read_rounds(out)
    size = sum(item.nbytes for item in _read_weights(out).values())
    # A site sends a model in each round. It fetches the first one and each merged one once, for validation or the next
    # training, and the chosen one again for the test if that is an earlier one.
    chosen = json.loads(RunFolder(out).outcome.read_text(encoding="utf-8"))["chosen"]
    transfers = len(sites) * (2 * config.federation.rounds + 1 + (chosen != config.federation.rounds))
    result["bytes over weights"] = round(traffic / (transfers * size), 3)
    result["start"] = round(result.pop("first") - start, 1)
    return result | {role: memory.megabytes(role) for role in sorted(set(ROLES.values()))}


def read_rounds(out: Path) -> dict[str, Any]:
    """Return the median seconds of a run's rounds after the first, when the first began, and the final weights."""
    lines = [json.loads(line) for line in RunFolder(out).rounds.read_text(encoding="utf-8").splitlines()]
    seconds = [line["seconds"] for line in lines]
    first = lines[-1]["time"] - sum(seconds)  # a line is written once its round is validated, with the next one
    return {"seconds": round(statistics.median(seconds[1:]), 3), "first": first, "weights": lines[-1]["weights"]}


def _read_weights(out: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(RunFolder(out).weights())


def main() -> None:
    """Read a configuration from standard input, measure the engine named on the command line, and print JSON."""
    config = config_from_json(sys.stdin.read())
    measure = {"local": _measure_local, "federation": _measure_federation}[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder:
        print(json.dumps(measure(config, Path(folder) / "run")))


if __name__ == "__main__":
    main()
