"""Validation metrics over the rounds, by hospital."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from common.metrics.registry import METRICS
from experiments.report.document.report import Report
from experiments.report.document.run import RoundFigures, RoundSite
from experiments.report.plots.drawing import (
    DOTTED,
    INK,
    LOCAL,
    MUTED,
    RULE,
    SERIES,
    Plot,
    create_canvas,
    finish_plot,
    plot_style,
    use_integer_ticks,
)
from experiments.report.text.formatting import format_count, metric_title

DASHES: tuple[Any, ...] = (
    "-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (2, 2)), (0, (8, 2, 2, 2))
)  # fmt: skip


def draw_training_curves(report: Report) -> Plot | None:
    """Draw the validation metrics over the rounds by hospital; None if no round was validated."""
    if all(line.validation is None for line in report.rounds):
        return None
    metrics = [report.metric if report.metric != "loss" else "macro_f1", "loss"]
    sites = [site.name for site in report.sites]
    numbers = [line.number for line in report.rounds]
    legend_rows = math.ceil((min(len(sites), len(SERIES)) + 2) / 5)
    marker = "o" if len(numbers) <= 15 else None
    with plot_style():
        bottom = 0.6 + 0.2 * legend_rows
        canvas, panels = create_canvas(2.9 + bottom, 2, left=0.45, right=0.1, top=0.5, bottom=bottom)
        for panel, metric in zip(panels, metrics, strict=True):
            for site, style in _choose_styles(report, sites).items():
                validations = [line.sites.get(site, RoundSite()).validation for line in report.rounds]
                panel.plot(numbers, _list_values(validations, metric), marker=marker, ms=2.6, **style)
            merged = _list_values([line.validation for line in report.rounds], metric)
            panel.plot(
                numbers, merged, color=INK, lw=2.4, marker=marker, ms=4, label=f"all {report.data.site_kind}s", zorder=4
            )
            if report.chosen_round:
                label = f"selected: round {report.chosen_round}"
                panel.axvline(report.chosen_round, color=MUTED, lw=1.2, ls=DOTTED, label=label)
            panel.set_title(f"{metric_title(metric)} on validation patients", loc="left", fontsize=9.5)
            panel.set_xlabel("round")
            panel.grid(axis="y", color=RULE, lw=0.6)
            use_integer_ticks(panel)
            panel.set_ylim(0, 1.02 if METRICS[metric].high == 1 else None)
        handles, labels = panels[0].get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        canvas.legend(unique.values(), unique.keys(), loc="lower center", ncols=5, frameon=False, handlelength=3.4)
        description = f"{format_count(len(numbers), 'round')}; the table below the plot holds the numbers."
        return finish_plot(canvas, report, "curves", "Validation metrics over the rounds", description)


def _choose_styles(report: Report, sites: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the line properties of each hospital: colour and dashes, or, of many hospitals, only for the worst."""
    if len(sites) <= len(SERIES):
        return {
            site: {"color": colour, "ls": dashes, "lw": 1.4, "label": site}
            for site, colour, dashes in zip(sites, SERIES, DASHES, strict=False)
        }
    worst = report.federated.worst if report.federated else None
    styles: dict[str, dict[str, Any]] = {}
    for site in sites:
        styles[site] = {"color": MUTED, "lw": 0.6, "alpha": 0.55, "label": f"each other {report.data.site_kind}"}
        if worst and worst.site == site:
            label = f"{site} (worst on test patients)"
            styles[site] = {"color": LOCAL, "lw": 1.6, "label": label, "zorder": 3}
    return styles


def _list_values(validations: Sequence[RoundFigures | None], metric: str) -> list[float]:
    """Return the metric of each round, NaN where there is none."""
    values = [getattr(item, metric, None) for item in validations]
    return [math.nan if value is None else float(value) for value in values]
