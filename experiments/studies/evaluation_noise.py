"""Measure what noise costs a private evaluation: each hospital's accuracy and AUROC, with noise and exact.

python -m experiments.studies.evaluation_noise CONFIG.yaml [--seeds 1,2,3] [--epsilons 1,4,8] [--draws 200]
    [--set KEY=VALUE]... [--runs DIR]

Runs the configuration (of a task of two classes) once a seed, without noise. Then the counts of each hospital's test
patients are made noisy many times by the mechanism and with the fitting of a private evaluation, and compared with
the exact figures of the same model. Prints Markdown: the exact figures, and at each epsilon the mean absolute
difference, the mean difference, and the share of 95% intervals that hold the exact figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from client.evaluation.person_sums import compute_shares, select_groups
from client.evaluation.predictions import build_predictor, compute_predictions
from client.policy import SIMULATION_POLICY
from client.privacy.accounting import solve_noise
from client.privacy.private_evaluation import join_weighted_sums, split_weighted_sums
from client.site import Site, load_site, scale_site
from client.site_context import SiteContext
from common import noise
from common.config import RunConfig, load_config
from common.errors import ConfigError
from common.metrics.figures import Evaluation, EvaluationNoise
from common.metrics.noisy_counts import NORM_MARGIN, NoisyCounts, ReleaseLayout
from common.metrics.noisy_evaluation import build_noisy_evaluation, draw_noisy_counts
from common.metrics.table_names import ALL_PATIENTS
from common.private_evaluation import build_layout, read_noisy_counts
from common.task import Task
from experiments import restore
from experiments.markdown_table import render_markdown_table
from experiments.runs.checks import resolve_paths
from experiments.runs.resumable import find_complete_run
from experiments.runs.run import run_experiment
from experiments.watcher import Event
from sites import datasets

POOLED = "all"
METRICS = ("accuracy", "auroc")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EvaluatedSite:
    """A hospital's test patients under one trained model.

    Attributes:
        odds: log odds of the event, `(examples,)`.
        truth: `(examples,)`.
        sums: exact sums over people of all tables of a release, by table and part.
    """

    odds: Floats
    truth: npt.NDArray[np.int64]
    sums: Mapping[str, Floats]


class Silent:
    """A watcher that shows nothing."""

    def handle(self, event: Event) -> None:
        """Take one event."""


def find_tested_sites(config: RunConfig, folder: Path) -> dict[str, EvaluatedSite]:
    """Return the test patients of each simulated hospital under the model in a run's folder."""
    config = resolve_paths(config)
    source = datasets.open_source(config, None)
    hospitals, _, _ = datasets.assign_hospitals(source, config)
    scaling = restore.scaling(folder)
    tested = {}
    for index in range(len(hospitals)):
        raw = load_site(SiteContext(SIMULATION_POLICY, index=index, count=len(hospitals)), config)
        if not len(raw.test.y):
            continue
        model, _ = restore.model(folder, site=raw.name)
        site: Site = scale_site(raw, scaling)
        logits = np.asarray(compute_predictions(build_predictor(model, config), site.test), dtype=np.float64)
        sums = compute_shares(model, site.test, config).sum_tables(select_groups(raw.test, config))
        tested[raw.name] = EvaluatedSite(logits[:, 1] - logits[:, 0], site.test.y, sums)
    return tested


def compute_exact(sites: Sequence[EvaluatedSite]) -> tuple[float, float]:
    """Return accuracy and AUROC of the exact predictions for some hospitals' test patients together."""
    odds, truth = (np.concatenate([getattr(site, name) for site in sites]) for name in ("odds", "truth"))
    return float(((odds > 0) == truth).mean()), float(roc_auc_score(truth, odds))


def draw_evaluations(
    task: Task, sites: Mapping[str, EvaluatedSite], layout: ReleaseLayout, sigma: float, rng: np.random.Generator
) -> dict[str, Evaluation]:
    """Return the evaluation of each hospital, and of all, from counts with new noise."""
    about = EvaluationNoise(epsilon=None, delta=0.0)
    noisy: dict[str, NoisyCounts] = {}
    drawn: dict[str, NoisyCounts] = {}
    for name, site in sites.items():
        vector = noise.add_noise(join_weighted_sums(site.sums, layout), sigma * NORM_MARGIN, noise.SecureSource())
        noisy[name] = read_noisy_counts(split_weighted_sums(vector, site.sums, layout), layout, sigma)[ALL_PATIENTS]
        drawn[name] = draw_noisy_counts(noisy[name], task, None, 200, rng)
    noisy[POOLED], drawn[POOLED] = (reduce(add, list(each.values())) for each in (noisy, drawn))
    return {name: build_noisy_evaluation(task, noisy[name], drawn[name], about) for name in noisy}


