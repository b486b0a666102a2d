"""ROC and precision-recall curves with bands, score histograms by outcome, and calibration on probability axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from common.metrics.figures import Calibration, CurvePoint, Evaluation, Figure
from common.percent import format_hundred
from experiments.report.document.report import Report
from experiments.report.plots.drawing import (
    DASHED,
    FEDERATED,
    INK,
    LOCAL,
    MUTED,
    RULE,
    Plot,
    add_legend,
    create_panel_grid,
    finish_plot,
    plot_style,
)
from experiments.report.plots.tiles import add_tile_legend, create_tiles, cut_tiles
from experiments.report.text.formatting import format_number

if TYPE_CHECKING:
    from experiments.report.plots.drawing import Axes

SINGLE_WIDTH = 4.6
"""Width in inches of a plot of one panel, which a narrow page shows whole."""
MAX_PANELS = 12
ROW_HEIGHT = 3.0

_LINE: dict[str, Any] = {"color": FEDERATED, "lw": 1.8}
_REFERENCE: dict[str, Any] = {"color": MUTED, "lw": 1.0, "ls": DASHED}

Panel = tuple[str, Calibration]


def list_panels(report: Report) -> list[Panel]:
    """Return the title and the calibration of each class that has one: of two classes that of the event."""
    pooled = report.federated.pooled if report.federated else None
    if pooled is None:
        return []
    return [
        (report.class_titles.get(name, name), part.calibration)
        for name, part in pooled.classes.items()
        if part.calibration is not None and part.calibration.groups
    ][:MAX_PANELS]


def draw_roc(report: Report) -> Plot | None:
    """Draw sensitivity against the share flagged wrongly; None without points."""
    return _draw_panels(
        report, "roc", f"ROC curve, all {report.data.site_kind}s together", _draw_roc_panel, needs_points=True,
        legend={"model, with 95% band at each threshold": _LINE,
                "no better than a coin": _REFERENCE},
    )  # fmt: skip


def draw_precision_recall(report: Report) -> Plot | None:
    """Draw precision against sensitivity; None without points."""
    return _draw_panels(
        report, "precision_recall", f"Precision-recall curve, all {report.data.site_kind}s together",
        _draw_precision_panel, needs_points=True,
        legend={"model, with 95% band at each threshold": _LINE,
                "share of the class": _REFERENCE},
    )  # fmt: skip


def draw_score_histograms(report: Report) -> Plot | None:
    """Draw how examples with and without the class are distributed over the scores; None without groups."""
    return _draw_panels(
        report, "scores", f"Scores by outcome, all {report.data.site_kind}s together", _draw_histogram_panel,
        legend={"with the class": {**_LINE, "color": LOCAL, "lw": 6}, "without": {**_LINE, "lw": 6}},
    )  # fmt: skip


def draw_probability_calibration(report: Report) -> Plot | None:
    """Draw the observed share against the predicted probability, with the examples under it; None without groups."""
    return _draw_panels(
        report, "probability_calibration", f"Calibration on probability axes, all {report.data.site_kind}s together",
        _draw_calibration_panel,
        legend={
            "observed share, with 95% interval": {**_LINE, "marker": "o"},
            "perfect calibration": _REFERENCE,
            "share of the examples": {**_LINE, "color": RULE, "lw": 6},
        },
    )  # fmt: skip


_Drawer = Callable[["Axes", Calibration, Evaluation], str]


def _draw_panels(
    report: Report,
    name: str,
    title: str,
    draw: _Drawer,
    legend: dict[str, dict[str, Any]],
    needs_points: bool = False,
) -> Plot | None:
    panels = [item for item in list_panels(report) if item[1].points or not needs_points]
    pooled = report.federated.pooled if report.federated else None
    if not panels or pooled is None:
        return None
    several = len(panels) > 1
    most = 28 if several else 46  # characters that fit above a panel
    with plot_style():
        if several:
            canvas, axes = create_tiles(len(panels), legend_rows=1)
        else:
            canvas, axes = create_panel_grid(1, 1, width=SINGLE_WIDTH, row_height=ROW_HEIGHT)
        parts = []
        for (label, calibration), here in zip(panels, axes, strict=True):
            here.set_title(label if len(label) <= most else f"{label[: most - 1]}…", loc="left", fontsize=9)
            here.tick_params(labelsize=8, labelleft=True)
            parts.append(f"{label}: {draw(here, calibration, pooled)}")
        if several:
            add_tile_legend(canvas, legend)
        else:
            add_legend(canvas, legend, loc="outside lower center", ncols=1, fontsize=8)
        plot = finish_plot(canvas, report, name, title, "; ".join(parts))
        return cut_tiles(plot, report, name, parts, legend) if several else plot


def _split(figures: Sequence[Figure]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values and ends of their intervals; the value where there is no interval, NaN where there is none."""
    value = np.array([np.nan if item.value is None else item.value for item in figures])
    low = np.array([np.nan if item.low is None else item.low for item in figures])
    high = np.array([np.nan if item.high is None else item.high for item in figures])
    return value, np.where(np.isnan(low), value, low), np.where(np.isnan(high), value, high)


