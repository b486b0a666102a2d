"""Several runs of one configuration: seeds, folds, other splits, other settings, and what they say together.

Every run keeps its own folder below the series'. Together: the mean over runs with the least and the most, and,
where the runs are the folds of one cross-validation, one figure from the merged counts of all folds, each patient
tested once by a model that never saw them, with an interval over patients. A series that was stopped goes on
where it was: runs that are complete are not run again.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from common import config as configuration
from common.config import RunConfig
from common.errors import ConfigError, DataError
from common.files import write_json, write_text
from common.metrics import evaluation
from common.metrics.counts_file import load_tables
from common.metrics.figures import Evaluation
from common.metrics.registry import METRICS
from common.metrics.table_names import ALL_PATIENTS, RESAMPLED_SUFFIX
from common.run_folder import RunFolder
from common.task import Task
from experiments.report.document import report as reports
from experiments.report.text import formatting
from experiments.runs import run
from experiments.runs.checks import resolve_paths
from experiments.watcher import Watcher, stage_event

FOLD_KEY = "sites.fold"


@dataclass(frozen=True)
class Plan:
    """What varies: dotted keys with their values, every combination a run."""

    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    @classmethod
    def from_texts(cls, over: Sequence[str]) -> Plan:
        """Read `key=a,b,c` texts.

        Raises:
            ConfigError: one is not of that form, or a key stands twice.
        """
        keys, values = [], []
        for text in over:
            key, equals, given = text.partition("=")
            several = tuple(part.strip() for part in given.split(",") if part.strip())
            if not equals or not several or not key.strip():
                raise ConfigError(f"--over {text!r}: write it as key=a,b,c, such as seed=1,2,3")
            keys.append(key.strip())
            values.append(several)
        if len(set(keys)) < len(keys):
            raise ConfigError("--over: a key stands twice; give all its values at once")
        return cls(tuple(keys), tuple(values))

    def runs(self) -> list[dict[str, str]]:
        """Return each run's settings."""
        return [dict(zip(self.keys, chosen, strict=True)) for chosen in itertools.product(*self.values)]


def run_series(path: Path, settings: Sequence[str], plan: Plan, folder: Path, watcher: Watcher) -> dict[str, Any]:
    """Run all of a plan below `folder`; return and write what they say together (series.json, series.md).

    Raises:
        WardroundError: as a single run; what was done so far is in the folder and is not done again.
    """
    configs = []
    for chosen in plan.runs():
        every = [*settings, *(f"{key}={value}" for key, value in chosen.items())]
        if FOLD_KEY in plan.keys:
            every.append("evaluation.keep_counts=true")
        configs.append((chosen, configuration.load_config(path, every)))
    done = run_configurations(configs, folder, watcher)
    together = summarise_runs(done)
    write_json(folder / "series.json", together)
    write_text(folder / "series.md", render_series_markdown(together))
    return together


def run_configurations(
    configs: Sequence[tuple[dict[str, str], RunConfig]], folder: Path, watcher: Watcher
) -> list[tuple[dict[str, str], Path]]:
    """Run configurations below `folder`, each under the name of what was chosen for it, but those complete already.

    Returns:
        what was chosen, and the run's folder.

    Raises:
        WardroundError: as a single run.
    """
    done: list[tuple[dict[str, str], Path]] = []
    for place, (chosen, config) in enumerate(configs, 1):
        name = "_".join(f"{key.rpartition('.')[2]}-{value}" for key, value in chosen.items()).replace("/", "-")
        root = folder / name
        found = find_complete_run(root, config)
        if found is None:
            values = ", ".join(f"{key}={value}" for key, value in chosen.items())
            watcher.handle(stage_event(f"run {place} of {len(configs)}: {values}"))
            found = run.run_experiment(config, root, watcher)
        done.append((chosen, found))
    return done


def find_complete_run(root: Path, config: RunConfig) -> Path | None:
    """Return the folder of a complete run of just this configuration, if there is one."""
    for folder in sorted(root.glob("*/run.json")):
        about = json.loads(folder.read_text(encoding="utf-8"))
        kept = RunFolder(folder.parent).config
        if about.get("status") == "complete" and kept.is_file():
            asked = resolve_paths(config).model_dump(mode="json")
            had = configuration.load_config(kept).model_dump(mode="json")
            if asked["data"]["path"] is None:  # where generated data came to lie
                had["data"]["path"] = None
            if asked == had:
                return folder.parent
    return None


