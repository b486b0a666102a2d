"""Coverage of the 95% intervals, by simulation.

    python -m experiments.studies.interval_coverage

Beats of one patient are alike: the patient's share of events, how hard they are to detect, and the bias of the model's
scores are each drawn once for each patient. Studies with few to many patients are drawn from that population. Each
study's intervals are computed as a site computes them (common/metrics/intervals.py). Coverage is the share of studies
whose interval contains the metric of the whole population, which is estimated from very many patients. The plain
percentile interval is given for comparison.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.metrics.counts import count_predictions
from common.metrics.evaluation import resample_patients
from common.metrics.intervals import ResampledFigures, make_figure
from common.metrics.resampling import COARSE_FACTOR, compute_figures
from common.seeds import rng_for
from common.task import Task
from experiments.markdown_table import render_markdown_table

TASK = Task("simulated", "multiclass", ("normal", "event"), ("normal", "event"), 0, 0, 0.0, ("score",), ())
BINS, BEATS = 1024, 60
FIGURES: dict[str, tuple[str, int | None]] = {
    "accuracy": ("accuracy", None),
    "macro-F1": ("macro_f1", None),
    "sensitivity": ("class_recall", 1),
    "AUROC": ("class_auroc", 1),
    "AUPRC": ("class_auprc", 1),
    "Brier": ("brier", None),
    "calibration slope": ("class_slope", 0),
}
"""Metrics in the table: their names in common/metrics/resampling.py, and the class."""


def draw_patients(
    count: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return log odds of two models `(beats, 2)`, and the label and patient of each beat, of `count` patients."""
    beats = rng.integers(BEATS // 2, BEATS * 3 // 2, count)
    owner = np.repeat(np.arange(count), beats)
    share = 1 / (1 + np.exp(-rng.normal(-1.5, 1.0, count)))[owner]
    truth = (rng.random(len(owner)) < share).astype(np.int64)
    hard, off = rng.normal(2.0, 0.8, count)[owner], rng.normal(-1.5, 0.7, count)[owner]
    signal = off + hard * truth + rng.normal(size=len(owner))
    return np.stack([signal, signal * 0.7 + rng.normal(0, 1.0, len(owner))], axis=1), truth, owner


def run_study(
    count: int, resamples: int, seed: int, rng: np.random.Generator
) -> tuple[ResampledFigures, ResampledFigures]:
    """Return the resampled figures of both models on the patients of one study; they share the resamples."""
    odds, truth, owner = draw_patients(count, rng)
    figures = []
    for model in (0, 1):
        logits = np.stack([np.zeros(len(truth)), odds[:, model]], axis=1)
        each = count_predictions(logits, truth, owner, count, BINS, coarse=COARSE_FACTOR)
        total = count_predictions(logits, truth, np.zeros(len(truth), np.int64), 1, BINS).total()
        drawn = resample_patients(each, resamples, np.random.default_rng(seed)) if resamples else None
        figures.append(compute_figures(TASK, total, drawn, count))
    return figures[0], figures[1]


def measure_coverage(
    counts: Sequence[int], studies: int, resamples: int, seed: int = 1, many: int = 20_000
) -> dict[str, Any]:
    """Return the coverage of both kinds of interval for each number of patients and metric.

    Args:
        counts: numbers of patients in a study.
        studies: studies of each size.
        resamples: bootstrap resamples in a study.
        seed: the same seed draws the same patients.
        many: patients from whom the metrics of the whole population are estimated.
    """
    one, other = run_study(many, 0, 0, rng_for(seed, "population"))
    truth = {name: _get_value(one, *at) for name, at in FIGURES.items()}
    truth["difference in AUROC"] = truth["AUROC"] - _get_value(other, *FIGURES["AUROC"])
    result: dict[str, Any] = {"studies": studies, "resamples": resamples, "truth": truth, "patients": {}}
    for count in counts:
        hits: dict[str, list[tuple[bool, bool]]] = {name: [] for name in truth}
        for number in range(studies):
            pair = run_study(count, resamples, number, rng_for(seed, "study", count, number))
            for name in truth:
                if (hit := _contains(name, truth[name], pair, count)) is not None:
                    hits[name].append(hit)
        result["patients"][count] = {
            name: {
                "intervals": len(pairs),
                "holds": round(float(np.mean([interval for interval, _ in pairs])), 3),
                "plain": round(float(np.mean([plain for _, plain in pairs])), 3),
            }
            for name, pairs in hits.items()
            if pairs
        }
    return result


def _get_value(figures: ResampledFigures, name: str, index: int | None) -> float:
    return float(figures.values[name] if index is None else figures.values[name][index])


def _contains(
    name: str, truth: float, pair: tuple[ResampledFigures, ResampledFigures], count: int
) -> tuple[bool, bool] | None:
    """Return whether a study's interval and its plain percentile interval contain the truth; None: no interval."""
    one, other = pair
    key, index = FIGURES["AUROC" if name.startswith("difference") else name]
    sample = one.drawn[key] if index is None else one.drawn[key][:, index]
    figure = one.figure(key, index)
    if name.startswith("difference"):
        sample = sample - other.drawn[key][:, index]
        figure = make_figure(_get_value(one, key, index) - _get_value(other, key, index), sample, count)
    if figure.low is None or figure.high is None:
        return None
    low, high = np.nanquantile(sample, [0.025, 0.975])
    return figure.low <= truth <= figure.high, bool(low <= truth <= high)


def render_coverage_table(result: dict[str, Any]) -> str:
    """Return the Markdown table of the coverage, with that of plain percentile intervals in brackets."""
    counts = list(result["patients"])
    rows = []
    for name in result["truth"]:
        parts = [result["patients"][count].get(name) for count in counts]
        rows.append([name, *(f"{part['holds']:.3f} ({part['plain']:.3f})" if part else "n/a" for part in parts)])
    return (
        f"{result['studies']} simulated studies each, {result['resamples']} resamples: share of 95% intervals that "
        "contain the true value (in brackets: plain percentile intervals).\n\n"
        + render_markdown_table(["metric", *(f"{count} patients" for count in counts)], rows)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--patients", default="5,10,20,50,100", help="numbers of patients in a study, separated by commas"
    )
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print all numbers")
    given = parser.parse_args()
    counts = [int(part) for part in given.patients.split(",")]
    result = measure_coverage(counts, given.studies, given.resamples, given.seed)
    print(json.dumps(result, indent=1) if given.json else render_coverage_table(result))


if __name__ == "__main__":
    main()
