"""A comparison of runs as a table for the terminal, Markdown, CSV, and a page in the style of the report."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import write_text
from common.metrics.figures import FEW_PATIENTS, Figure
from common.metrics.paired_resamples import POOLED
from experiments.comparison.compare import Comparison, Row, comparison_to_dict
from experiments.report.document.report import Report
from experiments.report.plots.drawing import INK, RULE, SERIES, Plot, create_canvas, finish_plot, plot_style
from experiments.report.text import formatting
from experiments.report.text.formatting import Cell, capitalise, format_count, make_cell, metric_title

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADER = ("model", "site", "metric", "run", "value", "low", "high", "patients", "examples",
          "difference", "difference_low", "difference_high", "paired", "why_not", "synthetic", "notice")  # fmt: skip

MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def site_label(site: str) -> str:
    """Return a hospital's name as it is shown."""
    return "all hospitals" if site == POOLED else site


def value_cell(row: Row, label: str) -> Cell:
    """Return the cell of a run's figure."""
    return make_cell(row.items.get(label), row.metric, missing="this run has no such result")


def difference_cell(row: Row, label: str) -> Cell:
    """Return the cell of the signed difference between a run's figure and the first run's."""
    difference = row.differences.get(label)
    if difference is None or difference.figure.value is None:
        return Cell("n/a", reason="one of the two runs has no such result")
    value, low, high = difference.figure.value, difference.figure.low, difference.figure.high
    interval = "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
    reason = "" if interval else f"not paired: {difference.reason}"
    return Cell(f"{value:+.3f}", interval, row.items[label].patients < FEW_PATIENTS, reason, value)


def verdict_sentences(comparison: Comparison) -> list[str]:
    """Return a sentence for each run but the first: how its federated model differs over all hospitals."""
    first, *others = comparison.runs
    sentences = []
    name = metric_title(comparison.metric)
    for run in others:
        row = next(
            (row for row in comparison.select_rows("federated") if row.site == POOLED and run.label in row.differences),
            None,
        )
        if row is None:
            sentences.append(f"{run.label}: no {name} over all hospitals to compare.")
            continue
        item = row.differences[run.label]
        formatted = difference_cell(row, run.label)
        text = f"{run.label} against {first.label}, over all hospitals: {name} {formatted.text}"
        if item.reason:
            sentences.append(f"{text}; no interval, because the runs cannot be paired: {item.reason}.")
            continue
        rest = "which excludes 0" if item.clear else "which contains 0: these patients show no difference"
        sentences.append(f"{text} (paired 95% interval {formatted.interval}), {rest}.")
    return sentences


def multiple_comparison_note(comparison: Comparison) -> str:
    """Return the note on many intervals and single trainings."""
    count = sum(len(row.differences) for row in comparison.rows if row.metric == comparison.metric)
    differences = format_count(count, "difference")
    return (
        f"{differences} of {metric_title(comparison.metric)} are shown: of 20 intervals between equal "
        "models, one excludes 0 by chance. Each run is one training: another seed may give other differences."
    )


def render_terminal(comparison: Comparison) -> RenderableType:
    """Return the notices, the warnings, a table of the federated model at each hospital, and the verdicts."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    others = comparison.runs[1:]
    parts: list[RenderableType] = [
        Panel(Text(item.text), title=item.level.upper().replace("-", " "), width=100) for item in comparison.notices
    ]
    parts += [Text(f"warning: {text}", style="yellow") for text in comparison.warnings]
    letters = {run.label: chr(ord("A") + number) for number, run in enumerate(comparison.runs)}
    parts += [Text(f"{letters[run.label]}  {run.label}: {run.report.run.title}") for run in comparison.runs]
    table = Table(
        title=f"{capitalise(metric_title(comparison.metric))}, federated model",
        title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold underline",
    )  # fmt: skip
    table.add_column("hospital", overflow="fold")
    table.add_column("patients", justify="right")
    for run in comparison.runs:
        table.add_column(letters[run.label], justify="right")
    for run in others:
        table.add_column(f"{letters[run.label]} - A", justify="right")
    for row in comparison.select_rows("federated"):
        texts = [_format_cell(value_cell(row, run.label)) for run in comparison.runs]
        deltas = []
        for run in others:
            difference = row.differences.get(run.label)
            style = "bold" if difference is not None and difference.clear else ""
            deltas.append(Text(_format_cell(difference_cell(row, run.label)), style=style))
        patients = next(iter(row.items.values())).patients
        table.add_row(site_label(row.site), str(patients), *texts, *deltas, style="bold" if row.site == POOLED else "")
    parts.append(table)
    parts += [Text(text) for text in (*verdict_sentences(comparison), multiple_comparison_note(comparison))]
    return Group(*parts)


def _format_cell(cell: Cell) -> str:
    return f"{cell.text}{'†' if cell.few else ''}" + (f" ({cell.interval})" if cell.interval else "")


def render_csv(comparison: Comparison) -> str:
    """Return compare.csv: a line for each figure of each run, with its difference from the first run's."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    notice = " ".join(formatting.format_notice(item) for item in comparison.notices)
    synthetic = "yes" if any(item.level == "synthetic" for item in comparison.notices) else "no"
    for row in comparison.rows:
        for run in comparison.runs:
            if (item := row.items.get(run.label)) is None:
                continue
            delta = row.differences.get(run.label)
            figure, other = row.figure(run.label), delta.figure if delta else Figure(value=None)
            numbers = [
                figure.value,
                figure.low,
                figure.high,
                item.patients,
                item.examples,
                other.value,
                other.low,
                other.high,
            ]
            formatted = ["" if number is None else repr(number) for number in numbers]
            paired = "" if delta is None else "no" if delta.reason else "yes"
            writer.writerow(
                [
                    row.model,
                    row.site,
                    row.metric,
                    run.label,
                    *formatted,
                    paired,
                    delta.reason if delta else "",
                    synthetic,
                    notice,
                ]
            )
    return out.getvalue()


