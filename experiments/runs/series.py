"""Several runs of one configuration (seeds, folds, other settings), and their combined results.

Each run has its own folder below that of the series. Results are combined as the mean over runs with the smallest
and the largest value. Where the runs are the folds of one cross-validation, the counts of all folds are also merged, so
that each patient is tested once, by a model that was not trained on them, with an interval over patients. Complete runs
are not repeated, and one that was stopped goes on after its last complete round.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from common.config import RunConfig, load_config
from common.errors import ConfigError, DataError
from common.files import escape_file_name, write_json, write_text
from common.metrics.counts_file import load_tables
from common.metrics.evaluation import metric_value, pool_evaluations
from common.metrics.figures import Evaluation
from common.metrics.registry import METRICS
from common.metrics.table_names import ALL_PATIENTS, RESAMPLED_SUFFIX, WHERE_KNOWN
from common.run_folder import RunFolder
from common.task import Task
from experiments.markdown_table import render_markdown_table
from experiments.report.differences import list_compared_metrics
from experiments.report.document.report import read_report
from experiments.report.text.formatting import (
    format_figure_short,
    format_notice,
    format_number,
    list_table_metrics,
    metric_title,
)
from experiments.runs import run
from experiments.runs.fold_differences import FoldTables, compare_folds, name_where_known, render_differences
from experiments.runs.resumable import find_complete_run, find_resumable_run
from experiments.watcher import Watcher, stage_event

FOLD_KEY = "sites.fold"


@dataclass(frozen=True)
class Plan:
    """What varies in a series; every combination of the values is a run.

    Attributes:
        keys: dotted configuration keys.
        values: the values of each key, as YAML texts.
    """

    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    @classmethod
    def from_texts(cls, over: Sequence[str]) -> Plan:
        """Return the plan of `key=a,b,c` texts.

        Raises:
            ConfigError: a text has another form, or a key is given twice.
        """
        keys, values = [], []
        for text in over:
            key, equals, given = text.partition("=")
            choices = tuple(part.strip() for part in given.split(",") if part.strip())
            if not equals or not choices or not key.strip():
                raise ConfigError(f"--over {text!r}: write it as key=a,b,c, such as seed=1,2,3")
            keys.append(key.strip())
            values.append(choices)
        if len(set(keys)) < len(keys):
            raise ConfigError("--over: a key is given twice; give all its values at once")
        return cls(tuple(keys), tuple(values))

    def runs(self) -> list[dict[str, str]]:
        """Return each run's settings by key."""
        return [dict(zip(self.keys, chosen, strict=True)) for chosen in itertools.product(*self.values)]


def run_series(path: Path, settings: Sequence[str], plan: Plan, folder: Path, watcher: Watcher) -> dict[str, Any]:
    """Run a plan below `folder`; return the combined results, also written to series.json and series.md.

    Raises:
        ConfigError: two runs of the plan are the same.
        WardroundError: as a single run; complete runs are in the folder and are not repeated.
    """
    configs = []
    for chosen in plan.runs():
        overrides = [*settings, *(f"{key}={value}" for key, value in chosen.items())]
        if FOLD_KEY in plan.keys:
            overrides.append("evaluation.keep_counts=true")
        configs.append((chosen, load_config(path, overrides)))
    for (one, first), (two, second) in itertools.combinations(configs, 2):
        if first == second:
            values = " and ".join(", ".join(f"{key}={value}" for key, value in chosen.items()) for chosen in (one, two))
            raise ConfigError(f"--over: {values} are the same run, which must not count twice")
    summary = summarise_runs(run_configurations(configs, folder, watcher))
    write_json(folder / "series.json", summary)
    write_text(folder / "series.md", render_series_markdown(summary))
    return summary