def summarise_runs(done: Sequence[tuple[Mapping[str, str], Path]]) -> dict[str, Any]:
    """Return the runs' figures together: for each model, hospital and figure the mean, least and most."""
    found: dict[str, Any] = {"runs": [], "models": {}, "merged": {}, "notices": []}
    groups: dict[str, list[Path]] = {}
    values: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for chosen, folder in done:
        report = reports.read_report(folder)
        found["runs"].append({"settings": dict(chosen), "folder": str(folder), "status": report.run.status})
        found["notices"] = [formatting.format_notice(notice) for notice in report.notices]
        found["metric"], found["task"] = report.metric, report.task
        columns = formatting.list_table_metrics(report)
        for model in report.models:
            places: dict[str, Evaluation | None] = {**model.sites, "(pooled)": model.pooled}
            for site, item in places.items():
                if item is not None:
                    here = values.setdefault(model.name, {}).setdefault(site, {})
                    for metric in columns:
                        here.setdefault(metric, []).append(evaluation.metric_value(item, metric))
            for metric in columns:
                each = [evaluation.metric_value(item, metric) for item in model.sites.values()]
                known = [value for value in each if value is not None]
                for name, value in (("(site mean)", _mean(known)), ("(worst site)", METRICS[metric].worst(known))):
                    values[model.name].setdefault(name, {}).setdefault(metric, []).append(value)
        if FOLD_KEY in chosen:
            rest = ", ".join(f"{key}={value}" for key, value in chosen.items() if key != FOLD_KEY)
            groups.setdefault(rest, []).append(folder)
    for name, sites in values.items():
        found["models"][name] = {
            site: {metric: _spread(many) for metric, many in figures.items()} for site, figures in sites.items()
        }
    for rest, folders in groups.items():
        found["merged"][rest] = _merge(folders, Task.from_dict(found["task"]))
    return found


def _merge(folders: Sequence[Path], task: Task) -> dict[str, Any]:
    """Return for each model the figures of all folds' test patients together, from their counts."""
    models: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in folders:
        report = reports.read_report(folder)
        for model in report.models:
            path = RunFolder(folder).counts(model.name)
            if path.is_file():
                models.setdefault(model.name, {})[folder.parent.name] = {
                    "tables": load_tables(path),
                    "sites": model.sites,
                }
    found: dict[str, Any] = {}
    for name, folds in models.items():
        if len(folds) < len(folders):
            continue
        keys = [(fold, site) for fold, part in folds.items() for site in part["sites"] if site in part["tables"]]
        found[name] = {"(pooled)": _together(task, folds, keys)}
        for site in sorted({site for _, site in keys}):
            found[name][site] = _together(task, folds, [key for key in keys if key[1] == site])
    return found


def _together(task: Task, folds: Mapping[str, Any], keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    results = {f"{fold}/{site}": folds[fold]["sites"][site] for fold, site in keys}
    tables = {f"{fold}/{site}": folds[fold]["tables"][site] for fold, site in keys}
    totals = {key: item[ALL_PATIENTS] for key, item in tables.items()}
    drawn = {
        key: item[ALL_PATIENTS + RESAMPLED_SUFFIX]
        for key, item in tables.items()
        if ALL_PATIENTS + RESAMPLED_SUFFIX in item
    }
    return evaluation.pool_evaluations(task, results, totals, drawn).model_dump()


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return {"mean": None, "least": None, "most": None, "runs": 0}
    return {"mean": mean(known), "least": min(known), "most": max(known), "runs": len(known)}


def render_series_markdown(together: Mapping[str, Any]) -> str:
    """Return the tables that documentation quotes: each model's mean over runs (least to most), and merged folds."""
    lines = [f"> {notice}\n" for notice in together["notices"]]
    first: dict[str, Any] = next(iter(together["models"].values()), {})
    metrics = list(next(iter(first.values()), {}))
    lines += [
        f"Mean over {len(together['runs'])} runs (least to most).",
        "",
        "| model | at | " + " | ".join(formatting.metric_title(metric) for metric in metrics) + " |",
        "| --- | --- |" + " --- |" * len(metrics),
    ]
    for name, sites in together["models"].items():
        for site, figures in sites.items():
            if name.startswith("local:") and site not in (name.removeprefix("local:"), "(pooled)"):
                continue
            cells = [_cell(figures.get(metric)) for metric in metrics]
            lines.append(f"| {name} | {site} | " + " | ".join(cells) + " |")
    for rest, models in together["merged"].items():
        title = (
            f"All folds together{f' ({rest})' if rest else ''}: each patient tested once, 95% intervals over patients."
        )
        lines += [
            "",
            title,
            "",
            "| model | at | patients | " + " | ".join(map(formatting.metric_title, metrics)) + " |",
        ]
        lines.append("| --- | --- | --- |" + " --- |" * len(metrics))
        for name, sites in models.items():
            for site, raw in sites.items():
                item = Evaluation.model_validate(raw)
                cells = [formatting.format_figure_short(item, metric) for metric in metrics]
                lines.append(f"| {name} | {site} | {item.patients} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(spread: Mapping[str, Any] | None) -> str:
    if not spread or spread["mean"] is None:
        return "n/a"
    if spread["runs"] == 1:
        return formatting.format_number(spread["mean"])
    return f"{spread['mean']:.3f} ({spread['least']:.3f} to {spread['most']:.3f})"


def make_series_folder(path: Path, root: Path, kind: str = "series") -> Path:
    """Return the folder of a series (or sweep) of one configuration, made where it is not there.

    Raises:
        DataError: it cannot be made.
    """
    folder = root / f"{path.stem}-{kind}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}; see --runs") from None
    return folder
