"""Time to compute a run's metrics with all intervals.

    python -m experiments.bench.figures

Predictions are drawn at random. Counting, resampling and all metrics of several models at several sites are computed as
sites do it, and each model's pooled metrics, in two threads.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.metrics import calibration, counts, evaluation
from common.metrics.counts import Counts
from common.metrics.figures import Evaluation
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task

TASK = Task("beats", "multiclass", ("N", "S", "V", "F"), ("n", "s", "v", "f"), 1, 8, 125.0, (), ("lead",))


def evaluate_site(
    model: int, site: int, beats: int, patients: int, resamples: int
) -> tuple[Evaluation, Counts, Counts]:
    """Return a model's evaluation at one site, its counts and its resampled counts."""
    rng = np.random.default_rng([model, site])
    truth = rng.choice(4, size=beats, p=[0.85, 0.06, 0.07, 0.02])
    logits = rng.normal(size=(beats, 4))
    logits[np.arange(beats), truth] += 3
    owner = np.sort(rng.integers(0, patients, beats))
    each = counts.count_predictions(logits, truth, owner, patients, 1024, coarse=COARSE_FACTOR)
    total = counts.count_predictions(logits, truth, np.zeros(beats, np.int64), 1, 1024).total()
    drawn = evaluation.resample_patients(each, resamples, np.random.default_rng(site))
    people = calibration.count_patients_in_groups(each.scores)
    having = [len(np.unique(owner[truth == c])) for c in range(4)]
    given = {"operating": (0.9, 0.95), "curves": True, "group_patients": people}
    return evaluation.build_evaluation(TASK, total, drawn, patients, having, **given), total, drawn  # type: ignore[arg-type]


def measure_figures(
    models: int, sites: int, beats: int, patients: int, resamples: int, workers: int
) -> tuple[float, float]:
    """Return the wall time and the processor time of all metrics, in seconds."""

    def model(number: int) -> Evaluation:
        parts = {str(site): evaluate_site(number, site, beats, patients, resamples) for site in range(sites)}
        results, totals, drawn = ({name: part[i] for name, part in parts.items()} for i in range(3))
        return evaluation.pool_evaluations(TASK, results, totals, drawn)  # type: ignore[arg-type]

    start, processor_start = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(model, range(models)))
    return time.perf_counter() - start, time.process_time() - processor_start


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description="Time to compute the metrics of a run.")
    for name, default in (("models", 10), ("sites", 10), ("beats", 20_000), ("patients", 50), ("resamples", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--workers", type=int, default=2)
    given = vars(parser.parse_args())
    seconds, processor = measure_figures(**given)
    print(json.dumps({**given, "seconds": round(seconds, 1), "processor seconds": round(processor, 1)}))


if __name__ == "__main__":
    main()
