"""Comparison of runs: each model at each hospital, and each run's difference from the first, paired where possible.

Two runs are paired if they tested the same patients and resampled them with the same draws. What makes a patient hard
for both then cancels in each resample, and the interval of the difference is that of the models (paired bootstrap;
Efron and Tibshirani 1993, ch. 16.4). Where runs cannot be paired, the difference has no interval, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.metrics.evaluation import metric_value
from common.metrics.figures import Evaluation, Figure
from common.metrics.intervals import make_figure
from common.metrics.paired_resamples import POOLED, Drawn, load_resamples
from common.metrics.registry import METRICS
from common.metrics.table_names import ALL_PATIENTS, PERSONAL
from common.run_folder import RunFolder
from experiments.report.document.report import Report, read_report
from experiments.report.document.results import ModelResult
from experiments.report.document.run import Notice
from experiments.report.text.formatting import list_table_metrics

KEYS_THAT_MUST_MATCH = ("data.dataset", "data.options", "sites", "seed", "evaluation.bootstrap")
"""Configuration keys that must be equal for the resamples of two runs to be draws of the same patients."""
KEYS_THAT_MAY_DIFFER = ("data.path", "data.scaling", "shift")
"""Keys that may differ between paired runs, with a warning: the patients are the same, their inputs may not be."""


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        label: its id, made unique.
        folder: its folder.
        report: its report.
        drawn: bootstrap resamples of the metrics, by model, then by hospital.
    """

    label: str
    folder: Path
    report: Report
    drawn: Mapping[str, Mapping[str, Drawn]]


@dataclass(frozen=True)
class Difference:
    """The difference of a figure from the first run's.

    Attributes:
        figure: run minus first run, with its paired interval.
        reason: why there is no paired interval; "": there is one.
    """

    figure: Figure
    reason: str = ""

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        low, high = self.figure.low, self.figure.high
        return low is not None and high is not None and not low <= 0 <= high


@dataclass(frozen=True)
class Row:
    """One metric of a model at a hospital, in each run.

    Attributes:
        model: the model's name.
        title: the model's title.
        site: the hospital, or POOLED.
        metric: the metric's name.
        items: the evaluation by run label.
        differences: the difference from the first run, by run label.
    """

    model: str
    title: str
    site: str
    metric: str
    items: Mapping[str, Evaluation]
    differences: Mapping[str, Difference]

    def figure(self, label: str) -> Figure:
        """Return the figure of a run, without a value where it has none."""
        figure = self.items[label].figure(self.metric) if label in self.items else None
        return figure or Figure(value=None)


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs.

    Attributes:
        metric: the metric of the main table.
        runs: the runs; the others are compared with the first.
        rows: all figures.
        unpaired: reasons why a run cannot be paired with the first, by label; empty where it can.
        warnings: sentences about what makes runs hard to compare.
        notices: the notices of all runs.
        titles: model titles by name.
    """

    metric: str
    runs: tuple[ComparedRun, ...]
    rows: tuple[Row, ...]
    unpaired: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    notices: tuple[Notice, ...]
    titles: Mapping[str, str] = field(default_factory=dict)

    def select_rows(self, model: str, metric: str | None = None) -> list[Row]:
        """Return the rows of a model's metric; default: the metric of the main table."""
        return [row for row in self.rows if row.model == model and row.metric == (metric or self.metric)]


def compare_runs(folders: Sequence[Path], metric: str | None = None) -> Comparison:
    """Compare runs with the first of them.

    Args:
        folders: the folders of two runs or more.
        metric: the metric of the main table; None: the first run's.

    Raises:
        UsageError: there are not two runs, or no two have the metric.
        DataError: a folder holds no report, or a file of it is damaged.
    """
    if len({folder.resolve() for folder in folders}) < 2:
        raise UsageError("compare: give at least two different run folders")
    runs = _load_runs(folders)
    first, *others = runs
    metric = metric or first.report.metric
    metrics = list(dict.fromkeys([metric, *(name for run in runs for name in list_table_metrics(run.report))]))
    unpaired = {run.label: tuple(_list_pairing_obstacles(first, run)) for run in others}
    rows: list[Row] = []
    titles: dict[str, str] = {}
    for name in dict.fromkeys(model.name for run in runs for model in run.report.models):
        models = {run.label: model for run in runs if (model := run.report.model(name)) is not None}
        if len(models) < 2:
            continue
        titles[name] = next(iter(models.values())).title
        for site in [*sorted({site for model in models.values() for site in model.sites}), POOLED]:
            items = {
                label: item for label, model in models.items() if (item := _evaluation_at(model, site)) is not None
            }
            rows += [_make_row(runs, unpaired, name, titles[name], site, each, items) for each in metrics]
    rows = [row for row in rows if any(row.figure(label).value is not None for label in row.items)]
    if not any(row.metric == metric for row in rows):
        raise UsageError(f"compare: no two of these runs have test results of {metric}: choose another --metric")
    return Comparison(metric, runs, tuple(rows), unpaired, tuple(_list_warnings(runs)), _list_notices(runs), titles)


