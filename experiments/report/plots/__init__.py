"""The report's plots: every hospital's figure with its interval, the figures over the rounds, and the list of all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.metrics.evaluation import metric_value
from common.metrics.figures import Evaluation, Figure
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult
from experiments.report.document.run import RoundFigures, RoundSite
from experiments.report.plots import attribution, latent
from experiments.report.plots.calibration import draw_decision_curves, draw_reliability, draw_site_reliability
from experiments.report.plots.drawing import (
    FEDERATED,
    INK,
    LOCAL,
    MUTED,
    PERSONAL,
    POOLED,
    RULE,
    SERIES,
    WIDTH,
    Plot,
    create_canvas,
    draw_plot,
    finish_svg,
    page_style,
)
from experiments.report.text.formatting import METRICS, format_count, format_interval, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {
    "federated": ("o", FEDERATED, "federated model"),
    "local": ("s", LOCAL, "model trained at this hospital alone"),
    "pooled": ("D", POOLED, "model trained on all data in one place"),
    "personal": ("^", PERSONAL, "hospital's personal model"),
}
DASHES: tuple[Any, ...] = (
    "-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (2, 2)), (0, (8, 2, 2, 2))
)  # fmt: skip
Row = tuple[str, dict[str, Evaluation]]


def draw_forest_plot(report: Report) -> str:
    """Return each hospital's figure, federated against local and pooled, as `<svg>`; empty without any."""
    model = report.federated
    if model is None or not model.sites:
        return ""
    rows = _rows(report, model)
    kinds = [kind for kind in MARKS if any(kind in items for _, items in rows)]
    title = METRICS.get(report.metric, report.metric)
    with page_style():
        height = 1.25 + (0.2 + 0.13 * len(kinds)) * len(rows)
        left = min(3.4, 0.75 + 0.075 * max(len(name) for name, _ in rows))
        drawing, [axes] = create_canvas(height, 1, left=left, right=2.75, top=0.45, bottom=0.8)
        across = axes.get_yaxis_transform()
        inch = 1 / (WIDTH - left - 2.75)
        people_at, figure_at = 1 + 0.62 * inch, 1 + 0.85 * inch
        for place, (name, items) in enumerate(rows):
            for order, kind in enumerate(kinds):
                if kind in items:
                    offset = (order - (len(kinds) - 1) / 2) * 0.24
                    _whisker(axes, _figure(items[kind], report.metric), place + offset, kind)
            worst = model.worst is not None and model.worst.site == name
            weight = "bold" if worst or place == len(rows) - 1 else "normal"
            label = f"{name} (worst)" if worst else name
            axes.text(-0.1 * inch, place, label, transform=across, ha="right", va="center", weight=weight)
            if "federated" in items:
                figure = _figure(items["federated"], report.metric)
                shown = format_number(figure.value) + (
                    f"  ({format_interval(figure)})" if format_interval(figure) else ""
                )
                people = f"{items['federated'].patients}"
                axes.text(people_at, place, people, transform=across, ha="right", va="center")
                axes.text(figure_at, place, shown, transform=across, ha="left", va="center", weight=weight)
        heads = ((people_at, "patients", "right"), (figure_at, "federated (95% interval)", "left"))
        for x, text, side in heads:
            axes.text(x, -0.85, text, transform=across, ha=side, va="center", color=MUTED)
        axes.axhline(len(rows) - 1.5, color=RULE, lw=0.8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        if report.metric != "loss":
            axes.set_xlim(0, 1)
        axes.set_xlabel(f"{title} on test patients")
        axes.grid(axis="x", color=RULE, lw=0.6)
        _legend(drawing, kinds)
        said = "; ".join(f"{name}: {_spoken(items, report.metric)}" for name, items in rows)
        return finish_svg(drawing, report, "forest", f"{title} of each hospital, with 95% intervals", said)


def draw_training_curves(report: Report) -> str:
    """Return validation figures over the rounds by hospital, as `<svg>`; empty without validation."""
    if all(line.validation is None for line in report.rounds):
        return ""
    from matplotlib.ticker import MaxNLocator

    metrics = [report.metric if report.metric != "loss" else "macro_f1", "loss"]
    sites = [site.name for site in report.sites]
    numbers = [line.number for line in report.rounds]
    legend_rows = math.ceil((min(len(sites), len(SERIES)) + 2) / 5)
    dot = "o" if len(numbers) <= 15 else None
    with page_style():
        bottom = 0.6 + 0.2 * legend_rows
        drawing, pair = create_canvas(2.9 + bottom, 2, left=0.45, right=0.1, top=0.5, bottom=bottom)
        for axes, metric in zip(pair, metrics, strict=True):
            for site, look in _looks(report, sites).items():
                here = [line.sites.get(site, RoundSite()).validation for line in report.rounds]
                axes.plot(numbers, _values(here, metric), marker=dot, ms=2.6, **look)
            merged = _values([line.validation for line in report.rounds], metric)
            axes.plot(numbers, merged, color=INK, lw=2.4, marker=dot, ms=4, label="all hospitals", zorder=4)
            if report.chosen_round:
                kept = f"kept: round {report.chosen_round}"
                axes.axvline(report.chosen_round, color=MUTED, lw=1.2, ls=(0, (1, 1.5)), label=kept)
            axes.set_title(f"{METRICS.get(metric, metric)} on validation patients", loc="left", fontsize=9.5)
            axes.set_xlabel("round")
            axes.grid(axis="y", color=RULE, lw=0.6)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(0, None if metric == "loss" else 1.02)
        handles, labels = pair[0].get_legend_handles_labels()
        labelled = dict(zip(labels, handles, strict=True))
        drawing.legend(labelled.values(), labelled.keys(), loc="lower center", ncols=5, frameon=False, handlelength=3.4)
        said = f"{format_count(len(numbers), 'round')}; the table below the plot holds the numbers."
        return finish_svg(drawing, report, "curves", "Validation figures over the rounds", said)


def _rows(report: Report, model: ModelResult) -> list[Row]:
    """Return the models' evaluations at each hospital, and over all, where the local models do not belong."""
    pooled, personal = report.model("pooled"), report.model("personal")
    rows: list[Row] = []
    for site in sorted(model.sites):
        models = {"federated": model, "local": report.model(f"local:{site}"), "pooled": pooled, "personal": personal}
        rows.append((site, {kind: m.sites[site] for kind, m in models.items() if m and site in m.sites}))
    whole = {"federated": model, "pooled": pooled, "personal": personal}
    rows.append(("all hospitals", {kind: m.pooled for kind, m in whole.items() if m and m.pooled}))
    return rows


def _spoken(items: dict[str, Evaluation], metric: str) -> str:
    return ", ".join(f"{kind} {format_number(metric_value(item, metric))}" for kind, item in items.items())


def _figure(item: Evaluation, metric: str) -> Figure:
    found = item.figure(metric)
    return found or Figure(value=None)


def _whisker(axes: Axes, figure: Figure, y: float, kind: str) -> None:
    mark, colour, _ = MARKS[kind]
    if figure.low is not None and figure.high is not None:
        axes.plot([figure.low, figure.high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
    if figure.value is not None:
        size = 4.8 if kind == "pooled" else 5.6
        axes.plot([figure.value], [y], color=colour, marker=mark, ms=size, ls="none", clip_on=False)


def _legend(drawing: Any, kinds: list[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=MARKS[k][1], marker=MARKS[k][0], lw=1.6, ms=5.5) for k in kinds]
    labels = [MARKS[kind][2] for kind in kinds]
    drawing.legend(handles, labels, loc="lower center", ncols=4, frameon=False, handlelength=2.6)


def _looks(report: Report, sites: list[str]) -> dict[str, dict[str, Any]]:
    """Return how each curve is drawn: by colour and dash, or, if hospitals are many, only the worst so."""
    if len(sites) <= len(SERIES):
        return {
            site: {"color": SERIES[place], "ls": DASHES[place], "lw": 1.4, "label": site}
            for place, site in enumerate(sites)
        }
    worst = report.federated.worst if report.federated else None
    looks: dict[str, dict[str, Any]] = {}
    for site in sites:
        looks[site] = {"color": MUTED, "lw": 0.6, "alpha": 0.55, "label": "each other hospital"}
        if worst and worst.site == site:
            label = f"{site} (worst on test patients)"
            looks[site] = {"color": LOCAL, "lw": 1.6, "label": label, "zorder": 3}
    return looks


def _values(found: list[RoundFigures | None], metric: str) -> list[float]:
    """Return one number a round, NaN where there is none."""
    values = [getattr(item, metric, None) for item in found]
    return [math.nan if value is None else float(value) for value in values]


PLOTS: dict[str, Callable[[Report], str]] = {
    "forest": draw_forest_plot,
    "curves": draw_training_curves,
    "reliability": draw_reliability,
    "reliability_sites": draw_site_reliability,
    "decision": draw_decision_curves,
    "latent": latent.draw_latent_space,
    "overlays": latent.draw_reconstructions,
    "importance": attribution.draw_importance,
    "overlay": attribution.draw_mean_signals,
}
"""Every plot by its name: a function that returns an `<svg>`, empty where a report has nothing to draw.

A template finds them as `drawn.NAME`, a reader as plots/NAME.svg and plots/NAME.png in the run's folder. Draw
within `drawing.style` and end with `drawing.finish`.
"""


def draw_plots(report: Report) -> dict[str, Plot]:
    """Return the plots of a report by name, without those that have nothing to show."""
    found = {name: draw_plot(draw, report) for name, draw in PLOTS.items()}
    return {name: plot for name, plot in found.items() if plot is not None}
