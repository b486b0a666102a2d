"""Reliability diagrams and decision curves, over all hospitals and at each.

Their axes are linear in log odds, as are the groups of scores and the thresholds (common/metrics/calibration.py): rare
events stay readable, and the calibration slope is the slope of the marks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logit

from common.metrics.figures import FEW_PATIENTS, Calibration, Evaluation, ReliabilityGroup
from common.metrics.patient_counts import count_patients
from experiments.report.document.report import Report
from experiments.report.plots.drawing import (
    DASHED,
    DOTTED,
    FEDERATED,
    INK,
    MUTED,
    RULE,
    SERIES,
    Plot,
    finish_plot,
    plot_style,
)
from experiments.report.plots.tiles import add_tile_legend, create_tiles, cut_tiles
from experiments.report.text.formatting import format_number, make_cell

if TYPE_CHECKING:
    from experiments.report.plots.drawing import Axes

MAX_SITES = 40
"""Of more hospitals than this, those with the greatest expected calibration error are drawn."""
MAX_LOG_ODDS = 8.0
"""Log odds at which the axes of a reliability diagram end; values beyond are drawn there, as triangles."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PERCENT_TICKS = (0.1, 1, 10, 50, 90, 99, 99.9)


@dataclass(frozen=True)
class Panel:
    """One panel of a plot.

    Attributes:
        name: its title: a hospital, all hospitals, or a class.
        evaluation: the results it shows.
        classes: the classes whose scores it shows.
        merged: whether it shows all hospitals together.
    """

    name: str
    evaluation: Evaluation
    classes: tuple[str, ...]
    merged: bool = False

    def get_calibration(self, name: str) -> Calibration | None:
        """Return the calibration of a class, None if it was not computed."""
        part = self.evaluation.classes.get(name)
        return part.calibration if part else None

    @property
    def few(self) -> bool:
        """Whether it is based on fewer than FEW_PATIENTS patients: in all, with one of the classes, or without it."""
        patients = [count_patients(self.evaluation, "slope", name) for name in self.classes]
        return min([self.evaluation.patients, *patients]) < FEW_PATIENTS


def draw_reliability(report: Report) -> Plot | None:
    """Draw the reliability diagram: of an event for all hospitals and each, of several classes for each class.

    Returns:
        None if no reliability diagram was computed.
    """
    if report.binary:
        panels, omitted = _list_event_panels(report)
        title = f"Reliability diagram of the event, all {report.data.site_kind}s and each{_describe_omitted(omitted)}"
    else:
        pooled = report.federated.pooled if report.federated else None
        names = list(pooled.classes)[:MAX_SITES] if pooled else []
        panels = [Panel(report.class_titles.get(name, name), pooled, (name,)) for name in names] if pooled else []
        title = f"Reliability diagram of each class, all {report.data.site_kind}s together"
    return _draw_reliability_panels(report, "reliability", title, panels)


def draw_site_reliability(report: Report) -> Plot | None:
    """Draw the reliability diagrams of several classes at each hospital; None if there are none."""
    model = report.federated
    if report.binary or model is None or model.pooled is None:
        return None
    calibrations = {name: part.calibration for name, part in model.pooled.classes.items() if part.calibration}
    worst = sorted(calibrations, key=lambda name: -(calibrations[name].ece.value or 0))[: len(SERIES)]
    names = tuple(name for name in calibrations if name in worst)
    sites, omitted = _select_sites(report)
    panels = [Panel(name, evaluation, names) for name, evaluation in sites]
    which = "each class" if len(names) == len(calibrations) else "the worst calibrated classes"
    title = f"Reliability diagram of {which} at each {report.data.site_kind}{_describe_omitted(omitted)}"
    return _draw_reliability_panels(report, "reliability_sites", title, panels)


def draw_decision_curves(report: Report) -> Plot | None:
    """Draw the decision curve of an event for all hospitals and each; None if there is none."""
    panels, omitted = _list_event_panels(report) if report.binary else ([], 0)
    if not any(_list_curve_points(panel) for panel in panels):
        return None
    with plot_style():
        canvas, axes = create_tiles(len(panels), legend_rows=2)
        descriptions = []
        for panel, here in zip(panels, axes, strict=True):
            _draw_title(here, panel)
            _label_axes(here, "probability threshold (%)", "net benefit")
            descriptions.append(_draw_net_benefit(here, panel))
            here.locator_params(axis="y", nbins=4)
        line = {"color": FEDERATED, "lw": 1.8}
        entries: dict[str, dict[str, Any]] = {
            "treat by the model, with 95% interval": line,
            "treat all": {"color": MUTED, "lw": 1.2, "ls": DASHED},
            "treat none": {"color": INK, "lw": 1.0, "ls": DOTTED},
        }
        if any(panel.few for panel in panels):
            entries[f"† fewer than {FEW_PATIENTS} patients with or without the event"] = {
                **line,
                "ls": (0, (3, 1)),
            }
        add_tile_legend(canvas, entries)
        title = f"Decision curve of the event, all {report.data.site_kind}s and each{_describe_omitted(omitted)}"
        plot = finish_plot(canvas, report, "decision", title, "; ".join(descriptions))
        return cut_tiles(plot, report, "decision", descriptions, entries)


