"""The cost of privacy: one configuration at several epsilons and without privacy, at each hospital and over all.

All points are run with the settings that privacy requires (FORCED_SETTINGS). Otherwise the run without privacy could
use settings that a private run must not use, and the curve would show their effect too. Complete runs are not repeated.
A point with several seeds is the mean over its runs. Its interval spans the 95% intervals of the runs, from
the lowest to the highest end: it says what the result of one training may be, not how precisely the mean is known.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from common.config import RunConfig, load_config
from common.errors import ConfigError
from common.files import write_json, write_text
from common.metrics.figures import Evaluation, Figure
from experiments.privacy.sweep_page import NONE, POOLED, draw_sweep, render_sweep_markdown, render_sweep_page
from experiments.report.document.report import Report, read_report
from experiments.report.text.formatting import NOTICE_TAGS, format_notice
from experiments.runs.series import run_configurations
from experiments.watcher import Watcher

FORCED_SETTINGS = {
    "training.loss": "cross_entropy", "training.patience": "0", "baselines.local": "false",
    "baselines.pooled": "false", "baselines.classical": "[]", "privacy.sigma": "null",
}  # fmt: skip
"""Settings of every point; all but those of the baselines because privacy requires them."""
SELECTION_SETTINGS = {"federation.choose": "last", "evaluation.threshold": "likelier"}
"""Further settings of every point, unless privacy.validation declares validation patients unprotected."""


@dataclass(frozen=True)
class Cell:
    """One figure of one run, at a hospital or over all test patients; a row of sweep.csv.

    Attributes:
        epsilon: the point, as given; "none": without privacy.
        seed: the run's seed.
        site: the hospital, or POOLED.
        train_patients: training patients; None: not reported.
        test_patients: test patients.
        units: protected units of the hospital; None: without privacy.
        spent: epsilon that the run spent at the hospital.
        sigma: noise multiplier.
        metric: the metric's name.
        value: the metric; None: undefined.
        low: lower end of its 95% interval.
        high: upper end of its 95% interval.
    """

    epsilon: str
    seed: int
    site: str
    train_patients: int | None
    test_patients: int
    units: int | None
    spent: float | None
    sigma: float | None
    metric: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Point:
    """A figure over the runs of one epsilon.

    Attributes:
        value: mean over the runs.
        low: lowest end of the runs' 95% intervals.
        high: highest end of the runs' 95% intervals.
        each: the value of each run.
    """

    value: float | None
    low: float | None
    high: float | None
    each: tuple[float, ...]


def parse_epsilons(text: str) -> tuple[str, ...]:
    """Return the epsilons of a text such as `none,10,8`.

    Raises:
        ConfigError: a part is not a number, or is given twice.
    """
    epsilons = []
    for part in filter(None, (item.strip().lower() for item in text.split(","))):
        try:
            epsilons.append(NONE if part == NONE else f"{float(part):g}")
        except ValueError:
            raise ConfigError(f"--epsilons: {part!r} is neither a number nor none") from None
    if not epsilons or len(set(epsilons)) < len(epsilons):
        raise ConfigError("--epsilons: give each once, such as none,10,8,4,2,1")
    return tuple(epsilons)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a text such as `1,2,3`; an empty text stands for the configuration's own seed.

    Raises:
        ConfigError: a part is not a whole number, or is given twice.
    """
    parts = [item.strip() for item in text.split(",") if item.strip()]
    if not all(item.isdigit() for item in parts) or len({int(item) for item in parts}) < len(parts):
        raise ConfigError(f"--seeds {text!r}: give each whole number once, such as 1,2,3")
    return tuple(int(item) for item in parts)


def plan_runs(
    path: Path, settings: Sequence[str], epsilons: Sequence[str], seeds: Sequence[int]
) -> tuple[list[tuple[dict[str, str], RunConfig]], list[str]]:
    """Return the varied settings of each run with its configuration, and which settings all points changed.

    Args:
        path: the configuration file.
        settings: overrides, as for `wardround run --set`.
        epsilons: the points.
        seeds: the seeds at each point; empty: the configuration's own.

    Raises:
        ConfigError: a key or value is wrong, or does not go with privacy.
    """
    given = load_config(path, settings)
    forced = dict(FORCED_SETTINGS)
    if given.privacy.validation == NONE:
        forced |= SELECTION_SETTINGS
    if given.data.scaling not in ("none", "auto", "standard"):
        forced["data.scaling"] = "auto"
    level = "auto" if given.privacy.level == NONE else given.privacy.level
    runs = []
    for epsilon in epsilons:
        privacy = (
            ["privacy.level=none", "privacy.epsilon=null"]
            if epsilon == NONE
            else [f"privacy.level={level}", f"privacy.epsilon={epsilon}"]
        )
        for seed in seeds or (given.seed,):
            overrides = [*settings, *(f"{key}={value}" for key, value in forced.items()), *privacy, f"seed={seed}"]
            runs.append(({"epsilon": epsilon, "seed": str(seed)}, load_config(path, overrides)))
    first = runs[0][1]
    changed = [f"{key}={value}" for key, value in forced.items() if _get_value(given, key) != _get_value(first, key)]
    return runs, changed