def run_configurations(
    configs: Sequence[tuple[dict[str, str], RunConfig]], folder: Path, watcher: Watcher
) -> list[tuple[dict[str, str], Path]]:
    """Run the configurations that have no complete run yet, each in a subfolder named after its settings.

    Returns:
        the settings and the folder of each run.

    Raises:
        WardroundError: as a single run.
    """
    done: list[tuple[dict[str, str], Path]] = []
    for number, (chosen, config) in enumerate(configs, 1):
        name = "_".join(f"{key.rpartition('.')[2]}-{value}" for key, value in chosen.items()).replace("/", "-")
        root = folder / name
        values = ", ".join(f"{key}={value}" for key, value in chosen.items())
        done.append((chosen, complete_run(config, root, watcher, f"run {number} of {len(configs)}: {values}")))
    return done


def complete_run(config: RunConfig, root: Path, watcher: Watcher, title: str) -> Path:
    """Return the folder of a complete run of a configuration below `root`: one that is there, resumed, or new.

    Args:
        config: the configuration.
        root: the folder of its runs.
        watcher: receives the events.
        title: which run it is, in a few words.

    Raises:
        WardroundError: as a single run.
    """
    if (done := find_complete_run(root, config)) is not None:
        return done
    watcher.handle(stage_event(title))
    try:
        if (stopped := find_resumable_run(root, config)) is not None:
            return run.resume_experiment(stopped, watcher, config)
        return run.run_experiment(config, root, watcher)
    except BaseException as error:
        if getattr(error, "__notes__", None):
            error.__notes__ = ["the same command goes on from here"]
        raise


def summarise_runs(done: Sequence[tuple[Mapping[str, str], Path]]) -> dict[str, Any]:
    """Return each model's metrics at each hospital over all runs: mean, smallest and largest; and merged folds."""
    summary: dict[str, Any] = {"runs": [], "models": {}, "merged": {}, "differences": {}, "notices": []}
    folds: dict[str, list[Path]] = {}
    values: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for chosen, folder in done:
        report = read_report(folder)
        summary["runs"].append({"settings": dict(chosen), "folder": str(folder), "status": report.run.status})
        summary["notices"] = [format_notice(notice) for notice in report.notices]
        summary["metric"], summary["task"] = report.metric, report.task
        metrics = list_table_metrics(report)
        for model in report.models:
            _collect_values(values.setdefault(model.name, {}), model.sites, model.pooled, metrics)
        if FOLD_KEY in chosen:
            others = ", ".join(f"{key}={value}" for key, value in chosen.items() if key != FOLD_KEY)
            folds.setdefault(others, []).append(folder)
    for name, sites in values.items():
        summary["models"][name] = {
            site: {metric: _summarise_values(each) for metric, each in by_metric.items()}
            for site, by_metric in sites.items()
        }
    for others, folders in folds.items():
        task, models = Task.from_dict(summary["task"]), _read_folds(folders)
        summary["merged"][others] = _merge_folds(models, task)
        metrics = list_compared_metrics(summary["metric"], task.binary)
        summary["differences"][others] = compare_folds(models, task, metrics)
    return summary


def _collect_values(
    values: dict[str, dict[str, list[float | None]]],
    sites: Mapping[str, Evaluation],
    pooled: Evaluation | None,
    metrics: Sequence[str],
) -> None:
    """Append one run's values of a model to `values`, by hospital and metric."""
    rows = {**sites, **({"(pooled)": pooled} if pooled else {})}
    for site, item in rows.items():
        for metric in metrics:
            values.setdefault(site, {}).setdefault(metric, []).append(metric_value(item, metric))
    for metric in metrics:
        each = [metric_value(item, metric) for item in sites.values()]
        known = [value for value in each if value is not None]
        average = mean(known) if known else None
        for name, value in (("(site mean)", average), ("(worst site)", METRICS[metric].worst(known))):
            values.setdefault(name, {}).setdefault(metric, []).append(value)