def _draw_roc_panel(axes: Axes, calibration: Calibration, pooled: Evaluation) -> str:
    points = calibration.points
    sensitivity, low, high = _split([point.sensitivity for point in points])
    wrong = 1 - _split([point.specificity for point in points])[0]
    x, y = np.r_[1, wrong, 0], np.r_[1, sensitivity, 0]
    axes.fill_between(np.r_[1, wrong, 0], np.r_[1, low, 0], np.r_[1, high, 0], color=FEDERATED, alpha=0.18, lw=0)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1.0, ls=DASHED)
    axes.plot(x, y, **_LINE)
    _mark_used(axes, points, pooled, [1 - _value(point.specificity) for point in points], list(sensitivity))
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="1 - specificity: flagged wrongly", ylabel="sensitivity: found")
    return f"area {format_number(float(np.trapezoid(y[::-1], x[::-1])))} between {len(points)} thresholds"


def _draw_precision_panel(axes: Axes, calibration: Calibration, pooled: Evaluation) -> str:
    points = [point for point in calibration.points if point.precision.value is not None]
    recall = _split([point.sensitivity for point in points])[0]
    precision, low, high = _split([point.precision for point in points])
    axes.fill_between(recall, low, high, color=FEDERATED, alpha=0.18, lw=0)
    axes.plot(recall, precision, **_LINE)
    examples = sum(group.examples for group in calibration.groups)
    share = sum(group.events for group in calibration.groups) / examples if examples else 0.0
    axes.axhline(share, color=MUTED, lw=1.0, ls=DASHED)
    _mark_used(axes, points, pooled, list(recall), list(precision))
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="sensitivity: found", ylabel="precision: flagged rightly")
    return f"{100 * share:.1f} of 100 examples have the class"


def _value(figure: Figure) -> float:
    return float("nan") if figure.value is None else figure.value


def _mark_used(
    axes: Axes, points: Sequence[CurvePoint], pooled: Evaluation, x: Sequence[float], y: Sequence[float]
) -> None:
    """Mark the point nearest to the threshold in use, of an event."""
    if not pooled.binary or not points:
        return
    used = pooled.threshold or 0.0
    nearest = min(range(len(points)), key=lambda at: abs(points[at].log_odds - used))
    axes.plot([x[nearest]], [y[nearest]], color=INK, marker="D", ms=6, ls="none", clip_on=False, zorder=5)
    axes.annotate("in use", (x[nearest], y[nearest]), xytext=(6, 4), textcoords="offset points", fontsize=8)


def _draw_histogram_panel(axes: Axes, calibration: Calibration, pooled: Evaluation) -> str:
    groups = calibration.groups
    events = sum(group.events for group in groups)
    others = sum(group.examples for group in groups) - events
    lowest = min((group.low for group in groups if group.low is not None), default=-6.0)
    at = np.array([lowest - 1 if group.low is None else group.low for group in groups])
    having = np.array([group.events / events if events else 0.0 for group in groups])
    without = np.array([(group.examples - group.events) / others if others else 0.0 for group in groups])
    axes.bar(at + 0.27, 100 * without, width=0.42, color=FEDERATED)
    axes.bar(at + 0.73, 100 * having, width=0.42, color=LOCAL)
    if pooled.binary:
        axes.axvline(pooled.threshold or 0.0, color=INK, lw=1.2, ls=DASHED)
    ticks = [tick for tick in (-6, -3, 0, 3, 6) if at.min() <= tick <= at.max() + 1]
    axes.set_xticks(ticks, [format_hundred(1 / (1 + math.exp(-tick))) for tick in ticks])
    axes.set(xlabel="predicted probability (%)", ylabel="share of each outcome (%)")
    return f"{events:,} examples with the class and {others:,} without"


def _draw_calibration_panel(axes: Axes, calibration: Calibration, pooled: Evaluation) -> str:
    groups = [group for group in calibration.groups if group.predicted is not None and group.observed.value is not None]
    total = sum(group.examples for group in groups)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1.0, ls=DASHED)
    for group in groups:
        low = 0.0 if group.low is None else 1 / (1 + np.exp(-group.low))
        high = 1.0 if group.high is None else 1 / (1 + np.exp(-group.high))
        axes.bar(low, 0.25 * group.examples / total, width=high - low, bottom=-0.3, align="edge", color=RULE, lw=0)
        if group.observed.low is not None and group.observed.high is not None:
            axes.plot([group.predicted or 0.0] * 2, [group.observed.low, group.observed.high], color=FEDERATED, lw=1.2)
    x, y = [group.predicted or 0.0 for group in groups], [group.observed.value or 0.0 for group in groups]
    axes.plot(x, y, marker="o", ms=4, **_LINE)
    axes.axhline(-0.3, color=RULE, lw=0.8)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set(xlim=(0, 1), ylim=(-0.31, 1.02), xlabel="predicted probability", ylabel="observed share")
    return f"expected calibration error {format_number(calibration.ece.value)}"
