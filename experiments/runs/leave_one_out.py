"""Leave-one-out: how the model performs at a hospital that took no part in its training, for each hospital in turn.

One run with all hospitals gives the internal results. Then one run for each hospital treats it as external: the others
train, select and scale without it, and the model is tested at all of them. Internal and external results rest on the
same test patients and the same resamples, so their difference has a paired interval.

Each run has its own folder below that of the series; complete runs are not repeated. The summary is written to
leave-one-out.json and leave-one-out.md, and is part of the report of the run with all hospitals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import RunConfig, load_config
from common.errors import ConfigError
from common.files import escape_file_name, write_json, write_text
from common.metrics.counts import Counts
from common.metrics.counts_file import load_tables
from common.metrics.evaluation import find_worst_site
from common.metrics.figures import Evaluation
from common.metrics.intervals import paired_difference
from common.metrics.merged_scores import read_merged_classes
from common.metrics.table_names import ALL_PATIENTS
from common.run_folder import RunFolder
from common.task import Task
from experiments.baselines.transfer import compare_with_own_model, summarise_model_at_site
from experiments.markdown_table import render_markdown_table
from experiments.report.document.report import Report, read_report
from experiments.report.text.formatting import (
    format_difference,
    format_figure_short,
    format_notice,
    format_number,
    list_table_metrics,
    metric_title,
)
from experiments.runs import run
from experiments.runs.checks import resolve_paths
from experiments.runs.series import complete_run
from experiments.watcher import Watcher, stage_event

KEEP_COUNTS = "evaluation.keep_counts=true"
WITHOUT_BASELINES = ("baselines.local=false", "baselines.pooled=false", "baselines.classical=[]")
"""Settings of the folds: their baselines would be those of the run with all hospitals."""


def run_leave_one_out(path: Path, settings: Sequence[str], folder: Path, watcher: Watcher) -> Path:
    """Run all folds below `folder`; return the folder of the run with all hospitals, whose report has the summary.

    Raises:
        WardroundError: as a single run; complete runs are in the folder and are not repeated.
    """
    whole = load_config(path, [*settings, KEEP_COUNTS])
    watcher.handle(stage_event("reading the data"))
    sites = list_left_out_hospitals(whole)
    if len(sites) < 2:
        raise ConfigError("--leave-one-out needs at least two hospitals that train")
    plan = [("all", whole)]
    for site in sites:
        external = [*whole.sites.external, site]
        overrides = [*settings, KEEP_COUNTS, *WITHOUT_BASELINES, f"sites.external={external!r}"]
        plan.append((f"without-{escape_file_name(site)}", load_config(path, overrides)))
    done: dict[str, Path] = {}
    for number, (name, config) in enumerate(plan, 1):
        done[name] = complete_run(config, folder / name, watcher, f"run {number} of {len(plan)}: {name}")
    first, *folds = done.values()
    summary = summarise_folds(whole, first, dict(zip(sites, folds, strict=True)))
    for target in (folder, first):
        write_json(RunFolder(target).leave_one_out, summary)
    report = run.write_run_report(first)
    write_text(folder / "leave-one-out.md", render_leave_one_out_markdown(report))
    return first


def list_left_out_hospitals(config: RunConfig) -> list[str]:
    """Return the hospitals to leave out in turn: all that the configuration does not make external.

    Raises:
        ConfigError: they are real hospitals that the configuration does not name.
    """
    if config.federation.engine == "federation" and config.federation.address is not None:
        if not config.federation.expect:
            raise ConfigError("--leave-one-out: name the hospitals in federation.expect")
        names = sorted(config.federation.expect)
    else:
        from sites.datasets import assign_hospitals, open_source

        resolved = resolve_paths(config)
        names = sorted(assign_hospitals(open_source(resolved, None), resolved)[0])
    return [name for name in names if name not in config.sites.external]


def summarise_folds(config: RunConfig, whole: Path, folds: Mapping[str, Path]) -> dict[str, Any]:
    """Return for each hospital the results of the model that trained there too, and of the one that did not.

    Args:
        config: the configuration of the run with all hospitals.
        whole: that run's folder.
        folds: by hospital the folder of the run without it.
    """
    report = read_report(whole)
    task = Task.from_dict(report.task)
    internal_tables = load_tables(RunFolder(whole).counts())
    entries: list[dict[str, Any]] = []
    externals: dict[str, Evaluation] = {}
    for site, folder in folds.items():
        without = read_report(folder)
        internal, external = (item.federated.sites.get(site) if item.federated else None for item in (report, without))
        tables = [item.get(site, {}) for item in (internal_tables, load_tables(RunFolder(folder).counts()))]
        entry: dict[str, Any] = {
            "site": site,
            "folder": str(folder),
            "internal": internal.model_dump() if internal else None,
            "external": external.model_dump() if external else None,
            "difference": {},
            "transfer": None,
        }
        if external:
            externals[site] = external
        if internal and external and all(ALL_PATIENTS in item for item in tables):
            entry |= _compare_fold(task, config, site, (report, without), tables, (internal, external))
        entries.append(entry)
    worst = find_worst_site(externals, report.metric)
    return {
        "metric": report.metric,
        "sites": entries,
        "worst": {"site": worst[0], "metric": report.metric, "value": worst[1]} if worst else None,
    }


def _compare_fold(
    task: Task,
    config: RunConfig,
    site: str,
    reports: tuple[Report, Report],
    tables: Sequence[Mapping[str, Counts]],
    tested: tuple[Evaluation, Evaluation],
) -> dict[str, Any]:
    """Return the paired differences at a hospital, external minus internal, and why the external model is worse.

    Args:
        task: names the metrics.
        config: the run's configuration.
        site: the hospital.
        reports: with the hospital in training, and without it.
        tables: the hospital's counts in both.
        tested: the hospital's results in both, on the same patients.
    """
    metrics = [*list_table_metrics(reports[0]), *(("brier", "ece") if task.probabilistic else ())]
    recalibrations = [item.federated.recalibration.get(site) if item.federated else None for item in reports]
    internal, external = (
        summarise_model_at_site(
            task, counts, tested[0].patients, item.reason if item else "", read_merged_classes(result)
        )
        for counts, item, result in zip(tables, recalibrations, tested, strict=True)
    )
    shared = [name for name in metrics if name in internal.plain.values and name in external.plain.values]
    cause = compare_with_own_model(task, config, external, internal, None, site, "the model that trained there too")
    return {
        "difference": {name: paired_difference(external.plain, internal.plain, name).model_dump() for name in shared},
        "transfer": {"family": "federated", "trained": "all others", "tested": site, **cause},
    }


def render_leave_one_out_markdown(report: Report) -> str:
    """Return leave-one-out.md, a table of internal and external results."""
    rows: list[list[object]] = []
    for item in report.left_out:
        for metric in list_table_metrics(report):
            figures = [format_figure_short(one, metric) if one else "n/a" for one in (item.internal, item.external)]
            patients = item.external.patients if item.external else 0
            change = format_difference(item.difference.get(metric))
            rows.append([item.site, patients, metric_title(metric), *figures, change])
    text = "".join(f"> {format_notice(notice)}\n\n" for notice in report.notices)
    text += "Each hospital left out in turn, on the same test patients; 95% intervals over patients.\n\n"
    header = ["left out", "patients", "metric", "trained there too", "left out", "difference"]
    text += render_markdown_table(header, rows) + "\n"
    if worst := report.left_out_worst:
        text += f"\nWorst when left out: {worst.site}, {metric_title(worst.metric)} {format_number(worst.value)}.\n"
    return text