def _draw_reliability_panels(report: Report, name: str, title: str, panels: Sequence[Panel]) -> Plot | None:
    calibrations = [panel.get_calibration(label) for panel in panels for label in panel.classes]
    if not any(calibration and calibration.groups for calibration in calibrations):
        return None
    styles = _choose_styles(report, panels[0].classes) if len(panels[0].classes) > 1 else {}
    with plot_style():
        canvas, axes = create_tiles(len(panels), legend_rows=math.ceil((len(styles) or 1) / 3) + 1)
        descriptions = []
        for panel, here in zip(panels, axes, strict=True):
            _draw_title(here, panel)
            here.plot([-MAX_LOG_ODDS, MAX_LOG_ODDS], [-MAX_LOG_ODDS, MAX_LOG_ODDS], color=MUTED, lw=0.9, ls=DASHED)
            descriptions.append(f"{panel.name}: {_draw_groups(here, panel, styles)}")
            _label_axes(here, "predicted probability (%)", "observed share (%)")
            here.set(xlim=(-MAX_LOG_ODDS, MAX_LOG_ODDS), ylim=(-MAX_LOG_ODDS, MAX_LOG_ODDS))
            here.set_yticks(_tick_positions(), _tick_labels())
        mark = {"color": INK if styles else FEDERATED, "marker": "o", "ls": "none", "ms": 5.0}
        entries: dict[str, dict[str, Any]] = {
            f"{label} ({report.class_titles.get(label, label)})": style for label, style in styles.items()
        }
        if not styles:
            entries["examples grouped by score, with 95% interval"] = {**mark, "ls": "-", "lw": 1.2}
        entries |= {
            f"fewer than {FEW_PATIENTS} patients, or an unknown number": {**mark, "mfc": "none"},
            "none (▼) or all (▲) had the class": {**mark, "marker": "^"},
            "perfect calibration": {"color": MUTED, "lw": 0.9, "ls": DASHED},
        }
        add_tile_legend(canvas, entries)
        plot = finish_plot(canvas, report, name, title, "; ".join(descriptions))
        return cut_tiles(plot, report, name, descriptions, entries)


def _list_event_panels(report: Report) -> tuple[list[Panel], int]:
    """Return the panels of an event, and the number of hospitals omitted because there are too many."""
    event = tuple(report.class_titles)[1:2]
    sites, omitted = _select_sites(report)
    pooled = report.federated.pooled if report.federated else None
    first = [Panel(f"all {report.data.site_kind}s", pooled, event, merged=True)] if pooled else []
    return first + [Panel(name, evaluation, event) for name, evaluation in sites], omitted


def _select_sites(report: Report) -> tuple[list[tuple[str, Evaluation]], int]:
    """Return the hospitals to draw, and the number of those omitted."""
    sites = dict(report.federated.sites) if report.federated else {}
    errors = {name: item.ece.value if item.ece and item.ece.value is not None else -1.0 for name, item in sites.items()}
    selected = sorted(errors, key=lambda name: -errors[name])[:MAX_SITES]
    return [(name, item) for name, item in sites.items() if name in selected], len(sites) - len(selected)


def _describe_omitted(omitted: int) -> str:
    return f" ({MAX_SITES} with the greatest calibration error; {omitted} more not drawn)" if omitted else ""


def _draw_title(axes: Axes, panel: Panel) -> None:
    name = panel.name if len(panel.name) <= 24 else f"{panel.name[:23]}…"
    weight = "bold" if panel.merged else "normal"
    mark = "†" if panel.few and len(panel.classes) == 1 else ""
    axes.set_title(f"{name}{mark}", loc="left", fontsize=10, fontweight=weight, pad=4)
    axes.tick_params(labelsize=8, pad=2)
    axes.grid(color=RULE, lw=0.5)


def _tick_positions() -> list[float]:
    return [float(at) for at in logit(np.asarray(PERCENT_TICKS) / 100)]


def _tick_labels() -> list[str]:
    return [f"{percent:g}" for percent in PERCENT_TICKS]


def _label_axes(axes: Axes, x: str, y: str) -> None:
    """Mark probabilities on the x axis, which is in log odds."""
    axes.set_xticks(_tick_positions(), _tick_labels())
    axes.set_xlabel(x, fontsize=8.5)
    axes.set_ylabel(y, fontsize=8.5)


