"""All results as a tidy CSV table, and a short table for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure
from common.metrics.merged_scores import has_ties_note
from common.metrics.patient_counts import count_patients
from common.metrics.registry import CALIBRATION_METRICS
from common.untrusted import escape_formula
from experiments.report.document.report import Report
from experiments.report.document.results import Subset
from experiments.report.text.findings import describe_counts, describe_privacy, describe_status, explain_missing_test
from experiments.report.text.formatting import (
    CLASS_METRICS,
    METRICS,
    NOT_KNOWN,
    capitalise,
    format_notice,
    list_table_metrics,
    make_cell,
    metric_title,
)
from experiments.report.text.many_hospitals import (
    MOST_HOSPITALS,
    choose_detailed_hospitals,
    describe_detailed_hospitals,
    list_some,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

CSV_HEADER = (
    "model", "subset", "site", "class", "metric", "value", "low", "high", "patients", "examples",
    "synthetic", "counts", "notice",
)  # fmt: skip
POOLED = "(pooled)"
"""All hospitals together, in the column `site`."""

Row = tuple[str | int, ...]


def render_csv(report: Report) -> str:
    """Return sites.csv: one line per model, subset of patients, hospital, class and metric.

    `class` is empty for metrics over all classes; `value`, `low` and `high` have all digits and are empty if the metric
    cannot be computed. `counts` says which counts a line comes from: `exact`, `suppressed below N patients`, or `noisy`
    with epsilon and delta; `score bins tie scores`: the notes of the evaluation in report.json say by how much that can
    change the AUROC. Every line carries the notices, because lines are copied without their table; of very many
    hospitals only the notices' levels. A name that a spreadsheet would take for a formula begins with an apostrophe.
    """
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(CSV_HEADER)
    notice = _format_line_notice(report)
    synthetic = "yes" if report.has("synthetic") else "no"
    names = CSV_HEADER.index("metric")  # the columns before it are names, some of them hospitals'
    lines.writerows(
        (*(escape_formula(str(name)) for name in row[:names]), *row[names:], synthetic, counts, escape_formula(notice))
        for row, counts in _list_rows(report)
    )
    return out.getvalue()


def _format_line_notice(report: Report) -> str:
    """Return the notices as each line holds them; in short for very many hospitals, where texts would be most of it."""
    if len(report.sites) <= MOST_HOSPITALS:
        return " ".join(format_notice(item) for item in report.notices)
    levels = dict.fromkeys(item.level.upper().replace("-", " ") for item in report.notices)
    return f"{', '.join(levels)}: see report.json" if levels else ""


def _list_rows(report: Report) -> Iterator[tuple[Row, str]]:
    """Yield the lines without their notices, each with the kind of counts that it comes from."""
    minimums = {site.name: site.min_cell_patients for site in report.sites}
    minimums[POOLED] = max(minimums.values(), default=1)
    for model in report.models:
        own = model.kind in ("federated", "personal")  # others are tested where one person holds all data
        subsets: dict[str, Subset] = {"all": model}
        subsets |= {f"without {label}": subset for label, subset in model.without.items()}
        for attribute, groups in model.groups.items():
            subsets |= {f"group {attribute}={group}": subset for group, subset in groups.items()}
        for name, subset in subsets.items():
            for site, minimum in subset.suppressed.items():
                reason = f"suppressed (fewer than {minimum} patients)"
                yield (model.name, name, site, "", reason, "", "", "", "", ""), f"suppressed below {minimum} patients"
            evaluations = subset.sites | ({POOLED: subset.pooled} if subset.pooled is not None else {})
            for site, evaluation in evaluations.items():
                counts = _name_counts(evaluation, minimums.get(site, 1) if own else 1)
                yield from ((row, counts) for row in _list_metrics((model.name, name, site), evaluation))


def _name_counts(evaluation: Evaluation, minimum: int) -> str:
    """Return from which kind of counts an evaluation comes."""
    if (noise := evaluation.noise) is not None:
        epsilon = "infinite" if noise.epsilon is None else f"{noise.epsilon:.4g}"
        return f"noisy: epsilon {epsilon}, delta {noise.delta:g}" + ("" if noise.private else ", NOT PRIVATE")
    ties = "; score bins tie scores" if has_ties_note(evaluation) else ""
    return f"suppressed below {minimum} patients{ties}" if minimum > 1 else "exact"


def _list_metrics(prefix: Row, evaluation: Evaluation) -> Iterator[Row]:
    for metric in METRICS:
        if (figure := evaluation.figure(metric)) is not None:
            patients = count_patients(evaluation, metric)
            yield (*prefix, "", metric, *_format_numbers(figure), patients, evaluation.examples)
    for name, part in evaluation.classes.items():
        if name in evaluation.suppressed:
            reason = f"suppressed (fewer than {evaluation.suppressed[name]} patients)"
            yield (*prefix, name, reason, "", "", "", "", "")
            continue
        figures: dict[str, Figure] = {metric: getattr(part, metric) for metric in CLASS_METRICS}
        if part.calibration:
            figures |= {metric: getattr(part.calibration, metric) for metric in CALIBRATION_METRICS}
        for point in part.operating:
            figures[f"sensitivity_at_specificity_{point.at:g}"] = point.sensitivity
            figures[f"specificity_at_sensitivity_{point.at:g}"] = point.specificity
        if part.alarms:
            figures |= {"alarms_per_day": part.alarms.per_day, "false_per_hour": part.alarms.false_per_hour}
        for metric, figure in figures.items():
            yield (*prefix, name, metric, *_format_numbers(figure), part.patients, part.examples)


def _format_numbers(figure: Figure) -> tuple[str, str, str]:
    value, low, high = ("" if n is None else repr(n) for n in (figure.value, figure.low, figure.high))
    return value, low, high


def render_terminal_summary(report: Report) -> RenderableType:
    """Return the notices and the results of each hospital with the worst one marked, at most 100 columns wide."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    colours = {"synthetic": "yellow", "leak": "red", "not-private": "red", "partial": "red", "warning": "blue"}
    parts: list[RenderableType] = [
        Panel(Text(item.text), title=item.level.upper().replace("-", " "), border_style=colours[item.level], width=100)
        for item in report.notices
    ]
    parts.append(Text(f"{report.run.title or report.run.name}: {describe_status(report)}", style="bold"))
    metrics, model = _choose_terminal_metrics(report), report.federated
    parts.append(_TerminalTable(report, metrics))
    if which := describe_detailed_hospitals(report):
        parts.append(Text(which))
    evaluations = [*model.sites.values(), *([model.pooled] if model.pooled else [])] if model else []
    if any(make_cell(item, metric).few for item in evaluations for metric in metrics):
        parts.append(
            Text(f"† based on fewer than {FEW_PATIENTS} patients: one more or less can change it considerably")
        )
    parts += [Text(line) for line in _explain_cells(report, metrics)]
    if model is None:
        parts.append(Text(capitalise(f"{explain_missing_test(report)}: no test results")))
    parts += [Text(sentence) for sentence in (*describe_privacy(report), describe_counts(report))]
    if report.run.error:
        parts.append(Text(report.run.error, style="red"))
    parts += [Text(f"missing response: {site}: {reason}", style="red") for site, reason in report.lost.items()]
    return Group(*parts)


