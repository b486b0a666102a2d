"""The figures as a tidy table for spreadsheets, and a short table for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from common.metrics.figures import Evaluation, Figure
from common.metrics.registry import CALIBRATION_METRICS
from experiments.report.document.report import Report
from experiments.report.document.results import Subset
from experiments.report.text.findings import describe_privacy, describe_status, explain_missing_test
from experiments.report.text.formatting import (
    CLASS_METRICS,
    METRICS,
    capitalise,
    format_notice,
    list_table_metrics,
    make_cell,
    metric_title,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

CSV_HEADER = (
    "model", "subset", "site", "class", "metric", "value", "low", "high", "patients", "examples",
    "synthetic", "notice",
)  # fmt: skip
POOLED = "(pooled)"
"""Stands for all hospitals together in the column `site`."""

Row = tuple[str | int, ...]


def render_csv(report: Report) -> str:
    """Return one line a figure: of each model, subset of patients, hospital, class and metric.

    `class` is empty for figures over all classes; `value`, `low` and `high` have all digits, and are empty
    where there is no figure. Every line carries the notices, because lines are copied without their table.
    """
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(CSV_HEADER)
    notice = " ".join(format_notice(item) for item in report.notices)
    synthetic = "yes" if report.has("synthetic") else "no"
    lines.writerows((*row, synthetic, notice) for row in _rows(report))
    return out.getvalue()


def _rows(report: Report) -> Iterator[Row]:
    for model in report.models:
        parts: dict[str, Subset] = {"all": model}
        parts |= {f"without {label}": subset for label, subset in model.without.items()}
        for attribute, groups in model.groups.items():
            parts |= {f"group {attribute}={name}": subset for name, subset in groups.items()}
        for name, subset in parts.items():
            for site, least in subset.suppressed.items():
                yield model.name, name, site, "", f"suppressed (fewer than {least} patients)", "", "", "", "", ""
            for site, item in subset.sites.items():
                yield from _figures((model.name, name, site), item)
            if subset.pooled is not None:
                yield from _figures((model.name, name, POOLED), subset.pooled)


def _figures(start: Row, item: Evaluation) -> Iterator[Row]:
    for metric in METRICS:
        if (figure := item.figure(metric)) is not None:
            yield (*start, "", metric, *_numbers(figure), item.patients, item.examples)
    for name, part in item.classes.items():
        if name in item.suppressed:
            reason = f"suppressed (fewer than {item.suppressed[name]} patients)"
            yield (*start, name, reason, "", "", "", "", "")
            continue
        for metric in CLASS_METRICS:
            yield (*start, name, metric, *_numbers(getattr(part, metric)), part.patients, part.examples)
        found = {key: getattr(part.calibration, key) for key in CALIBRATION_METRICS} if part.calibration else {}
        for point in part.operating:
            found[f"sensitivity_at_specificity_{point.at:g}"] = point.sensitivity
            found[f"specificity_at_sensitivity_{point.at:g}"] = point.specificity
        if part.alarms:
            found |= {"alarms_per_day": part.alarms.per_day, "false_per_hour": part.alarms.false_per_hour}
        for metric, figure in found.items():
            yield (*start, name, metric, *_numbers(figure), part.patients, part.examples)


def _numbers(figure: Figure) -> tuple[str, str, str]:
    low, value, high = ("" if n is None else repr(n) for n in (figure.low, figure.value, figure.high))
    return value, low, high


def render_terminal_summary(report: Report) -> RenderableType:
    """Return the notices, the hospitals with their figures and the worst one, at most 100 columns wide."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    colours = {"synthetic": "yellow", "leak": "red", "not-private": "red", "warning": "blue"}
    parts: list[RenderableType] = [
        Panel(Text(item.text), title=item.level.upper().replace("-", " "), border_style=colours[item.level], width=100)
        for item in report.notices
    ]
    model = report.federated
    parts.append(Text(f"{report.run.title or report.run.name}: {describe_status(report)}", style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold underline")
    table.add_column("hospital", overflow="fold", min_width=18, max_width=22)
    table.add_column("patients", justify="right")
    every = list_table_metrics(report)
    shown = [metric for metric in every if metric != "macro_auprc"][-3:]
    if report.binary:
        shown = ["auroc", "sensitivity", "utility" if "utility" in every else "specificity"]
    if report.metric not in shown:
        shown = [*shown[:-1], report.metric]
    for metric in shown:
        table.add_column(metric_title(metric), justify="right", no_wrap=True)
    for site in report.sites:
        item = model.sites.get(site.name) if model else None
        worst = bool(model and model.worst and model.worst.site == site.name)
        label = Text(f"{site.name} (worst)" if worst else site.name, style="bold" if worst else "")
        held = item.patients if item else site.counts["test"].patients if "test" in site.counts else 0
        table.add_row(label, str(held), *(_cell(item, metric) for metric in shown))
    if model and model.pooled:
        table.add_section()
        figures = [_cell(model.pooled, metric) for metric in shown]
        table.add_row("all hospitals", str(model.pooled.patients), *figures, style="bold")
    parts.append(table)
    few = model is not None and any(make_cell(item, report.metric).few for item in model.sites.values())
    if few:
        parts.append(Text("† rests on few patients: one more or less can change it much"))
    if model is None:
        parts.append(Text(capitalise(f"{explain_missing_test(report)}: no test figures")))
    parts += [Text(sentence) for sentence in describe_privacy(report)]
    if report.run.error:
        parts.append(Text(report.run.error, style="red"))
    parts += [Text(f"lost: {site}: {why}", style="red") for site, why in report.lost.items()]
    return Group(*parts)


def _cell(item: Evaluation | None, metric: str) -> Text:
    from rich.text import Text

    shown = make_cell(item, metric)
    mark = "†" if shown.few else ""
    return Text(f"{shown.text}{mark} {shown.interval and f'({shown.interval})'}".strip())