def _load_runs(folders: Sequence[Path]) -> tuple[ComparedRun, ...]:
    runs: list[ComparedRun] = []
    for number, folder in enumerate(folders, 1):
        report = read_report(folder)
        drawn: dict[str, Mapping[str, Drawn]] = {}
        for model in report.models:
            wanted = PERSONAL if model.name == "personal" else ALL_PATIENTS
            resamples = load_resamples(RunFolder(folder).resamples(model.name))
            drawn[model.name] = {site: values for (table, site), values in resamples.items() if table == wanted}
        label = report.run.id
        if label in [other.label for other in runs]:
            label = f"{label} ({number})"
        runs.append(ComparedRun(label, folder, report, drawn))
    return tuple(runs)


def _evaluation_at(model: ModelResult, site: str) -> Evaluation | None:
    return model.pooled if site == POOLED else model.sites.get(site)


def _make_row(
    runs: Sequence[ComparedRun], unpaired: Mapping[str, tuple[str, ...]], model: str, title: str, site: str,
    metric: str, items: Mapping[str, Evaluation],
) -> Row:  # fmt: skip
    first, *others = runs
    differences: dict[str, Difference] = {}
    for run in others:
        if first.label not in items or run.label not in items:
            continue
        value, first_value = (metric_value(items[label], metric) for label in (run.label, first.label))
        if value is None or first_value is None:
            continue
        reason = "; ".join(unpaired[run.label]) or _find_patient_difference(first, run, model, site)
        own, base = (one.drawn.get(model, {}).get(site, {}).get(metric) for one in (run, first))
        if not reason and (own is None or base is None or own.shape != base.shape):
            reason = "no resampled values of this metric were kept"
        if reason or own is None or base is None:
            differences[run.label] = Difference(Figure(value=value - first_value), reason)
            continue
        inflated = METRICS[metric].inflated
        figure = make_figure(value - first_value, own - base, items[first.label].patients, inflated)
        differences[run.label] = Difference(figure, "" if figure.low is not None else "too few patients or resamples")
    return Row(model, title, site, metric, items, differences)


def _list_pairing_obstacles(first: ComparedRun, run: ComparedRun) -> list[str]:
    """Return the reasons why no figure of a run can be paired with the first run's."""
    one, other = first.report.run.config, run.report.run.config
    reasons = [
        f"{key} differs ({_format_value(_get_value(one, key))} and {_format_value(_get_value(other, key))})"
        for key in KEYS_THAT_MUST_MATCH
        if _get_value(one, key) != _get_value(other, key)
    ]
    if first.report.task.get("classes") != run.report.task.get("classes"):
        reasons.append("the classes differ")
    for each in (first, run):
        if not any(each.drawn.values()):
            reasons.append(f"{each.label} kept no resampled values: run it with evaluation.keep_resamples=true")
    return reasons


def _find_patient_difference(first: ComparedRun, run: ComparedRun, model: str, site: str) -> str:
    """Return why the figures of a hospital, or of all, are not of the same patients; "" if they are."""
    one, other = (each.report.model(model) for each in (first, run))
    if one is None or other is None:
        return "one run has no such model"
    for name in [site] if site != POOLED else sorted({*one.sites, *other.sites}):
        if name not in one.sites or name not in other.sites:
            return f"one run has no results of {name}"
        first_counts, counts = (
            [(part.examples, part.patients) for part in item.classes.values()] + [(item.examples, item.patients)]
            for item in (one.sites[name], other.sites[name])
        )
        if first_counts != counts:
            return f"the test patients or examples of {name} differ"
    return ""


def _list_warnings(runs: Sequence[ComparedRun]) -> list[str]:
    first, *others = runs
    warnings = [
        f"{run.label} is not complete: {run.report.run.status}" for run in runs if run.report.run.status != "complete"
    ]
    for run in others:
        one, other = first.report, run.report

        def differs(key: str, one: Report = one, other: Report = other) -> bool:
            return bool(_get_value(one.run.config, key) != _get_value(other.run.config, key))

        if any(one.task.get(key) != other.task.get(key) for key in ("kind", "classes")):
            warnings.append(f"{run.label} has another task than {first.label}: their results are of different things")
        for what, keys in (("data", ("data.dataset", "data.options")), ("splits", ("sites", "seed"))):
            if any(map(differs, keys)):
                warnings.append(f"{run.label} has other {what} than {first.label}: patients may cause a difference")
        warnings += [
            f"{run.label} has another {key} than {first.label}" for key in KEYS_THAT_MAY_DIFFER if differs(key)
        ]
        if one.metric != other.metric:
            warnings.append(
                f"{run.label} chose its round and threshold by {other.metric}, {first.label} by {one.metric}"
            )
    return warnings


def _list_notices(runs: Sequence[ComparedRun]) -> tuple[Notice, ...]:
    notices: list[Notice] = []
    for run in runs:
        notices += [notice for notice in run.report.notices if notice not in notices]
    return tuple(notices)


def _get_value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _format_value(value: Any) -> str:
    text = "none" if value in (None, {}, [], ()) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the content of compare.json."""
    return {
        "schema": "wardround.compare/1",
        "metric": comparison.metric,
        "notices": [notice.model_dump() for notice in comparison.notices],
        "warnings": list(comparison.warnings),
        "runs": [
            {
                "label": run.label,
                "folder": str(run.folder),
                "title": run.report.run.title,
                "status": run.report.run.status,
            }
            for run in comparison.runs
        ],
        "against": comparison.runs[0].label,
        "unpaired": {label: list(reasons) for label, reasons in comparison.unpaired.items()},
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
                    label: {**item.figure.model_dump(), "paired": not item.reason, "why": item.reason}
                    for label, item in row.differences.items()
                },
            }
            for row in comparison.rows
        ],
    }
