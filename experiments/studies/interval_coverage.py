"""Do the 95% intervals hold the truth in 95% of studies? A simulation: `python -m
experiments.studies.interval_coverage`.

Beats of one patient are alike: a patient's share of events, how hard the events are to tell, and how far off the
model's scores lie are each drawn once a patient. Studies of a few patients up to many are drawn from that population,
each gets its intervals as a site computes them (common/metrics/intervals.py), and counted is how often they hold the
figure
of the whole population, taken from very many patients. Beside them stands the plain percentile interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.metrics import counts as metrics
from common.metrics import evaluation, intervals
from common.metrics.resampling import COARSE_FACTOR, compute_figures
from common.seeds import rng_for
from common.task import Task

TASK = Task("simulated", "multiclass", ("normal", "event"), ("normal", "event"), 0, 0, 0.0, ("score",), ())
BINS, BEATS = 1024, 60
FIGURES = {
    "accuracy": ("accuracy", None),
    "macro-F1": ("macro_f1", None),
    "sensitivity": ("class_recall", 1),
    "AUROC": ("class_auroc", 1),
    "AUPRC": ("class_auprc", 1),
    "Brier": ("brier", None),
    "calibration slope": ("class_slope", 0),
}
"""Shown figures: their names in common/metrics/resampling.py and the class."""


def draw_patients(
    count: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return log odds of two models `(beats, 2)`, truth and patient of each beat of so many patients."""
    beats = rng.integers(BEATS // 2, BEATS * 3 // 2, count)
    owner = np.repeat(np.arange(count), beats)
    share = 1 / (1 + np.exp(-rng.normal(-1.5, 1.0, count)))[owner]
    truth = (rng.random(len(owner)) < share).astype(np.int64)
    hard, off = rng.normal(2.0, 0.8, count)[owner], rng.normal(-1.5, 0.7, count)[owner]
    signal = off + hard * truth + rng.normal(size=len(owner))
    return np.stack([signal, signal * 0.7 + rng.normal(0, 1.0, len(owner))], axis=1), truth, owner


def run_study(count: int, resamples: int, seed: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return the figures of both models on the patients of one study, resampled together."""
    odds, truth, owner = draw_patients(count, rng)
    found = []
    for model in (0, 1):
        logits = np.stack([np.zeros(len(truth)), odds[:, model]], axis=1)
        each = metrics.count_predictions(logits, truth, owner, count, BINS, coarse=COARSE_FACTOR)
        total = metrics.count_predictions(logits, truth, np.zeros(len(truth), np.int64), 1, BINS).total()
        drawn = evaluation.resample_patients(each, resamples, np.random.default_rng(seed)) if resamples else None
        found.append(compute_figures(TASK, total, drawn, count))
    return found[0], found[1]


def measure_coverage(
    counts: Sequence[int], studies: int, resamples: int, seed: int = 1, many: int = 20_000
) -> dict[str, Any]:
    """Return for each number of patients and figure the share of intervals that hold the truth, and the plain ones'."""
    one, other = run_study(many, 0, 0, rng_for(seed, "population"))

    def value(of: Any, name: str, place: int | None) -> float:
        return float(of.values[name] if place is None else of.values[name][place])

    truth = {name: value(one, *at) for name, at in FIGURES.items()}
    truth["difference in AUROC"] = truth["AUROC"] - value(other, *FIGURES["AUROC"])
    found: dict[str, Any] = {"studies": studies, "resamples": resamples, "truth": truth, "patients": {}}
    for count in counts:
        hits: dict[str, list[tuple[bool, bool]]] = {name: [] for name in truth}
        for number in range(studies):
            a, b = run_study(count, resamples, number, rng_for(seed, "study", count, number))
            for name in truth:
                key, place = FIGURES["AUROC" if name.startswith("difference") else name]
                sample = a.drawn[key] if place is None else a.drawn[key][:, place]
                figure = a.figure(key, place)
                if name.startswith("difference"):
                    sample = sample - b.drawn[key][:, place]
                    figure = intervals.make_figure(value(a, key, place) - value(b, key, place), sample, count)
                if figure.low is None or figure.high is None:
                    continue
                low, high = np.nanquantile(sample, [0.025, 0.975])
                hits[name].append((figure.low <= truth[name] <= figure.high, bool(low <= truth[name] <= high)))
        found["patients"][count] = {
            name: {
                "intervals": len(held),
                "holds": round(float(np.mean([h for h, _ in held])), 3),
                "plain": round(float(np.mean([p for _, p in held])), 3),
            }
            for name, held in hits.items()
            if held
        }
    return found


def render_coverage_table(found: dict[str, Any]) -> str:
    """Return the table that documentation quotes: the share that holds the truth, and the plain interval's."""
    counts = list(found["patients"])
    lines = [
        f"{found['studies']} simulated studies each, {found['resamples']} resamples: share of 95% intervals that hold "
        "the truth (in brackets: plain percentile intervals).",
        "",
        "| figure | " + " | ".join(f"{count} patients" for count in counts) + " |",
        "| --- |" + " --- |" * len(counts),
    ]
    for name in found["truth"]:
        parts = [found["patients"][count].get(name) for count in counts]
        cells = [f"{part['holds']:.3f} ({part['plain']:.3f})" if part else "n/a" for part in parts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--patients", default="5,10,20,50,100", help="patients a study, comma between")
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print all numbers")
    given = parser.parse_args()
    counts = [int(part) for part in given.patients.split(",")]
    found = measure_coverage(counts, given.studies, given.resamples, given.seed)
    print(json.dumps(found, indent=1) if given.json else render_coverage_table(found))


if __name__ == "__main__":
    main()