def _get_value(config: RunConfig, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def run_sweep(
    path: Path, settings: Sequence[str], epsilons: Sequence[str], seeds: Sequence[int], folder: Path, watcher: Watcher
) -> dict[str, Any]:
    """Run every point that has no complete run; return the results, also written to sweep.json, .csv, .svg and .html.

    Args:
        path: the configuration file.
        settings: overrides, as for `wardround run --set`.
        epsilons: the points.
        seeds: the seeds at each point; empty: the configuration's own.
        folder: the sweep's folder.
        watcher: receives the events.

    Raises:
        WardroundError: as a single run; complete runs are in the folder and are not repeated.
    """
    configs, changed = plan_runs(path, settings, epsilons, seeds)
    done = run_configurations(configs, folder, watcher)
    cells: list[Cell] = []
    tags: list[str] = []
    notices: list[str] = []
    for chosen, run_folder in done:
        report = read_report(run_folder)
        cells += list_cells(report, chosen["epsilon"], int(chosen["seed"]))
        tags += [NOTICE_TAGS[notice.level] for notice in report.notices if notice.level in NOTICE_TAGS]
        notices += [format_notice(notice) for notice in report.notices]
    private = next((config.privacy for chosen, config in configs if chosen["epsilon"] != NONE), None)
    sites = training_patients_by_site(cells)
    sweep: dict[str, Any] = {
        "title": configs[0][1].title or configs[0][1].name,
        "metric": cells[0].metric,
        "epsilons": list(epsilons),
        "seeds": sorted({cell.seed for cell in cells}),
        "level": private.kind if private else NONE,
        "delta": private.delta if private else None,
        "settings_of_all_points": changed,
        "tags": list(dict.fromkeys(tags)),
        "notices": list(dict.fromkeys(notices)),
        "sites": sites,
        "cells": [asdict(cell) for cell in cells],
        "runs": [{"settings": chosen, "folder": str(run_folder)} for chosen, run_folder in done],
        "points": {
            site: {epsilon: asdict(summarise_point(cells, site, epsilon)) for epsilon in epsilons}
            for site in [*sites, POOLED]
        },
    }
    write_json(folder / "sweep.json", sweep)
    write_text(folder / "sweep.csv", render_csv(cells))
    write_text(folder / "sweep.md", render_sweep_markdown(sweep))
    write_text(folder / "sweep.html", render_sweep_page(sweep, draw_sweep(sweep, folder)))
    return sweep


def list_cells(report: Report, epsilon: str, seed: int) -> list[Cell]:
    """Return the federated model's figures at each hospital and over all.

    Raises:
        ConfigError: the run has no evaluated model.
    """
    model = report.federated
    if model is None:
        raise ConfigError(f"the run with epsilon {epsilon} and seed {seed} has no tested model: see its report")
    trained = {site.name: site.counts["train"].patients for site in report.sites if "train" in site.counts}
    privacy = {item.site: item for item in report.privacy}
    evaluations: dict[str, Evaluation | None] = {**model.sites, POOLED: model.pooled}
    cells = []
    for site, item in evaluations.items():
        if item is None:
            continue
        figure: Figure = item.figure(report.metric) or Figure(value=None)
        own = privacy.get(site)
        cells.append(
            Cell(
                epsilon=epsilon,
                seed=seed,
                site=site,
                train_patients=sum(trained.values()) if site == POOLED else trained.get(site),
                test_patients=item.patients,
                units=own.units if own else None,
                spent=own.epsilon_run if own else None,
                sigma=own.sigma if own else None,
                metric=report.metric,
                value=figure.value,
                low=figure.low,
                high=figure.high,
            )
        )
    return cells


def training_patients_by_site(cells: Sequence[Cell]) -> dict[str, int]:
    """Return each hospital's number of training patients (the mean over runs), smallest first."""
    counts: dict[str, list[int]] = {}
    for cell in cells:
        if cell.site != POOLED:
            counts.setdefault(cell.site, []).append(cell.train_patients or 0)
    means = {site: round(mean(each)) for site, each in counts.items()}
    return dict(sorted(means.items(), key=lambda item: (item[1], item[0])))


def summarise_point(cells: Sequence[Cell], site: str, epsilon: str) -> Point:
    """Return a hospital's figure at an epsilon, over the runs."""
    runs = [cell for cell in cells if (cell.site, cell.epsilon) == (site, epsilon)]
    each = tuple(cell.value for cell in runs if cell.value is not None)
    ends = [(cell.low, cell.high) for cell in runs if cell.low is not None and cell.high is not None]
    return Point(
        mean(each) if each else None,
        min(low for low, _ in ends) if ends else None,
        max(high for _, high in ends) if ends else None,
        each,
    )


def render_csv(cells: Sequence[Cell]) -> str:
    """Return every run's figures as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(asdict(cells[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(cell) for cell in cells)
    return out.getvalue()
