"""Benchmarks of engines, data preparation and scoring, as ratios to a baseline measured in the same run.

Ratios depend less on the machine and its other load than times do.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from common.run_folder import RunFolder

VARIANTS = ("bare", "local-1", "local-2", "ray-2")
AT_ONCE = "two bare loops at once"
"""Two independent processes, each with a bare loop. Half of their time divided by the time of one is the best that two
workers can reach on this machine, whose cores share caches, memory bandwidth and clock."""


def benchmark_engines(sites: int, examples: int, rounds: int, ray: bool) -> dict[str, Any]:
    """Return seconds for a round and peak memory of each engine, and their ratios to the bare loop's.

    Each engine is measured in a process of its own, because of its peak memory. The first round is not counted: it
    loads the sites. The bare loop takes the same steps on the same tensors with torch only, and averages the weights.

    Args:
        sites: simulated hospitals.
        examples: training examples of each.
        rounds: rounds that are timed.
        ray: whether to measure the ray engine.
    """
    results: dict[str, Any] = {"sites": sites, "examples": examples, "rounds": rounds, "cores": os.cpu_count()}
    for what in VARIANTS:
        if what.startswith("ray") and not ray:
            continue
        results[what] = _run_in_process(what, sites, examples, rounds)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: _run_in_process("bare", sites, examples, rounds), range(2)))
    bare = results["bare"]
    if all("seconds" in item for item in (bare, *both)):
        seconds = max(item["seconds"] for item in both)
        results[AT_ONCE] = {"seconds": seconds, "half of it over bare": round(seconds / 2 / bare["seconds"], 3)}
    for what in VARIANTS[1:]:
        if what in results and "seconds" in results[what]:
            results[what]["time over bare"] = round(results[what]["seconds"] / bare["seconds"], 3)
            results[what]["memory over bare"] = round(results[what]["megabytes"] / bare["megabytes"], 3)
            results[what]["same weights as bare"] = results[what]["weights"] == bare["weights"]
    return results


def _run_in_process(what: str, sites: int, examples: int, rounds: int) -> dict[str, Any]:
    """Return the time and peak memory of one variant in a process of its own, or its error."""
    command = [sys.executable, "-m", "experiments.bench.engines", what, str(sites), str(examples), str(rounds)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, text=True)
        megabytes = _wait_for_peak(process)
        out.seek(0)
        log.seek(0)
        lines = out.read().strip().splitlines()
        problems = log.read().strip().splitlines()
    if process.returncode or not lines:
        return {"error": (problems or ["no output"])[-1]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result | {"megabytes": megabytes}


def benchmark_data(folder: Path) -> dict[str, Any]:
    """Return seconds to read recordings with wfdb only, to prepare them without the cache, and with it."""
    import wfdb

    from sites.datasets import mitdb
    from sites.ecg import recordings
    from sites.ecg.beat_reader import Options

    names = recordings.recording_names(folder)
    options = Options(paced=True)

    def bare() -> float:
        start = time.perf_counter()
        for name in names:
            wfdb.rdrecord(str(folder / name))
            wfdb.rdann(str(folder / name), "atr")
        return time.perf_counter() - start

    bare()
    times: dict[str, list[float]] = {"bare": [], "cold": [], "cached": []}
    for _ in range(3):
        times["bare"].append(bare())
        with tempfile.TemporaryDirectory() as store:
            start = time.perf_counter()
            mitdb.patients(folder, options, Path(store))
            times["cold"].append(time.perf_counter() - start)
            start = time.perf_counter()
            mitdb.read(folder, options, names, Path(store))
            times["cached"].append(time.perf_counter() - start)
    medians = {key: round(statistics.median(values), 3) for key, values in times.items()}
    return {"recordings": len(names), **medians, "cold over bare": round(medians["cold"] / medians["bare"], 3)}


def benchmark_scoring(run: Path, folder: Path) -> dict[str, Any]:
    """Return wall time and processor time, in seconds, to score one recording from its files to its annotations.

    `warm`: in a process with libraries and model loaded; `whole`: as a command, including the start of the interpreter;
    `bare`: wfdb reads the same files and writes as many annotations. One thread; medians of five (`whole`: of three).
    """
    import torch
    import wfdb

    from experiments.scoring.output import ScoreWriter
    from experiments.scoring.score import open_model, score_records

    torch.set_num_threads(1)
    model, name = open_model(run), folder.name
    results: dict[str, Any] = {"record": name}
    with tempfile.TemporaryDirectory() as scratch:
        data, out = Path(scratch) / "one", Path(scratch) / "out"
        data.mkdir()
        for path in folder.parent.glob(f"{name}.*"):
            (data / path.name).symlink_to(path.resolve())

        def bare() -> None:
            wfdb.rdrecord(str(data / name))
            beats = wfdb.rdann(str(data / name), "atr")
            wfdb.wrann(name, "bare", beats.sample, symbol=beats.symbol, write_dir=scratch)

        def warm() -> None:
            result = ScoreWriter(out, "scores.csv", model, "wrd")
            for item in score_records(model, data, "detect", "atr", lambda done, total: None):
                result.add(item)
            results["rows"] = result.close(complete=True)["rows"]

        command = [sys.executable, "-c", "from experiments.cli.main import main; main()", "score", "--run", str(run)]
        command += ["--data", str(data), "--out", str(out), "--beats", "detect", "-q"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

        def whole() -> None:
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

        for what, times in ((bare, 6), (warm, 6), (whole, 3)):
            pairs = [_measure_call(what) for _ in range(times)][times // 6 :]
            wall, busy = (round(statistics.median(column), 3) for column in zip(*pairs, strict=True))
            results[what.__name__] = {"seconds": wall, "processor": busy}
    results["warm over bare"] = round(results["warm"]["processor"] / results["bare"]["processor"], 2)
    return results


def _measure_call(what: Callable[[], None]) -> tuple[float, float]:
    """Return the wall time and the processor time of a call, in seconds, including its child processes."""
    start, before = time.perf_counter(), os.times()
    what()
    after = os.times()
    return time.perf_counter() - start, sum(after[:4]) - sum(before[:4])


def bench_config(sites: int, examples: int, rounds: int, workers: int, folder: Path) -> Any:
    """Return the configuration of the benchmark."""
    from common import config

    return config.parse_config(
        {
            "name": "bench",
            "data": {
                "path": str(folder),
                "cache": str(folder.parent / "cache"),
                "options": {"hospitals": sites, "patients": 8, "minutes": 5.0},
            },
            "sites": {"validation": 0.0, "limit": examples, "test": 0.1},
            "training": {"batch_size": 64, "epochs": 1, "schedule": "constant"},
            "federation": {"rounds": rounds + 1, "workers": workers, "choose": "last"},
            "evaluation": {"bootstrap": 0},
            "baselines": {"local": False, "pooled": False},
        }
    )


def make_bench_data(sites: int) -> Path:
    """Return the folder of the benchmark's SYNTHETIC recordings, generated once."""
    from sites import cache
    from sites.ecg.simulate import hospitals
    from sites.ecg.simulate.profiles import default_profiles

    folder = cache.cache_folder() / "bench" / f"{sites}-hospitals-v{hospitals.VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    hospitals.generate(folder, default_profiles(sites, 8, 1), minutes=5.0, seed=1)
    return folder


