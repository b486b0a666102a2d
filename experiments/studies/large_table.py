"""Seconds and memory of one large table of many hospitals (SYNTHETIC): described, read, read again from the cache.

python -m experiments.studies.large_table [--patients 100000] [--columns 50] [--hospitals 20]

Each stage is a process of its own. Its memory is the largest resident size that the stage adds to what the process
needed for its imports and for a table of 200 patients, also as a multiple of the table in single precision.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.markdown_table import render_markdown_table

STAGES = ("described", "read", "read from the cache")
MEBIBYTE = 2**20


def write_table(folder: Path, patients: int, columns: int, hospitals: int, seed: int = 1) -> Path:
    """Write a CSV of generated numbers with few missing, an outcome that depends on two of them; return it."""
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 10, (patients, columns))
    died = rng.random(patients) < 1 / (1 + np.exp(2 - (values[:, 0] + values[:, 1] - 100) / 10))
    values[rng.random(values.shape) < 0.03] = np.nan
    table = pd.DataFrame(values.round(2), columns=[f"lab_{number}" for number in range(columns)])
    table.insert(0, "hospital", [f"h{number:02d}" for number in rng.integers(0, hospitals, patients)])
    table.insert(0, "patient", [f"p{number}" for number in range(patients)])
    table["died"] = died.astype(int)
    folder.mkdir(parents=True)
    path = folder / "table.csv"
    table.to_csv(path, index=False)
    return path


def describe(path: Path) -> None:
    """Write the description of a table next to it, as `wardround data init` does."""
    from sites.datasets.table.examine import load_table
    from sites.datasets.table.guess import guess_description
    from sites.datasets.table.suspicions import add_suspicions
    from sites.datasets.table.write import render_description

    table = load_table(path)
    description = guess_description(table, outcome="died")
    add_suspicions(table, description)
    (path.parent / "table.yaml").write_text(render_description(description, table), encoding="utf-8")


def read(path: Path) -> None:
    """Read every hospital of a described table and keep them, as a simulated run does."""
    from client.policy import SIMULATION_POLICY
    from client.site import load_site
    from client.site_context import SiteContext
    from common.config import parse_config
    from sites import datasets

    data = {"dataset": "table", "path": str(path.parent), "cache": str(path.parent / "cache"), "scaling": "none"}
    from experiments.runs.checks import resolve_paths

    config = resolve_paths(parse_config({"data": data, "sites": {"scheme": "natural"}}))
    count = len({item.site for item in datasets.open_source(config, None).patients()})
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    assert sum(len(part.y) for site in sites for part in (site.train, site.validation, site.test)) > 0


def measure_stage(stage: str, small: Path, path: Path) -> dict[str, float]:
    """Return the seconds and the bytes of one stage in this process, after the same stage of a small table."""
    work = describe if stage == "described" else read
    work(small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    work(path)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}


def measure(patients: int, columns: int, hospitals: int) -> list[list[str]]:
    """Return a row for each stage: its name, seconds, MiB, and MiB as a multiple of the table in single precision."""
    size = patients * columns * 4
    rows = []
    with tempfile.TemporaryDirectory(prefix="wardround-") as scratch:
        path = write_table(Path(scratch) / "large", patients, columns, hospitals)
        small = write_table(Path(scratch) / "small", 200, columns, 2)
        for stage in STAGES:
            program = "import sys; from experiments.studies import large_table; large_table.print_stage(*sys.argv[1:])"
            command = [sys.executable, "-c", program, stage, str(small), str(path)]
            result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            memory = result["bytes"]
            rows.append([stage, f"{result['seconds']:.3g}", f"{memory / MEBIBYTE:.0f}", f"{memory / size:.1f}"])
    return rows


def print_stage(stage: str, small: str, path: str) -> None:
    """Print what `measure_stage` returns as JSON."""
    print(json.dumps(measure_stage(stage, Path(small), Path(path))))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Seconds and memory of one large table (SYNTHETIC).")
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--hospitals", type=int, default=20)
    given = parser.parse_args()
    heads = ["stage", "seconds", "MiB", "times the table in float32"]
    print(render_markdown_table(heads, measure(given.patients, given.columns, given.hospitals)))


if __name__ == "__main__":
    main()
