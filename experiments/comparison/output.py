"""What a comparison of runs looks like: a table for the terminal, Markdown, CSV, and a page of the report's looks."""

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
from experiments.report.text.formatting import Cell

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADER = ("model", "site", "metric", "run", "value", "low", "high", "patients", "examples",
          "difference", "difference_low", "difference_high", "paired", "why_not", "synthetic", "notice")  # fmt: skip

MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def site_label(site: str) -> str:
    """Return a hospital's name for readers."""
    return "all hospitals" if site == POOLED else site


def value_cell(row: Row, label: str) -> Cell:
    """Return a run's figure, ready to be shown."""
    return formatting.make_cell(row.items.get(label), row.metric, missing="this run has no such figure")


def difference_cell(row: Row, label: str) -> Cell:
    """Return how much a run's figure differs from the first run's, with its sign, ready to be shown."""
    found = row.differences.get(label)
    if found is None or found.figure.value is None:
        return Cell("n/a", reason="one of the two runs has no such figure")
    low, high = found.figure.low, found.figure.high
    interval = "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
    why = "" if interval else f"not paired: {found.why}"
    few = row.items[label].patients < FEW_PATIENTS
    return Cell(f"{found.figure.value:+.3f}", interval, few, why, found.figure.value)


def verdict_sentences(found: Comparison) -> list[str]:
    """Return for each run but the first how its federated model differs over all hospitals, as sentences."""
    first, *others = found.runs
    said = []
    name = formatting.metric_title(found.metric)
    for run in others:
        row = next((row for row in found.of("federated") if row.site == POOLED and run.label in row.differences), None)
        if row is None:
            said.append(f"{run.label}: no {name} over all hospitals to compare.")
            continue
        item = row.differences[run.label]
        shown = difference_cell(row, run.label)
        text = f"{run.label} against {first.label}, over all hospitals: {name} {shown.text}"
        if item.why:
            said.append(f"{text}; no interval, because the runs cannot be paired: {item.why}.")
            continue
        rest = "which leaves out 0" if item.clear else "which holds 0: the patients do not tell the runs apart"
        said.append(f"{text} (paired 95% interval {shown.interval}), {rest}.")
    return said


def multiple_comparison_note(found: Comparison) -> str:
    """Return what must be said of many intervals."""
    count = sum(len(row.differences) for row in found.rows if row.metric == found.metric)
    return (
        f"{formatting.format_count(count, 'difference')} of {formatting.metric_title(found.metric)} stand here: of 20 "
        "intervals between "
        "equal models one leaves out 0 by chance. A run is one training: its differences say nothing of another seed."
    )


def render_terminal(found: Comparison) -> RenderableType:
    """Return the notices, the warnings, the federated model at each hospital, and the verdicts."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    others = found.runs[1:]
    parts: list[RenderableType] = [
        Panel(Text(item.text), title=item.level.upper().replace("-", " "), width=100) for item in found.notices
    ]
    parts += [Text(f"warning: {text}", style="yellow") for text in found.warnings]
    letters = {run.label: chr(ord("A") + number) for number, run in enumerate(found.runs)}
    parts += [Text(f"{letters[run.label]}  {run.label}: {run.report.run.title}") for run in found.runs]
    table = Table(
        title=f"{formatting.capitalise(formatting.metric_title(found.metric))}, federated model",
        title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold underline",
    )  # fmt: skip
    table.add_column("hospital", overflow="fold")
    table.add_column("patients", justify="right")
    for run in found.runs:
        table.add_column(letters[run.label], justify="right")
    for run in others:
        table.add_column(f"{letters[run.label]} - A", justify="right")
    for row in found.of("federated"):
        cells = [value_cell(row, run.label) for run in found.runs]
        texts = [
            f"{cell.text}{'†' if cell.few else ''}" + (f" ({cell.interval})" if cell.interval else "") for cell in cells
        ]
        deltas = []
        for run in others:
            cell, item = difference_cell(row, run.label), row.differences.get(run.label)
            deltas.append(
                Text(
                    f"{cell.text}{'†' if cell.few else ''}" + (f" ({cell.interval})" if cell.interval else ""),
                    style="bold" if item is not None and item.clear else "",
                )
            )
        patients = next(iter(row.items.values())).patients
        table.add_row(site_label(row.site), str(patients), *texts, *deltas, style="bold" if row.site == POOLED else "")
    parts.append(table)
    parts += [Text(text) for text in (*verdict_sentences(found), multiple_comparison_note(found))]
    return Group(*parts)


def render_csv(found: Comparison) -> str:
    """Return a line for each figure of each run, with its difference from the first run's."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(HEADER)
    notice = " ".join(formatting.format_notice(item) for item in found.notices)
    synthetic = "yes" if any(item.level == "synthetic" for item in found.notices) else "no"
    for row in found.rows:
        for run in found.runs:
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
            shown = ["" if number is None else repr(number) for number in numbers]
            paired = "" if delta is None else "no" if delta.why else "yes"
            lines.writerow(
                [
                    row.model,
                    row.site,
                    row.metric,
                    run.label,
                    *shown,
                    paired,
                    delta.why if delta else "",
                    synthetic,
                    notice,
                ]
            )
    return out.getvalue()


