"""Benchmarks: what is measured beside what, in one run on one machine, as ratios: machines are noisy."""

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
"""Two processes that share nothing, each with a bare loop: half of their time over one's is the least that two workers
can take on this machine, whose cores share caches, memory and clock."""


def benchmark_engines(sites: int, examples: int, rounds: int, ray: bool) -> dict[str, Any]:
    """Return seconds a round and peak memory of each engine, and both over the bare loop's.

    Each is measured in a process of its own, so that peak memory is its own. The first round is left out: it
    opens the sites. The bare loop does the same steps on the same tensors with torch alone and averages the
    weights.
    """
    found: dict[str, Any] = {"sites": sites, "examples": examples, "rounds": rounds, "cores": os.cpu_count()}
    for what in VARIANTS:
        if what.startswith("ray") and not ray:
            continue
        found[what] = _alone(what, sites, examples, rounds)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: _alone("bare", sites, examples, rounds), range(2)))
    bare = found["bare"]
    if all("seconds" in item for item in (bare, *both)):
        seconds = max(item["seconds"] for item in both)
        found[AT_ONCE] = {"seconds": seconds, "half of it over bare": round(seconds / 2 / bare["seconds"], 3)}
    for what in VARIANTS[1:]:
        if what in found and "seconds" in found[what]:
            found[what]["time over bare"] = round(found[what]["seconds"] / bare["seconds"], 3)
            found[what]["memory over bare"] = round(found[what]["megabytes"] / bare["megabytes"], 3)
            found[what]["same weights as bare"] = found[what]["weights"] == bare["weights"]
    return found


def _alone(what: str, sites: int, examples: int, rounds: int) -> dict[str, Any]:
    """Return what one engine took in a process of its own, or its error."""
    command = [sys.executable, "-m", "experiments.bench.engines", what, str(sites), str(examples), str(rounds)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, text=True)
        megabytes = _peak(process)
        out.seek(0)
        log.seek(0)
        lines = out.read().strip().splitlines()
        problems = log.read().strip().splitlines()
    if process.returncode or not lines:
        return {"error": (problems or ["no output"])[-1]}
    told: dict[str, Any] = json.loads(lines[-1])
    return told | {"megabytes": megabytes}


def benchmark_data(folder: Path) -> dict[str, Any]:
    """Return seconds to read recordings with wfdb alone, to prepare them cold, and from the cache."""
    import wfdb

    from sites.datasets import mitdb
    from sites.ecg import recordings
    from sites.ecg.beat_reader import Options

    names = recordings.recording_names(folder)
    options = Options(paced=True)

    def bare() -> float:
        began = time.perf_counter()
        for name in names:
            wfdb.rdrecord(str(folder / name))
            wfdb.rdann(str(folder / name), "atr")
        return time.perf_counter() - began

    bare()
    found: dict[str, list[float]] = {"bare": [], "cold": [], "cached": []}
    for _ in range(3):
        found["bare"].append(bare())
        with tempfile.TemporaryDirectory() as store:
            began = time.perf_counter()
            mitdb.patients(folder, options, Path(store))
            found["cold"].append(time.perf_counter() - began)
            began = time.perf_counter()
            mitdb.read(folder, options, names, Path(store))
            found["cached"].append(time.perf_counter() - began)
    middle = {key: round(statistics.median(values), 3) for key, values in found.items()}
    return {"recordings": len(names), **middle, "cold over bare": round(middle["cold"] / middle["bare"], 3)}