def render_page(comparison: Comparison) -> str:
    """Return compare.html."""
    from markupsafe import Markup

    from experiments.report.pages.html import build_page_context, make_html_environment

    report = _report_with_notices(comparison)
    plot = draw_differences(comparison, report)
    return (
        make_html_environment()
        .get_template("compare.html.j2")
        .render(
            **build_page_context(report, "Comparison of runs") | _template_values(comparison),
            plot=Markup(plot.svg) if plot else "",
        )
    )


def render_markdown(comparison: Comparison) -> str:
    """Return compare.md."""
    from experiments.report.pages.markdown import Verbatim, make_markdown_environment

    return (
        make_markdown_environment()
        .get_template("compare.md.j2")
        .render(formatting=formatting, code=Verbatim, **_template_values(comparison))
        .rstrip()
        + "\n"
    )


def draw_differences(comparison: Comparison, report: Report) -> Plot | None:
    """Draw the differences of each run's federated model from the first run's; None if there are none."""
    rows = [row for row in comparison.select_rows("federated") if row.differences]
    others = [run.label for run in comparison.runs[1:]][: len(SERIES)]
    if not rows:
        return None
    title = f"{capitalise(metric_title(comparison.metric))}: difference from {comparison.runs[0].label}"
    with plot_style():
        left = min(3.4, 0.75 + 0.075 * max(len(site_label(row.site)) for row in rows))
        height = 1.3 + (0.2 + 0.14 * len(others)) * len(rows) + 0.22 * len(others)
        canvas, [axes] = create_canvas(height, 1, left=left, right=0.3, top=0.4, bottom=0.75 + 0.22 * len(others))
        for position, row in enumerate(rows):
            axes.text(
                -0.01, position, site_label(row.site), transform=axes.get_yaxis_transform(), ha="right", va="center"
            )
            for order, label in enumerate(others):
                item = row.differences.get(label)
                if item is None or item.figure.value is None:
                    continue
                y, colour = position + (order - (len(others) - 1) / 2) * 0.22, SERIES[order]
                if item.figure.low is not None and item.figure.high is not None:
                    axes.plot([item.figure.low, item.figure.high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
                fill = "none" if item.reason else colour
                axes.plot(
                    [item.figure.value],
                    [y],
                    color=colour,
                    marker=MARKERS[order],
                    ms=5.6,
                    ls="none",
                    markerfacecolor=fill,
                )
        axes.axvline(0, color=INK, lw=1)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        axes.grid(axis="x", color=RULE, lw=0.6)
        axes.set_xlabel(title)
        for order, label in enumerate(others):
            axes.plot([], [], color=SERIES[order], marker=MARKERS[order], lw=1.6, ms=5.6, label=label)
        canvas.legend(loc="lower left", ncols=1, frameon=False, handlelength=2.6)
        description = "; ".join(
            f"{site_label(row.site)}: "
            + ", ".join(f"{label} {difference_cell(row, label).text}" for label in row.differences)
            for row in rows
        )
        return finish_plot(canvas, report, "differences", title, description)


def _report_with_notices(comparison: Comparison) -> Report:
    """Return the first run's report with the notices of all runs."""
    return comparison.runs[0].report.model_copy(update={"notices": comparison.notices, "metric": comparison.metric})


def _template_values(comparison: Comparison) -> dict[str, Any]:
    return {
        "comparison": comparison,
        "first": comparison.runs[0],
        "others": comparison.runs[1:],
        "site_label": site_label,
        "value_cell": value_cell,
        "difference_cell": difference_cell,
        "verdicts": verdict_sentences(comparison),
        "note": multiple_comparison_note(comparison),
        "metric_title": metric_title(comparison.metric),
        "pooled_rows": [row for row in comparison.rows if row.site == POOLED],
        "federated_rows": comparison.select_rows("federated"),
    }


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write compare.json, compare.csv, compare.md and compare.html into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_text(
            folder / "compare.json", json.dumps(comparison_to_dict(comparison), indent=1, allow_nan=False) + "\n"
        ),
        write_text(folder / "compare.csv", render_csv(comparison)),
        write_text(folder / "compare.md", render_markdown(comparison)),
        write_text(folder / "compare.html", render_page(comparison)),
    ]