def _choose_styles(report: Report, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the colour and marker of each class."""
    order = list(report.class_titles)
    return {
        name: {"color": colour, "marker": marker, "ms": 4.0, "lw": 0.8}
        for name, colour, marker in zip(sorted(names, key=order.index), SERIES, MARKERS, strict=False)
    }


def _draw_groups(axes: Axes, panel: Panel, styles: Mapping[str, dict[str, Any]]) -> str:
    """Draw the groups of examples of a panel; return their description."""
    descriptions = []
    for name in panel.classes:
        calibration = panel.get_calibration(name)
        groups = [group for group in calibration.groups if group.observed.value is not None] if calibration else []
        if not groups or calibration is None:
            continue
        style = styles.get(name, {"color": FEDERATED, "marker": "o", "ms": 4.4, "lw": 1.0})
        x = [_to_log_odds(group.predicted or 0.0) for group in groups]
        y = [_to_log_odds(group.observed.value or 0.0) for group in groups]
        joined = [
            math.nan if _has_few_patients(group) or abs(at) == MAX_LOG_ODDS else at
            for group, at in zip(groups, y, strict=True)
        ]
        axes.plot(x, joined, color=style["color"], lw=style["lw"], alpha=0.7, zorder=2)
        for here, there, group in zip(x, y, groups, strict=True):
            _draw_mark(axes, here, there, group, style, with_interval=not styles)
        descriptions.append((f"{name} " if styles else "") + _describe_calibration(calibration))
        if not styles:
            text = f"slope {format_number(calibration.slope.value)}\nECE {format_number(calibration.ece.value)}"
            axes.text(
                0.97,
                0.04,
                text,
                transform=axes.transAxes,
                ha="right",
                va="bottom",
                fontsize=8,
                multialignment="right",
                color=MUTED,
            )
    return ", ".join(descriptions or [_draw_reason(axes, panel)])


def _has_few_patients(group: ReliabilityGroup) -> bool:
    return group.patients is None or group.patients < FEW_PATIENTS


def _draw_mark(
    axes: Axes, x: float, y: float, group: ReliabilityGroup, style: Mapping[str, Any], with_interval: bool
) -> None:
    share, colour = group.observed, style["color"]
    if with_interval and share.low is not None and share.high is not None:
        axes.plot([x, x], [_to_log_odds(share.low), _to_log_odds(share.high)], color=colour, lw=1.2, zorder=3)
    marker = "v" if y == -MAX_LOG_ODDS else "^" if y == MAX_LOG_ODDS else style["marker"]
    fill = "none" if _has_few_patients(group) else colour
    axes.plot([x], [y], color=colour, marker=marker, mfc=fill, ms=style["ms"], ls="none", clip_on=False, zorder=4)


def _to_log_odds(probability: float) -> float:
    """Return log odds, limited to the range of the axes."""
    return float(np.clip(logit(probability), -MAX_LOG_ODDS, MAX_LOG_ODDS))


def _describe_calibration(calibration: Calibration) -> str:
    parts = {
        "slope": calibration.slope,
        "intercept": calibration.intercept,
        "expected calibration error": calibration.ece,
    }
    return ", ".join(f"{name} {format_number(figure.value)}" for name, figure in parts.items())


def _draw_reason(axes: Axes, panel: Panel) -> str:
    """Write into an empty panel why it is empty; return the reason."""
    reason = make_cell(panel.evaluation, "ece").reason or "no such examples here"
    axes.text(0.5, 0.5, reason.replace(" (", "\n("), transform=axes.transAxes, ha="center", va="center", fontsize=8.5)
    return reason


def _list_curve_points(panel: Panel) -> list[tuple[float, float, float, float, float]]:
    """Return for each threshold its log odds, the net benefit with its interval, and that of treating all."""
    calibration = panel.get_calibration(panel.classes[0]) if panel.classes else None
    return [
        (
            float(logit(point.probability)),
            point.value.value,
            point.value.value if point.value.low is None else point.value.low,
            point.value.value if point.value.high is None else point.value.high,
            point.treat_all,
        )
        for point in (calibration.curve if calibration else ())
        if point.value.value is not None and point.treat_all is not None
    ]


def _draw_net_benefit(axes: Axes, panel: Panel) -> str:
    """Draw the decision curve of a panel; return its description."""
    points = _list_curve_points(panel)
    if not points:
        return f"{panel.name}: {_draw_reason(axes, panel)}"
    x, value, low, high, treat_all = (np.asarray(part) for part in zip(*points, strict=True))
    axes.fill_between(x, low, high, color=FEDERATED, alpha=0.18, lw=0, zorder=2)
    axes.plot(x, treat_all, color=MUTED, lw=1.2, ls=DASHED, zorder=3)
    axes.axhline(0, color=INK, lw=1.0, ls=DOTTED, zorder=3)
    axes.plot(x, value, color=FEDERATED, lw=1.8, ls=(0, (3, 1)) if panel.few else "-", zorder=4)
    top = max(float(value.max()), float(treat_all.max()), 1e-3)
    axes.set(xlim=(x.min(), x.max()), ylim=(-0.3 * top, 1.1 * top))
    better = np.flatnonzero(value > np.maximum(treat_all, 0) + 1e-9)
    if not len(better):
        return f"{panel.name}: the model is nowhere better than treating all or none"
    first, last = (1 / (1 + math.exp(-x[index])) for index in (better[0], better[-1]))
    gaps = "" if len(better) == better[-1] - better[0] + 1 else ", not everywhere between"
    return (
        f"{panel.name}: the model is better than treating all or none at thresholds from {format_number(first)} "
        f"to {format_number(last)}{gaps}"
    )