def render_page(found: Comparison) -> str:
    """Return compare.html."""
    from markupsafe import Markup

    from experiments.report.pages.html import build_page_context, make_html_environment

    report = _report(found)
    plot = draw_differences(found, report)
    return (
        make_html_environment()
        .get_template("compare.html.j2")
        .render(
            **build_page_context(report, "Comparison of runs") | _told(found), plot=Markup(plot.svg) if plot else ""
        )
    )


def render_markdown(found: Comparison) -> str:
    """Return compare.md."""
    from experiments.report.pages.markdown import Verbatim, make_markdown_environment

    return (
        make_markdown_environment()
        .get_template("compare.md.j2")
        .render(formatting=formatting, code=Verbatim, **_told(found))
        .rstrip()
        + "\n"
    )


def draw_differences(found: Comparison, report: Report) -> Plot | None:
    """Draw how much each run's federated model differs from the first run's at each hospital; None without rows."""
    rows = [row for row in found.of("federated") if row.differences]
    others = [run.label for run in found.runs[1:]][: len(SERIES)]
    if not rows:
        return None
    title = f"{formatting.capitalise(formatting.metric_title(found.metric))}: difference from {found.runs[0].label}"
    with plot_style():
        left = min(3.4, 0.75 + 0.075 * max(len(site_label(row.site)) for row in rows))
        height = 1.3 + (0.2 + 0.14 * len(others)) * len(rows) + 0.22 * len(others)
        canvas_, [axes] = create_canvas(height, 1, left=left, right=0.3, top=0.4, bottom=0.75 + 0.22 * len(others))
        for at, row in enumerate(rows):
            axes.text(-0.01, at, site_label(row.site), transform=axes.get_yaxis_transform(), ha="right", va="center")
            for order, label in enumerate(others):
                item = row.differences.get(label)
                if item is None or item.figure.value is None:
                    continue
                y, colour = at + (order - (len(others) - 1) / 2) * 0.22, SERIES[order]
                if item.figure.low is not None and item.figure.high is not None:
                    axes.plot([item.figure.low, item.figure.high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
                fill = "none" if item.why else colour
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
        canvas_.legend(loc="lower left", ncols=1, frameon=False, handlelength=2.6)
        said = "; ".join(
            f"{site_label(row.site)}: "
            + ", ".join(f"{label} {difference_cell(row, label).text}" for label in row.differences)
            for row in rows
        )
        return finish_plot(canvas_, report, "differences", title, said)


def _report(found: Comparison) -> Report:
    """Return the first run's report under the notices of all."""
    return found.runs[0].report.model_copy(update={"notices": found.notices, "metric": found.metric})


def _told(found: Comparison) -> dict[str, Any]:
    return {
        "found": found,
        "first": found.runs[0],
        "others": found.runs[1:],
        "place": site_label,
        "value": value_cell,
        "difference": difference_cell,
        "verdicts": verdict_sentences(found),
        "caution": multiple_comparison_note(found),
        "metric_title": formatting.metric_title(found.metric),
        "whole": [row for row in found.rows if row.site == POOLED],
        "federated": found.of("federated"),
    }


def write_comparison(found: Comparison, folder: Path) -> list[Path]:
    """Write compare.json, compare.csv, compare.md and compare.html into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_text(folder / "compare.json", json.dumps(comparison_to_dict(found), indent=1, allow_nan=False) + "\n"),
        write_text(folder / "compare.csv", render_csv(found)),
        write_text(folder / "compare.md", render_markdown(found)),
        write_text(folder / "compare.html", render_page(found)),
    ]