def _measure_variant(what: str, sites: int, examples: int, rounds: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    name, _, workers = what.partition("-")
    config = bench_config(sites, examples, rounds, int(workers or 1), make_bench_data(sites))
    if name == "bare":
        seconds, weights = _run_bare_loop(config, sites)
    else:
        with tempfile.TemporaryDirectory() as out:
            if name == "local":
                from experiments.engines.local import run_local

                run_local(config, Path(out), sites)
            else:
                from common.config import config_to_json
                from experiments.engines.ray_runtime import run_on_ray

                run_on_ray(config_to_json(config), Path(out), sites=sites, workers=int(workers))
            lines = [json.loads(line) for line in RunFolder(Path(out)).rounds.read_text().splitlines()]
        seconds = [line["seconds"] for line in lines]
        weights = lines[-1]["weights"]
    return {"seconds": round(statistics.median(seconds[1:]), 3), "weights": weights}


def _wait_for_peak(process: subprocess.Popen[str]) -> int:
    """Wait for a process to end; return the peak memory of it and its descendants together, in MB."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory_in_use(process.pid))
        time.sleep(0.2)
    return round(peak / 2**20)


def _memory_in_use(pid: int) -> int:
    """Return the memory in bytes of a process and its descendants; shared pages count once where that is known."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for item in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                memory = item.memory_full_info()
                total += getattr(memory, "pss", memory.rss)
    return total


def _run_bare_loop(config: Any, sites: int) -> tuple[list[float], str]:
    """Return the seconds of each round, and the final weights' digest, of the same steps without an engine."""
    import numpy as np
    import torch

    from client.policy import SIMULATION_POLICY
    from client.site import load_site
    from client.site_context import SiteContext
    from client.training.local_update import copy_weights
    from client.training.loop import make_optimizer
    from client.training.losses import compute_class_weights
    from common import models
    from common.models._layers import Dropout
    from common.seeds import seed_for
    from server.run import digest_weights

    loaded = sorted(
        (load_site(SiteContext(SIMULATION_POLICY, index=i, count=sites), config) for i in range(sites)),
        key=lambda s: s.name,
    )
    counts = [sum(column) for column in zip(*(s.train.class_counts() for s in loaded), strict=True)]
    weight = compute_class_weights(counts, config.training.weight_power)
    data = [
        (s.name, torch.from_numpy(s.train.x), torch.from_numpy(s.train.features), torch.from_numpy(s.train.y))
        for s in loaded
    ]
    model = models.build_model(loaded[0].task, config.model, config.seed)
    current = copy_weights(model)
    seconds = []
    for number in range(1, config.federation.rounds + 1):
        start = time.perf_counter()
        total: dict[str, Any] = {}
        n_all = sum(len(y) for *_, y in data)
        for site, x, features, y in data:
            model.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in current.items()})
            model.train()
            seed = seed_for(config.seed, site, number, "train")
            shuffle = torch.Generator().manual_seed(seed_for(seed, "shuffle"))
            drop = torch.Generator().manual_seed(seed_for(seed, "dropout"))
            for module in model.modules():
                if isinstance(module, Dropout):
                    module.generator = drop
            optimizer = make_optimizer(model, config.training)
            order = torch.randperm(len(y), generator=shuffle)
            for first in range(0, len(y), config.training.batch_size):
                rows = order[first : first + config.training.batch_size]
                optimizer.zero_grad(set_to_none=True)
                each = torch.nn.functional.cross_entropy(model(x[rows], features[rows]), y[rows], reduction="none")
                (each * weight[y[rows]]).mean().backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.clip_norm, foreach=True)
                optimizer.step()
            for key, value in copy_weights(model).items():
                total[key] = total[key] + value * (len(y) / n_all) if key in total else value * (len(y) / n_all)
        current = total
        seconds.append(time.perf_counter() - start)
    return seconds, digest_weights(current)


if __name__ == "__main__":
    print(json.dumps(_measure_variant(sys.argv[1], *(int(value) for value in sys.argv[2:5]))))
