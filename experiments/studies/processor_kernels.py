"""How far a run's weights and figures depend on the processor: one configuration, with the kernels of older processors.

    python -m experiments.studies.processor_kernels experiments/heart_disease.yaml [--set section.key=value ...]

torch, oneMKL, oneDNN and OpenBLAS choose their kernels by what the processor can do, and the kernels add in different
orders. The run is repeated in separate processes in which the libraries' own switches force older kernels. Prints for
each the beginning of the weights' SHA-256, the largest difference of a weight from those of the first run, and the
metrics of all hospitals together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from common.metrics.evaluation import metric_value
from common.run_folder import RunFolder
from experiments.markdown_table import render_markdown_table
from experiments.report.document.report import read_report
from experiments.report.text.formatting import list_table_metrics, metric_title

KERNELS: dict[str, dict[str, str]] = {
    "as the processor allows": {},
    "the same again": {},
    "torch: AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch: no vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "oneMKL: oldest": {"MKL_CBWR": "COMPATIBLE"},
    "oneDNN: SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "OpenBLAS: Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
    "all of the oldest": {
        "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}  # fmt: skip
"""Environment variables of the libraries, by what they force."""


@dataclass(frozen=True)
class Outcome:
    """What one run gave.

    Attributes:
        digest: SHA-256 of the final weights.
        weights: the final weights by name.
        metrics: pooled metrics by title.
    """

    digest: str
    weights: Mapping[str, np.ndarray]
    metrics: Mapping[str, float | None]


def run_with(environment: Mapping[str, str], config: Path, settings: Sequence[str], root: Path) -> Outcome:
    """Run a configuration in a process with some environment variables, without baselines.

    Raises:
        subprocess.CalledProcessError: the run failed.
    """
    overrides = ["baselines.local=false", "baselines.pooled=false", "baselines.classical=[]", *settings]
    command = [sys.executable, "-m", "experiments.cli.launcher", "run", str(config), "--quiet", "--runs", str(root)]
    command += [part for item in overrides for part in ("--set", item)]
    done = subprocess.run(command, env=os.environ | dict(environment), check=True, capture_output=True, text=True)
    folder = RunFolder(Path(done.stdout.splitlines()[-1]))
    report = read_report(folder.path)
    pooled = report.federated.pooled if report.federated else None
    return Outcome(
        json.loads(folder.outcome.read_text(encoding="utf-8"))["weights"],
        load_file(folder.weights()),
        {metric_title(name): metric_value(pooled, name) if pooled else None for name in list_table_metrics(report)},
    )


def largest_difference(one: Outcome, other: Outcome) -> float:
    """Return the largest absolute difference of a weight."""
    return max(float(np.abs(value - other.weights[name]).max(initial=0)) for name, value in one.weights.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    wanted = parser.parse_args(arguments)
    rows, first = [], None
    with tempfile.TemporaryDirectory() as root:
        for name, environment in KERNELS.items():
            outcome = run_with(environment, wanted.config, wanted.settings, Path(root))
            first = first or outcome
            values = [f"{value:.5f}" if value is not None else "" for value in outcome.metrics.values()]
            rows.append([name, outcome.digest[:8], f"{largest_difference(first, outcome):.1e}", *values])
    header = ["kernels", "weights", "largest difference", *(first.metrics if first else ())]
    print(render_markdown_table(header, rows))


if __name__ == "__main__":
    main()