def benchmark_scoring(run: Path, folder: Path) -> dict[str, Any]:
    """Return seconds, and seconds of the processor, to score one recording from its files to its annotations.

    `warm`: in a process that has its libraries and the model; `whole`: a command of its own, interpreter and all;
    `bare`: wfdb alone reads the same files and writes as many annotations. One thread; medians of five (whole: three).
    """
    import torch
    import wfdb

    from experiments.scoring import output
    from experiments.scoring import score as scoring

    torch.set_num_threads(1)
    model, name = scoring.open_model(run), folder.name
    told: dict[str, Any] = {"record": name}
    with tempfile.TemporaryDirectory() as scratch:
        place, out = Path(scratch) / "one", Path(scratch) / "out"
        place.mkdir()
        for path in folder.parent.glob(f"{name}.*"):
            (place / path.name).symlink_to(path.resolve())

        def bare() -> None:
            wfdb.rdrecord(str(place / name))
            beats = wfdb.rdann(str(place / name), "atr")
            wfdb.wrann(name, "bare", beats.sample, symbol=beats.symbol, write_dir=scratch)

        def warm() -> None:
            result = output.ScoreWriter(out, "scores.csv", model, "wrd")
            for item in scoring.score_records(model, place, "detect", "atr", lambda done, of: None):
                result.add(item)
            told["rows"] = result.close(complete=True)["rows"]

        command = [sys.executable, "-c", "from experiments.cli.main import main; main()", "score", "--run", str(run)]
        command += ["--data", str(place), "--out", str(out), "--beats", "detect", "-q"]
        one = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

        def whole() -> None:
            subprocess.run(command, env=one, check=True, stdout=subprocess.DEVNULL)

        for what, times in ((bare, 6), (warm, 6), (whole, 3)):
            found = [_timed(what) for _ in range(times)][times // 6 :]
            wall, busy = (round(statistics.median(column), 3) for column in zip(*found, strict=True))
            told[what.__name__] = {"seconds": wall, "processor": busy}
    told["warm over bare"] = round(told["warm"]["processor"] / told["bare"]["processor"], 2)
    return told


def _timed(what: Callable[[], None]) -> tuple[float, float]:
    """Return seconds, and seconds of the processor here and in processes that ended, that something takes."""
    began, before = time.perf_counter(), os.times()
    what()
    after = os.times()
    return time.perf_counter() - began, sum(after[:4]) - sum(before[:4])


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


def _measure(what: str, sites: int, examples: int, rounds: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    name, _, workers = what.partition("-")
    config = bench_config(sites, examples, rounds, int(workers or 1), make_bench_data(sites))
    if name == "bare":
        seconds, weights = _bare(config, sites)
    else:
        with tempfile.TemporaryDirectory() as out:
            if name == "local":
                from experiments.engines import local

                local.run_local(config, Path(out), sites)
            else:
                from common.config import config_to_json
                from experiments.engines import ray_runtime

                ray_runtime.run_on_ray(config_to_json(config), Path(out), sites=sites, workers=int(workers))
            lines = [json.loads(line) for line in RunFolder(Path(out)).rounds.read_text().splitlines()]
        seconds = [line["seconds"] for line in lines]
        weights = lines[-1]["weights"]
    return {"seconds": round(statistics.median(seconds[1:]), 3), "weights": weights}


def _peak(process: subprocess.Popen[str]) -> int:
    """Wait for a process; return the most memory, in MB, that it and all below it held at one time."""
    most = 0
    while process.poll() is None:
        most = max(most, _memory_in_use(process.pid))
        time.sleep(0.2)
    return round(most / 2**20)


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


def _bare(config: Any, sites: int) -> tuple[list[float], str]:
    """The same steps without messages, engine or workers: what any engine can at best cost on one core."""
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

    opened = sorted(
        (load_site(SiteContext(SIMULATION_POLICY, index=i, count=sites), config) for i in range(sites)),
        key=lambda s: s.name,
    )
    counts = [sum(column) for column in zip(*(s.train.class_counts() for s in opened), strict=True)]
    weight = compute_class_weights(counts, config.training.weight_power)
    data = [
        (s.name, torch.from_numpy(s.train.x), torch.from_numpy(s.train.features), torch.from_numpy(s.train.y))
        for s in opened
    ]
    model = models.build_model(opened[0].task, config.model, config.seed)
    current = copy_weights(model)
    seconds = []
    for number in range(1, config.federation.rounds + 1):
        began = time.perf_counter()
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
            for start in range(0, len(y), config.training.batch_size):
                rows = order[start : start + config.training.batch_size]
                optimizer.zero_grad(set_to_none=True)
                each = torch.nn.functional.cross_entropy(model(x[rows], features[rows]), y[rows], reduction="none")
                (each * weight[y[rows]]).mean().backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.clip_norm, foreach=True)
                optimizer.step()
            for key, value in copy_weights(model).items():
                total[key] = total[key] + value * (len(y) / n_all) if key in total else value * (len(y) / n_all)
        current = total
        seconds.append(time.perf_counter() - began)
    return seconds, digest_weights(current)


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], *(int(value) for value in sys.argv[2:5]))))
