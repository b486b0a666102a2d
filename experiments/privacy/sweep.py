"""What privacy costs in use: one configuration at several epsilons, and none, at each hospital and over all.

All points have the same settings, those that privacy needs (FORCED): without privacy a run could do better by settings
that a private one may not have, and the curve would show that as well. Runs that are complete are not run again.
A point with several seeds is the mean over its runs; its interval goes from the lowest to the highest end of the runs'
95% intervals over test patients: what one training's figure may be, not how well the mean is known.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from common import config as configuration
from common.config import RunConfig
from common.errors import ConfigError
from common.files import write_json, write_text
from common.metrics.figures import Evaluation, Figure
from experiments.privacy.sweep_page import NONE, POOLED, render_sweep_markdown
from experiments.report.document import report as reports
from experiments.report.text import formatting
from experiments.runs import series
from experiments.watcher import Watcher

FORCED_SETTINGS = {
    "training.loss": "cross_entropy", "training.patience": "0", "baselines.local": "false",
    "baselines.pooled": "false", "baselines.classical": "[]", "privacy.sigma": "null",
}  # fmt: skip
"""What every point is run with; all but the baselines because privacy needs it."""
SELECTION_SETTINGS = {"federation.choose": "last", "evaluation.threshold": "likelier"}
"""The same, unless validation patients are said to be unprotected (privacy.validation)."""


@dataclass(frozen=True)
class Cell:
    """One figure of one run: of a hospital, or of all test patients together (POOLED)."""

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
    """A figure's mean over runs; `low` and `high`: the outermost ends of the runs' 95% intervals."""

    value: float | None
    low: float | None
    high: float | None
    each: tuple[float, ...]


def parse_epsilons(text: str) -> tuple[str, ...]:
    """Read `none,10,8`.

    Raises:
        ConfigError: one is no number above 0, or stands twice.
    """
    found = []
    for part in filter(None, (item.strip().lower() for item in text.split(","))):
        try:
            found.append(NONE if part == NONE else f"{float(part):g}")
        except ValueError:
            raise ConfigError(f"--epsilons: {part!r} is no number and not none") from None
    if not found or len(set(found)) < len(found):
        raise ConfigError("--epsilons: give each once, such as none,10,8,4,2,1")
    return tuple(found)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read `1,2,3`; empty: the configuration's own.

    Raises:
        ConfigError: one is no whole number, or stands twice.
    """
    parts = [item.strip() for item in text.split(",") if item.strip()]
    if not all(item.isdigit() for item in parts) or len({int(item) for item in parts}) < len(parts):
        raise ConfigError(f"--seeds {text!r}: give each whole number once, such as 1,2,3")
    return tuple(int(item) for item in parts)


def plan_runs(
    path: Path, settings: Sequence[str], asked: Sequence[str], drawn: Sequence[int]
) -> tuple[list[tuple[dict[str, str], RunConfig]], list[str]]:
    """Return what is chosen for each run with its configuration, and the settings that all were given beside their own.

    Raises:
        ConfigError: a key or value is wrong, also with privacy.
    """
    given = configuration.load_config(path, settings)
    forced = dict(FORCED_SETTINGS)
    if given.privacy.validation == NONE:
        forced |= SELECTION_SETTINGS
    if given.data.scaling not in ("none", "auto", "standard"):
        forced["data.scaling"] = "auto"
    level = "auto" if given.privacy.level == NONE else given.privacy.level
    runs = []
    for value in asked:
        own = (
            ["privacy.level=none", "privacy.epsilon=null"]
            if value == NONE
            else [f"privacy.level={level}", f"privacy.epsilon={value}"]
        )
        for seed in drawn or (given.seed,):
            every = [*settings, *_set(forced), *own, f"seed={seed}"]
            runs.append(({"epsilon": value, "seed": str(seed)}, configuration.load_config(path, every)))
    first = runs[0][1]
    changed = [f"{key}={value}" for key, value in forced.items() if _of(given, key) != _of(first, key)]
    return runs, changed


def _set(forced: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in forced.items()]


def _of(config: RunConfig, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def run_sweep(
    path: Path, settings: Sequence[str], asked: Sequence[str], drawn: Sequence[int], folder: Path, watcher: Watcher
) -> dict[str, Any]:
    """Run every point that is not there yet; write and return what they say (sweep.json, .csv, .svg, .png, .html).

    Raises:
        WardroundError: as a single run; what was done so far is in the folder and is not done again.
    """
    from experiments.privacy import sweep_page

    configs, changed = plan_runs(path, settings, asked, drawn)
    done = series.run_configurations(configs, folder, watcher)
    cells: list[Cell] = []
    tags: list[str] = []
    notices: list[str] = []
    title = configs[0][1].title or configs[0][1].name
    for chosen, held in done:
        report = reports.read_report(held)
        cells += list_cells(report, chosen["epsilon"], int(chosen["seed"]))
        for notice in report.notices:
            tag = formatting.NOTICE_TAGS.get(notice.level)
            if tag and tag not in tags:
                tags.append(tag)
            if (text := formatting.format_notice(notice)) not in notices:
                notices.append(text)
    private = next((config.privacy for chosen, config in configs if chosen["epsilon"] != NONE), None)
    found: dict[str, Any] = {
        "title": title,
        "metric": cells[0].metric,
        "epsilons": list(asked),
        "seeds": sorted({cell.seed for cell in cells}),
        "level": private.kind if private else NONE,
        "delta": private.delta if private else None,
        "settings_of_all_points": changed,
        "tags": tags,
        "notices": notices,
        "sites": training_patients_by_site(cells),
        "cells": [asdict(cell) for cell in cells],
        "runs": [{"settings": chosen, "folder": str(held)} for chosen, held in done],
    }
    found["points"] = {
        site: {value: asdict(summarise_point(cells, site, value)) for value in asked}
        for site in [*found["sites"], POOLED]
    }
    write_json(folder / "sweep.json", found)
    write_text(folder / "sweep.csv", render_csv(cells))
    write_text(folder / "sweep.md", render_sweep_markdown(found))
    svg = sweep_page.draw_sweep(found, folder)
    write_text(folder / "sweep.html", sweep_page.render_sweep_page(found, svg))
    return found


def list_cells(report: reports.Report, epsilon: str, seed: int) -> list[Cell]:
    """Return the federated model's figures at each hospital and over all."""
    model = report.federated
    if model is None:
        raise ConfigError(f"the run with epsilon {epsilon} and seed {seed} has no evaluated model: see its report")
    trained = {site.name: site.counts["train"].patients for site in report.sites if "train" in site.counts}
    spent = {item.site: item for item in report.privacy}
    places: dict[str, Evaluation | None] = {**model.sites, POOLED: model.pooled}
    cells = []
    for site, item in places.items():
        if item is None:
            continue
        figure: Figure = item.figure(report.metric) or Figure(value=None)
        own = spent.get(site)
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
    """Return each hospital's training patients (the mean over runs), fewest first."""
    many: dict[str, list[int]] = {}
    for cell in cells:
        if cell.site != POOLED:
            many.setdefault(cell.site, []).append(cell.train_patients or 0)
    found = {site: round(mean(counts)) for site, counts in many.items()}
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def summarise_point(cells: Sequence[Cell], site: str, epsilon: str) -> Point:
    """Return the mean of a hospital's figures at an epsilon, over runs."""
    here = [cell for cell in cells if (cell.site, cell.epsilon) == (site, epsilon)]
    each = tuple(cell.value for cell in here if cell.value is not None)
    ends = [(cell.low, cell.high) for cell in here if cell.low is not None and cell.high is not None]
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