def _read_folds(folders: Sequence[Path]) -> dict[str, dict[str, FoldTables]]:
    """Return the counts of each model in each fold, of those models that every fold kept the counts of."""
    models: dict[str, dict[str, FoldTables]] = {}
    for folder in folders:
        for model in read_report(folder).models:
            named = {model.name: (model.name, model.sites)}
            if model.where_known is not None:  # a score is tested where it is known: the federated model there, too
                federated_file = f"federated:{model.name}{WHERE_KNOWN}"
                named[name_where_known(model.name)] = federated_file, model.where_known.federated.sites
            for name, (file, sites) in named.items():
                path = RunFolder(folder).counts(file)
                if path.is_file():
                    models.setdefault(name, {})[folder.parent.name] = FoldTables(load_tables(path), sites)
    return {name: folds for name, folds in models.items() if len(folds) == len(folders)}


def _merge_folds(models: Mapping[str, Mapping[str, FoldTables]], task: Task) -> dict[str, Any]:
    """Return for each model the evaluation of all folds' test patients together, from their counts."""
    merged: dict[str, Any] = {}
    for name, folds in models.items():
        keys = [(fold, site) for fold, part in folds.items() for site in part.sites if site in part.tables]
        merged[name] = {"(pooled)": _pool_folds(task, folds, keys)}
        for site in sorted({site for _, site in keys}):
            merged[name][site] = _pool_folds(task, folds, [key for key in keys if key[1] == site])
    return merged


def _pool_folds(task: Task, folds: Mapping[str, FoldTables], keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the evaluation of some folds and sites together, JSON-ready."""
    results = {f"{fold}/{site}": folds[fold].sites[site] for fold, site in keys}
    tables = {f"{fold}/{site}": folds[fold].tables[site] for fold, site in keys}
    totals = {key: item[ALL_PATIENTS] for key, item in tables.items()}
    resampled = ALL_PATIENTS + RESAMPLED_SUFFIX
    drawn = {key: item[resampled] for key, item in tables.items() if resampled in item}
    return pool_evaluations(task, results, totals, drawn).model_dump()


def _summarise_values(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return {"mean": None, "min": None, "max": None, "runs": 0}
    return {"mean": mean(known), "min": min(known), "max": max(known), "runs": len(known)}


def render_series_markdown(summary: Mapping[str, Any]) -> str:
    """Return series.md: each model's mean over runs (smallest to largest), and the merged folds."""
    notices = "".join(f"> {notice}\n\n" for notice in summary["notices"])
    first: dict[str, Any] = next(iter(summary["models"].values()), {})
    metrics = list(next(iter(first.values()), {}))
    titles = [metric_title(metric) for metric in metrics]
    rows = [
        [name, site, *(_format_values(values.get(metric)) for metric in metrics)]
        for name, sites in summary["models"].items()
        for site, values in sites.items()
        if not name.startswith("local:") or site in (name.removeprefix("local:"), "(pooled)")
    ]
    text = f"{notices}Mean over {len(summary['runs'])} runs (smallest to largest).\n\n"
    text += render_markdown_table(["model", "at", *titles], rows) + "\n"
    for others, models in summary["merged"].items():
        settings = f" ({others})" if others else ""
        text += f"\nAll folds together{settings}: each patient tested once, 95% intervals over patients.\n\n"
        text += render_markdown_table(["model", "at", "patients", *titles], _merged_rows(models, metrics)) + "\n"
        text += render_differences(summary["differences"].get(others, {}))
    return text


def _merged_rows(models: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[list[object]]:
    rows: list[list[object]] = []
    for name, sites in models.items():
        for site, raw in sites.items():
            item = Evaluation.model_validate(raw)
            rows.append([name, site, item.patients, *(format_figure_short(item, metric) for metric in metrics)])
    return rows


def _format_values(values: Mapping[str, Any] | None) -> str:
    if not values or values["mean"] is None:
        return "n/a"
    if values["runs"] == 1:
        return format_number(values["mean"])
    return f"{values['mean']:.3f} ({values['min']:.3f} to {values['max']:.3f})"


def make_series_folder(path: Path, root: Path, kind: str = "series") -> Path:
    """Create and return the folder of a series of one configuration; `kind` is part of its name.

    Raises:
        DataError: it cannot be created.
    """
    folder = root / f"{escape_file_name(path.stem)}-{kind}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}; see --runs") from None
    return folder
