"""Leave one hospital out: what a hospital may expect that did not train, each in turn.

One run with all hospitals gives the internal figures; then, for every hospital, a run in which it is external:
the others train, choose and scale without it, and the model is tested at all of them. Internal and external
figures rest on the same test patients and the same resamples, so their difference has a paired interval.

Each run keeps its folder below the series', and complete ones are not run again; the hospitals' prepared data are
shared. The summary stands in leave-one-out.json and leave-one-out.md, and in the report of the run with all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import config as configuration
from common.config import RunConfig
from common.errors import ConfigError
from common.files import write_json, write_text
from common.metrics import evaluation
from common.metrics.counts_file import load_tables
from common.metrics.figures import Evaluation
from common.metrics.intervals import paired_difference
from common.metrics.table_names import ALL_PATIENTS
from common.run_folder import RunFolder
from common.task import Task
from experiments.baselines import transfer
from experiments.report.document import report as reports
from experiments.report.text import formatting
from experiments.runs import run, series
from experiments.runs.checks import resolve_paths
from experiments.watcher import Watcher, stage_event

KEEP_COUNTS = "evaluation.keep_counts=true"
WITHOUT_BASELINES = ("baselines.local=false", "baselines.pooled=false", "baselines.classical=[]")
"""The run with all hospitals has the baselines; they would be no other in the folds."""


def run_leave_one_out(path: Path, settings: Sequence[str], folder: Path, watcher: Watcher) -> Path:
    """Run all folds below `folder`; return the folder of the run with all hospitals, whose report holds the summary.

    Raises:
        WardroundError: as a single run; what was done so far is in the folder and is not done again.
    """
    whole = configuration.load_config(path, [*settings, KEEP_COUNTS])
    watcher.handle(stage_event("reading the data"))
    sites = list_left_out_hospitals(whole)
    if len(sites) < 2:
        raise ConfigError("--leave-one-out needs at least two hospitals that train")
    plan = [("all", whole)]
    for site in sites:
        external = [*whole.sites.external, site]
        fold = configuration.load_config(
            path, [*settings, KEEP_COUNTS, *WITHOUT_BASELINES, f"sites.external={external!r}"]
        )
        plan.append((f"without-{site.replace('/', '-')}", fold))
    done: dict[str, Path] = {}
    for place, (name, config) in enumerate(plan, 1):
        found = series.find_complete_run(folder / name, config)
        if found is None:
            watcher.handle(stage_event(f"run {place} of {len(plan)}: {name}"))
            found = run.run_experiment(config, folder / name, watcher)
        done[name] = found
    first, *folds = done.values()
    summary = summarise_folds(whole, first, dict(zip(sites, folds, strict=True)))
    for where in (folder, first):
        write_json(RunFolder(where).leave_one_out, summary)
    report = run.write_run_report(first)
    write_text(folder / "leave-one-out.md", render_leave_one_out_markdown(report))
    return first


def list_left_out_hospitals(config: RunConfig) -> list[str]:
    """Return the hospitals that may be left out: all that are not external already.

    Raises:
        ConfigError: they are real hospitals that the configuration does not name.
    """
    if config.federation.engine == "federation" and config.federation.address is not None:
        if not config.federation.expect:
            raise ConfigError("--leave-one-out: name the hospitals in federation.expect")
        found = sorted(config.federation.expect)
    else:
        from sites import datasets

        settled = resolve_paths(config)
        found = sorted(datasets.assign_hospitals(datasets.open_source(settled, None), settled)[0])
    return [name for name in found if name not in config.sites.external]


def summarise_folds(config: RunConfig, whole: Path, folds: Mapping[str, Path]) -> dict[str, Any]:
    """Return for each hospital the figures of the model that trained there too, and of the one that did not."""
    report = reports.read_report(whole)
    task = Task.from_dict(report.task)
    columns = [*formatting.list_table_metrics(report), *(("brier", "ece") if task.probabilistic else ())]
    within = load_tables(RunFolder(whole).counts())
    found: list[dict[str, Any]] = []
    known: dict[str, Evaluation] = {}
    for site, folder in folds.items():
        without = reports.read_report(folder)
        internal, external = (item.federated.sites.get(site) if item.federated else None for item in (report, without))
        counts = [tables.get(site, {}) for tables in (within, load_tables(RunFolder(folder).counts()))]
        entry = {
            "site": site,
            "folder": str(folder),
            "internal": internal.model_dump() if internal else None,
            "external": external.model_dump() if external else None,
            "difference": {},
            "travel": None,
        }
        if external:
            known[site] = external
        if internal and external and all(ALL_PATIENTS in tables for tables in counts):
            told = [item.federated.recalibration.get(site) if item.federated else None for item in (report, without)]
            own, away = (
                transfer.summarise_model_at_site(task, tables, internal.patients, said.reason if said else "")
                for tables, said in zip(counts, told, strict=True)
            )
            shared = [name for name in columns if name in own.plain.values and name in away.plain.values]
            entry["difference"] = {name: paired_difference(away.plain, own.plain, name).model_dump() for name in shared}
            why = transfer.compare_with_own_model(
                task, config, away, own, None, site, "the model that trained there too"
            )
            entry["travel"] = {"family": "federated", "trained": "all others", "tested": site, **why}
        found.append(entry)
    lowest = evaluation.find_worst_site(known, report.metric)
    return {
        "metric": report.metric,
        "sites": found,
        "worst": {"site": lowest[0], "metric": report.metric, "value": lowest[1]} if lowest else None,
    }


def render_leave_one_out_markdown(report: reports.Report) -> str:
    """Return the table that documentation quotes."""
    metrics = formatting.list_table_metrics(report)
    lines = [f"> {formatting.format_notice(notice)}\n" for notice in report.notices]
    lines += [
        "Each hospital left out in turn, on the same test patients; 95% intervals over patients.",
        "",
        "| left out | patients | figure | trained there too | left out | difference |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for item in report.left_out:
        for metric in metrics:
            cells = [
                formatting.format_figure_short(one, metric) if one else "n/a" for one in (item.internal, item.external)
            ]
            change = formatting.format_difference(item.difference.get(metric))
            patients = item.external.patients if item.external else 0
            lines.append(
                f"| {item.site} | {patients} | {formatting.metric_title(metric)} | {' | '.join(cells)} | {change} |"
            )
    if report.left_out_worst:
        worst = report.left_out_worst
        lines += [
            "",
            f"Worst when left out: {worst.site}, {formatting.metric_title(worst.metric)} "
            f"{formatting.format_number(worst.value)}.",
        ]
    return "\n".join(lines) + "\n"