def _explain_cells(report: Report, metrics: Sequence[str]) -> list[str]:
    """Return why values or intervals of the terminal's table are missing, but for what a notice says already."""
    model = report.federated
    if model is None:
        return []
    kind, detailed = report.data.site_kind, choose_detailed_hospitals(report)
    evaluations = {site: item for site, item in model.sites.items() if site in detailed}
    where: dict[tuple[str, str], list[str]] = {}
    for site, item in (evaluations | ({f"all {kind}s": model.pooled} if model.pooled else {})).items():
        for metric in metrics:
            cell = make_cell(item, metric)
            if cell.reason and not cell.reason.startswith(NOT_KNOWN):
                where.setdefault((metric_title(metric), cell.reason), []).append(site)
    return [f"{title}, {list_some(sites)}: {reason}" for (title, reason), sites in where.items()]


def _choose_terminal_metrics(report: Report) -> list[str]:
    """Return three metrics, the run's own first, because a narrow terminal shows only the first ones."""
    all_metrics = list_table_metrics(report)
    metrics = [metric for metric in all_metrics if metric != "macro_auprc"][-3:]
    if report.binary:
        metrics = ["auroc", "sensitivity", "utility" if "utility" in all_metrics else "specificity"]
    return [report.metric, *(metric for metric in metrics if metric != report.metric)][:3]


class _TerminalTable:
    """The table of hospitals, with as many of the metrics as fit into the terminal's width."""

    def __init__(self, report: Report, metrics: Sequence[str]) -> None:
        self.report, self.metrics = report, metrics

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the widest table that fits, or lines with the first metric, which may be wrapped but are not cut."""
        from rich.text import Text

        for count in range(len(self.metrics), 0, -1):
            table = _make_terminal_table(self.report, self.metrics[:count])
            if console.measure(table, options=options.update(max_width=200)).maximum <= options.max_width:
                yield table
                return
        table = _make_terminal_table(self.report, self.metrics[:1])
        columns = [list(column.cells) for column in table.columns]
        yield Text(f"{metric_title(self.metrics[0])} of each {self.report.data.site_kind}", style="bold underline")
        for cells in zip(*columns, strict=True):
            hospital, patients, value = (cell.plain if isinstance(cell, Text) else str(cell) for cell in cells)
            yield Text(f"{hospital}: {value}, {patients} patients")


def _make_terminal_table(report: Report, metrics: Sequence[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    model = report.federated
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold underline")
    table.add_column(report.data.site_kind, overflow="fold", min_width=18, max_width=22)
    table.add_column("patients", justify="right")
    for metric in metrics:
        table.add_column(metric_title(metric), justify="right", no_wrap=True)
    detailed = choose_detailed_hospitals(report)
    for site in report.sites:
        if site.name not in detailed:
            continue
        evaluation = model.sites.get(site.name) if model else None
        worst = bool(model and model.worst and model.worst.site == site.name)
        label = Text(f"{site.name} (worst)" if worst else site.name, style="bold" if worst else "")
        test = site.counts.get("test")
        patients = evaluation.patients if evaluation else test.patients if test else 0
        table.add_row(label, str(patients), *(_format_terminal_cell(evaluation, metric) for metric in metrics))
    if model and model.pooled:
        table.add_section()
        cells = [_format_terminal_cell(model.pooled, metric) for metric in metrics]
        table.add_row(f"all {report.data.site_kind}s", str(model.pooled.patients), *cells, style="bold")
    return table


def _format_terminal_cell(evaluation: Evaluation | None, metric: str) -> Text:
    from rich.text import Text

    cell = make_cell(evaluation, metric)
    mark = "†" if cell.few else ""
    return Text(f"{cell.text}{mark} {cell.interval and f'({cell.interval})'}".strip())
