"""Runs side by side: each model at each hospital, and how much a run differs from the first, in pairs where it can be.

Two runs are paired when they tested the same patients and resampled them with the same draws: then what makes a
patient hard for both cancels in each resample, and the interval of the difference is that of the models alone
(Efron and Tibshirani 1993, ch. 16.4 for the paired bootstrap). Where they cannot be paired the difference stands
without an interval, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.metrics import intervals
from common.metrics.evaluation import metric_value
from common.metrics.figures import Evaluation, Figure
from common.metrics.paired_resamples import POOLED, Drawn, load_resamples
from common.metrics.registry import METRICS
from common.metrics.table_names import ALL_PATIENTS, PERSONAL
from common.run_folder import RunFolder
from experiments.report.document.report import Report, read_report
from experiments.report.document.results import ModelResult
from experiments.report.document.run import Notice
from experiments.report.text import formatting

KEYS_THAT_MUST_MATCH = ("data.dataset", "data.options", "sites", "seed", "evaluation.bootstrap")
"""What two configurations must share for their resamples to be draws of the same patients."""
KEYS_THAT_MAY_DIFFER = ("data.path", "data.scaling", "shift")
"""What may differ between paired runs, and is told: the same patients, perhaps prepared otherwise."""


@dataclass(frozen=True)
class ComparedRun:
    """A run as it is compared: by which label, its report, and its models' resampled figures by hospital."""

    label: str
    folder: Path
    report: Report
    drawn: Mapping[str, Mapping[str, Drawn]]


@dataclass(frozen=True)
class Difference:
    """How much more a run has of a figure than the first run; `why`: it has no paired interval because of this."""

    figure: Figure
    why: str = ""

    @property
    def clear(self) -> bool:
        """Whether its interval leaves out 0."""
        low, high = self.figure.low, self.figure.high
        return low is not None and high is not None and not low <= 0 <= high


@dataclass(frozen=True)
class Row:
    """A figure of a model at a hospital in each run, by label; `differences`: of each run but the first."""

    model: str
    title: str
    site: str
    metric: str
    items: Mapping[str, Evaluation]
    differences: Mapping[str, Difference]

    def figure(self, label: str) -> Figure:
        """Return the figure of a run."""
        found: Figure | None = self.items[label].figure(self.metric) if label in self.items else None
        return found or Figure(value=None)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. `unpaired`: for each run but the first why it cannot be paired, empty where it can."""

    metric: str
    runs: tuple[ComparedRun, ...]
    rows: tuple[Row, ...]
    unpaired: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    notices: tuple[Notice, ...]
    titles: Mapping[str, str] = field(default_factory=dict)

    def of(self, model: str, metric: str | None = None) -> list[Row]:
        """Return the rows of a model's figure."""
        return [row for row in self.rows if row.model == model and row.metric == (metric or self.metric)]


def compare_runs(folders: Sequence[Path], metric: str | None = None) -> Comparison:
    """Return runs side by side, each against the first.

    Raises:
        UsageError: there are not two runs, or no run has the metric.
        DataError: a folder holds no report, or a file of it is damaged.
    """
    if len({folder.resolve() for folder in folders}) < 2:
        raise UsageError("compare: name two run folders or more, each another")
    runs = _read(folders)
    first, *others = runs
    metric = metric or first.report.metric
    metrics = list(
        dict.fromkeys([metric, *(name for run in runs for name in formatting.list_table_metrics(run.report))])
    )
    unpaired = {run.label: tuple(_unpaired(first, run)) for run in others}
    rows: list[Row] = []
    titles: dict[str, str] = {}
    for name in dict.fromkeys(model.name for run in runs for model in run.report.models):
        models = {run.label: model for run in runs if (model := run.report.model(name)) is not None}
        if len(models) < 2:
            continue
        titles[name] = next(iter(models.values())).title
        for site in [*sorted({site for model in models.values() for site in model.sites}), POOLED]:
            items = {label: item for label, model in models.items() if (item := _at(model, site)) is not None}
            rows += [_row(runs, unpaired, name, titles[name], site, which, items) for which in metrics]
    rows = [row for row in rows if any(row.figure(label).value is not None for label in row.items)]
    if not any(row.metric == metric for row in rows):
        raise UsageError(f"compare: no two of these runs have test figures of {metric}; take another --metric")
    return Comparison(metric, runs, tuple(rows), unpaired, tuple(_warnings(runs)), _notices(runs), titles)


def _read(folders: Sequence[Path]) -> tuple[ComparedRun, ...]:
    found: list[ComparedRun] = []
    for folder in folders:
        report = read_report(folder)
        drawn: dict[str, Mapping[str, Drawn]] = {}
        for model in report.models:
            own = PERSONAL if model.name == "personal" else ALL_PATIENTS
            kept = load_resamples(RunFolder(folder).resamples(model.name))
            drawn[model.name] = {site: values for (table, site), values in kept.items() if table == own}
        found.append(ComparedRun(report.run.id, folder, report, drawn))
    for place, run in enumerate(found):
        if run.label in [other.label for other in found[:place]]:
            found[place] = ComparedRun(f"{run.label} ({place + 1})", run.folder, run.report, run.drawn)
    return tuple(found)