def measure(
    config: RunConfig, folder: Path, epsilons: Sequence[float], draws: int
) -> tuple[dict[str, tuple[float, float]], dict[tuple[str, float], list[tuple[float, float, float, float]]]]:
    """Return exact figures by hospital; and by hospital and epsilon for each draw what the noisy ones differ by.

    The four numbers of a draw: differences of accuracy and AUROC (NaN without one), and for each of the two whether the
    interval holds the exact figure.
    """
    private = config.privacy.model_copy(update={"evaluation_epsilon": 1.0})
    evaluation = config.evaluation.model_copy(update={"bins": config.privacy.evaluation_bins})
    config = config.model_copy(update={"privacy": private, "evaluation": evaluation})
    sites = find_tested_sites(config, folder)
    task = restore.model(folder, site=next(iter(sites)))[1]
    layout = build_layout(config, task, "test", personal=False)
    exact = {name: compute_exact([site]) for name, site in sites.items()}
    exact[POOLED] = compute_exact(list(sites.values()))
    rng = np.random.default_rng(config.seed)
    differences: dict[tuple[str, float], list[tuple[float, float, float, float]]] = {}
    for epsilon in epsilons:
        sigma = solve_noise(epsilon, private.delta, 1.0, 1, private.accountant)
        for _ in range(draws):
            for name, item in draw_evaluations(task, sites, layout, sigma, rng).items():
                values, held = [], []
                for metric, truth in zip(METRICS, exact[name], strict=True):
                    figure = item.figure(metric)
                    known = figure is not None and figure.value is not None
                    values.append(figure.value - truth if known else np.nan)  # type: ignore[union-attr,operator]
                    ends = (figure.low, figure.high) if known else (None, None)  # type: ignore[union-attr]
                    held.append(np.nan if None in ends else float(ends[0] <= truth <= ends[1]))  # type: ignore[operator]
                differences.setdefault((name, epsilon), []).append((*values, *held))  # type: ignore[arg-type]
    return exact, differences


def render_table(
    exact: Mapping[str, Sequence[tuple[float, float]]],
    differences: Mapping[tuple[str, float], Sequence[tuple[float, float, float, float]]],
    patients: Mapping[str, Sequence[tuple[int, int]]],
    epsilons: Sequence[float],
) -> str:
    """Return the Markdown table of both metrics.

    Args:
        exact: both metrics by hospital, for each seed.
        differences: as `measure` returns them, of all seeds.
        patients: test patients, and those with the event, by hospital, for each seed.
        epsilons: the columns.
    """
    heads = [f"epsilon {epsilon:g}" for epsilon in epsilons]
    rows: list[list[object]] = []
    for column, metric in enumerate(("accuracy", "AUROC")):
        for name, values in exact.items():
            people, events = (_describe_range([each[i] for each in patients[name]]) for i in (0, 1))
            cells = []
            for epsilon in epsilons:
                measured = np.asarray(differences[name, epsilon])
                off, held = measured[:, column], measured[:, column + 2]
                cells.append(f"{np.nanmean(np.abs(off)):.3f} ({np.nanmean(off):+.3f}); {100 * np.nanmean(held):.0f}%")
            mean = float(np.mean([each[column] for each in values]))
            rows.append([metric, name, f"{people} ({events})", f"{mean:.3f}", *cells])
    return render_markdown_table(["metric", "at", "test patients (with the event)", "exact", *heads], rows)


def _describe_range(numbers: Sequence[int]) -> str:
    """Return the least and the greatest of some numbers.

    >>> _describe_range([5, 3, 4]), _describe_range([2, 2])
    ('3 to 5', '2')
    """
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"


def main() -> None:
    """Run the configuration at each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epsilons", default="1,4,8")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--runs", type=Path, default=Path("runs/evaluation-noise"))
    wanted = parser.parse_args()
    epsilons = [float(each) for each in wanted.epsilons.split(",")]
    plain = [
        "baselines.local=false", "baselines.pooled=false", "baselines.classical=[]", "evaluation.domain_shift=false",
    ]  # fmt: skip
    exact: dict[str, list[tuple[float, float]]] = {}
    differences: dict[tuple[str, float], list[tuple[float, float, float, float]]] = {}
    patients: dict[str, list[tuple[int, int]]] = {}
    for seed in wanted.seeds.split(","):
        config = load_config(wanted.config, [*wanted.settings, *plain, f"seed={seed}"])
        folder = find_complete_run(wanted.runs / seed, config) or run_experiment(config, wanted.runs / seed, Silent())
        outcome = restore.load_outcome(folder)
        if not Task.from_dict(outcome["task"]).binary:
            raise ConfigError("evaluation_noise: the task must have two classes")
        results = {**outcome["test"][ALL_PATIENTS], POOLED: outcome["pooled"][ALL_PATIENTS]}
        for name, item in results.items():
            patients.setdefault(name, []).append((item["patients"], list(item["classes"].values())[-1]["patients"]))
        own, drawn = measure(config, folder, epsilons, wanted.draws)
        for name, values in own.items():
            exact.setdefault(name, []).append(values)
        for key, each in drawn.items():
            differences.setdefault(key, []).extend(each)
    print(render_table(exact, differences, patients, epsilons))


if __name__ == "__main__":
    main()