def _at(model: ModelResult, site: str) -> Evaluation | None:
    return model.pooled if site == POOLED else model.sites.get(site)


def _row(
    runs: Sequence[ComparedRun], unpaired: Mapping[str, tuple[str, ...]], model: str, title: str, site: str,
    metric: str, items: Mapping[str, Evaluation],
) -> Row:  # fmt: skip
    first, *others = runs
    differences: dict[str, Difference] = {}
    for run in others:
        one, other = items.get(first.label), items.get(run.label)
        if one is None or other is None:
            continue
        values = [metric_value(item, metric) for item in (other, one)]
        if values[0] is None or values[1] is None:
            continue
        delta = values[0] - values[1]
        why = "; ".join(unpaired[run.label]) or _other_patients(first, run, model, site)
        samples = [kept.drawn.get(model, {}).get(site, {}).get(metric) for kept in (run, first)]
        if not why and (samples[0] is None or samples[1] is None or samples[0].shape != samples[1].shape):
            why = "no resampled values of this figure were kept"
        if why or samples[0] is None or samples[1] is None:
            differences[run.label] = Difference(Figure(value=delta), why)
            continue
        found = intervals.make_figure(delta, samples[0] - samples[1], one.patients, METRICS[metric].inflated)
        differences[run.label] = Difference(found, "" if found.low is not None else "too few patients or resamples")
    return Row(model, title, site, metric, items, differences)


def _unpaired(first: ComparedRun, run: ComparedRun) -> list[str]:
    """Return why no figure of a run can be paired with the first's."""
    one, other = first.report.run.config, run.report.run.config
    found = [
        f"{key} differs ({_shown(_get(one, key))} and {_shown(_get(other, key))})"
        for key in KEYS_THAT_MUST_MATCH
        if _get(one, key) != _get(other, key)
    ]
    if first.report.task.get("classes") != run.report.task.get("classes"):
        found.append("the classes differ")
    for kept in (first, run):
        if not any(kept.drawn.values()):
            found.append(f"{kept.label} kept no resampled values: run it with evaluation.keep_resamples=true")
    return found


def _other_patients(first: ComparedRun, run: ComparedRun, model: str, site: str) -> str:
    """Return why the figures of one hospital, or of all, are not of the same patients; "" where they are."""
    sides = [kept.report.model(model) for kept in (first, run)]
    one, other = sides
    if one is None or other is None:
        return "one run has no such model"
    names = [site] if site != POOLED else sorted({*one.sites, *other.sites})
    for name in names:
        here, there = one.sites.get(name), other.sites.get(name)
        if here is None or there is None:
            return f"one run has no figures of {name}"
        same = [
            [(part.examples, part.patients) for part in item.classes.values()] + [(item.examples, item.patients)]
            for item in (here, there)
        ]
        if same[0] != same[1]:
            return f"the test patients or examples of {name} differ"
    return ""


def _warnings(runs: Sequence[ComparedRun]) -> list[str]:
    first, *others = runs
    found = []
    for run in runs:
        if run.report.run.status != "complete":
            found.append(f"{run.label} is not complete: {run.report.run.status}")
    for run in others:
        one, other = first.report, run.report
        if [one.task.get(key) for key in ("kind", "classes")] != [other.task.get(key) for key in ("kind", "classes")]:
            found.append(f"{run.label} has another task than {first.label}: its figures are of something else")
        for what, keys in (("data", ("data.dataset", "data.options")), ("splits", ("sites", "seed"))):
            if any(_get(one.run.config, key) != _get(other.run.config, key) for key in keys):
                found.append(f"{run.label} has other {what} than {first.label}: a difference may be the patients'")
        for key in KEYS_THAT_MAY_DIFFER:
            if _get(one.run.config, key) != _get(other.run.config, key):
                found.append(f"{run.label} has another {key} than {first.label}")
        if one.metric != other.metric:
            found.append(f"{run.label} chose its round and threshold by {other.metric}, {first.label} by {one.metric}")
    return found


def _notices(runs: Sequence[ComparedRun]) -> tuple[Notice, ...]:
    found: list[Notice] = []
    for run in runs:
        found += [notice for notice in run.report.notices if notice not in found]
    return tuple(found)


def _get(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _shown(value: Any) -> str:
    text = "none" if value in (None, {}, [], ()) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def comparison_to_dict(found: Comparison) -> dict[str, Any]:
    """Return what compare.json holds."""
    return {
        "schema": "wardround.compare/1",
        "metric": found.metric,
        "notices": [notice.model_dump() for notice in found.notices],
        "warnings": list(found.warnings),
        "runs": [
            {
                "label": run.label,
                "folder": str(run.folder),
                "title": run.report.run.title,
                "status": run.report.run.status,
            }
            for run in found.runs
        ],
        "against": found.runs[0].label,
        "unpaired": {label: list(why) for label, why in found.unpaired.items()},
        "figures": [
            {
                "model": row.model,
                "site": row.site,
                "metric": row.metric,
                "runs": {
                    label: {**row.figure(label).model_dump(), "patients": item.patients, "examples": item.examples}
                    for label, item in row.items.items()
                },
                "differences": {
                    label: {**item.figure.model_dump(), "paired": not item.why, "why": item.why}
                    for label, item in row.differences.items()
                },
            }
            for row in found.rows
        ],
    }
