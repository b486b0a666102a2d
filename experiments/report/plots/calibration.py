"""Plots of a score read as a chance: the reliability diagram and the decision curve, everywhere and at each hospital.

Both have axes even in log odds, as the groups and thresholds are (common/metrics/calibration.py): rare events stay
readable,
and slope and intercept of the logistic recalibration are those of the points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logit

from common.metrics.figures import FEW_PATIENTS, Calibration, Evaluation, ReliabilityGroup
from experiments.report.document.report import Report
from experiments.report.plots.drawing import FEDERATED, INK, MUTED, RULE, SERIES, create_canvas, finish_svg, page_style
from experiments.report.text.formatting import format_number, make_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLUMNS = 5
MAX_SITES = 40
"""More hospitals than these are not drawn: those with the greatest expected calibration error are."""
MAX_LOG_ODDS = 8.0
"""Log odds at which the axes of a reliability diagram end; what lies beyond stands there, as a triangle."""
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
PERCENT = (0.1, 1, 10, 50, 90, 99, 99.9)
ALL_HOSPITALS = "all hospitals"


@dataclass(frozen=True)
class Panel:
    """One small plot: its name, whose figures, and the classes whose scores it shows."""

    name: str
    item: Evaluation
    classes: tuple[str, ...]

    def calibration(self, name: str) -> Calibration | None:
        """Return how far a class's scores can be read as chances here."""
        part = self.item.classes.get(name)
        return part.calibration if part else None

    @property
    def few(self) -> bool:
        """Whether it rests on few patients, in all or with the class."""
        held = [self.item.patients, *(self.item.classes[name].patients for name in self.classes)]
        return min(held) < FEW_PATIENTS


def draw_reliability(report: Report) -> str:
    """Return the reliability diagram as `<svg>`: of an event everywhere and at each hospital, of several classes each.

    Empty where no reliability diagram was computed.
    """
    if report.binary:
        panels, left = _everywhere_and_sites(report)
        title = f"Reliability diagram of the event, {ALL_HOSPITALS} and each{_limit(left)}"
    else:
        whole = report.federated.pooled if report.federated else None
        names = list(whole.classes)[:MAX_SITES] if whole else []
        panels = [Panel(report.class_titles.get(name, name), whole, (name,)) for name in names] if whole else []
        title = f"Reliability diagram of each class, {ALL_HOSPITALS} together"
    return _reliability(report, "reliability", title, panels)


def draw_site_reliability(report: Report) -> str:
    """Return reliability diagrams of several classes at each hospital as `<svg>`; empty where there are none."""
    model = report.federated
    if report.binary or model is None or model.pooled is None:
        return ""
    judged = {name: part.calibration for name, part in model.pooled.classes.items() if part.calibration}
    worst = sorted(judged, key=lambda name: -(judged[name].ece.value or 0))[: len(SERIES)]
    names = tuple(name for name in judged if name in worst)
    sites, left = _sites(report)
    panels = [Panel(name, item, names) for name, item in sites]
    title = f"Reliability diagram of {'each class' if len(names) == len(judged) else 'the worst classes'} at each"
    return _reliability(report, "reliability_sites", f"{title} hospital{_limit(left)}", panels)


def draw_decision_curves(report: Report) -> str:
    """Return the decision curve of an event, everywhere and at each hospital, as `<svg>`; empty where there is none."""
    panels, left = _everywhere_and_sites(report) if report.binary else ([], 0)
    if not any(_curve(panel) for panel in panels):
        return ""
    with page_style():
        drawing, axes, at = _grid(len(panels), 1.35, legend=2)
        said = []
        for place, (panel, here) in enumerate(zip(panels, axes, strict=True)):
            _head(here, panel)
            _ends(here, place + at >= len(panels), "from this chance on (%)", "net benefit" if place % at == 0 else "")
            said.append(_benefit(here, panel))
            here.locator_params(axis="y", nbins=4)
        line = {"color": FEDERATED, "lw": 1.8}
        _legend(
            drawing,
            {
                "treat whom the model calls, with 95% interval": line,
                "treat all": {"color": MUTED, "lw": 1.2, "ls": (0, (5, 2))},
                "treat none": {"color": INK, "lw": 1.0, "ls": (0, (1, 1.5))},
                **({f"† fewer than {FEW_PATIENTS} patients, or with the event": {**line, "ls": (0, (3, 1))}}
                   if any(panel.few for panel in panels) else {}),
            },
        )  # fmt: skip
        title = f"Decision curve of the event, {ALL_HOSPITALS} and each{_limit(left)}"
        return finish_svg(drawing, report, "decision", title, "; ".join(said))


def _reliability(report: Report, name: str, title: str, panels: Sequence[Panel]) -> str:
    if not any((found := panel.calibration(c)) and found.groups for panel in panels for c in panel.classes):
        return ""
    looks = _looks(report, panels[0].classes) if len(panels[0].classes) > 1 else {}
    with page_style():
        drawing, axes, at = _grid(len(panels), 1.7, legend=math.ceil((len(looks) or 1) / 3) + 1)
        said = []
        for place, (panel, here) in enumerate(zip(panels, axes, strict=True)):
            _head(here, panel)
            here.plot(
                [-MAX_LOG_ODDS, MAX_LOG_ODDS],
                [-MAX_LOG_ODDS, MAX_LOG_ODDS],
                color=MUTED,
                lw=0.9,
                ls=(0, (4, 2)),
                zorder=1,
            )
            said.append(f"{panel.name}: {_points(here, panel, looks)}")
            _ends(here, place + at >= len(panels), "mean chance (%)", "observed share (%)" if place % at == 0 else "")
            here.set(xlim=(-MAX_LOG_ODDS, MAX_LOG_ODDS), ylim=(-MAX_LOG_ODDS, MAX_LOG_ODDS))
            here.set_yticks(logit(np.asarray(PERCENT) / 100), [f"{n:g}" for n in PERCENT] if place % at == 0 else [])
        dot = {"color": INK if looks else FEDERATED, "marker": "o", "ls": "none", "ms": 5.0}
        entries: dict[str, dict[str, Any]] = {
            f"{key} ({report.class_titles.get(key, key)})": looks[key] for key in looks
        }
        if not looks:
            entries["examples of like scores, with 95% interval"] = {**dot, "ls": "-", "lw": 1.2}
        entries |= {
            f"of fewer than {FEW_PATIENTS} patients, or not known of how many": {**dot, "mfc": "none"},
            "none (▼) or all (▲) had the class": {**dot, "marker": "^"},
            "best: share and chance agree": {"color": MUTED, "lw": 0.9, "ls": (0, (4, 2))},
        }
        _legend(drawing, entries)
        return finish_svg(drawing, report, name, title, "; ".join(said))


def _everywhere_and_sites(report: Report) -> tuple[list[Panel], int]:
    """Return the panels of an event, and how many hospitals have none because they are too many."""
    event = tuple(report.class_titles)[1:2]
    sites, left = _sites(report)
    whole = report.federated.pooled if report.federated else None
    first = [Panel(ALL_HOSPITALS, whole, event)] if whole else []
    return first + [Panel(name, item, event) for name, item in sites], left


def _sites(report: Report) -> tuple[list[tuple[str, Evaluation]], int]:
    found = dict(report.federated.sites) if report.federated else {}
    error = {name: item.ece.value if item.ece and item.ece.value is not None else -1.0 for name, item in found.items()}
    chosen = sorted(error, key=lambda name: -error[name])[:MAX_SITES]
    return [(name, item) for name, item in found.items() if name in chosen], len(found) - len(chosen)


def _limit(left: int) -> str:
    return f" ({MAX_SITES} with the greatest calibration error; {left} more not drawn)" if left else ""


def _grid(panels: int, tall: float, legend: int) -> tuple[Any, list[Axes], int]:
    """Return a drawing of panels `tall` inches high over a legend of rows, its axes, and how many stand in a row."""
    at = min(COLUMNS, max(panels, 3))
    rows = math.ceil(panels / at)
    top, bottom, between = 0.5, 0.65 + 0.19 * legend, 0.5
    height = top + bottom + rows * tall + (rows - 1) * between
    drawing, axes = create_canvas(
        height, panels, columns=at, left=0.65, right=0.15, top=top, bottom=bottom, apart=0.26, below=between / tall
    )
    return drawing, axes, at


def _head(axes: Axes, panel: Panel) -> None:
    name = panel.name if len(panel.name) <= 24 else f"{panel.name[:23]}…"
    weight = "bold" if panel.name == ALL_HOSPITALS else "normal"
    mark = "†" if panel.few and len(panel.classes) == 1 else ""
    axes.set_title(f"{name}{mark}", loc="left", fontsize=9, fontweight=weight, pad=4)
    axes.tick_params(labelsize=7, pad=2)
    axes.grid(color=RULE, lw=0.5)


def _ends(axes: Axes, low: bool, x: str, y: str) -> None:
    """Mark chances on an x axis in log odds; write what the axes are, below only where nothing stands below."""
    axes.set_xticks(logit(np.asarray(PERCENT) / 100), [f"{n:g}" for n in PERCENT] if low else [])
    if low:
        axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def _looks(report: Report, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return how each class is drawn: by colour and by shape."""
    order = list(report.class_titles)
    return {
        name: {"color": SERIES[place], "marker": SHAPES[place], "ms": 4.0, "lw": 0.8}
        for place, name in enumerate(sorted(names, key=order.index))
    }


def _points(axes: Axes, panel: Panel, looks: dict[str, dict[str, Any]]) -> str:
    """Draw a panel's groups of examples; return what they say."""
    said = []
    for name in panel.classes:
        found = panel.calibration(name)
        groups = [group for group in found.groups if group.observed.value is not None] if found else []
        if not groups or found is None:
            continue
        look = looks.get(name, {"color": FEDERATED, "marker": "o", "ms": 4.4, "lw": 1.0})
        x = [_odds(group.predicted or 0.0) for group in groups]
        y = [_odds(group.observed.value or 0.0) for group in groups]
        joined = [
            math.nan if _few(group) or abs(at) == MAX_LOG_ODDS else at for group, at in zip(groups, y, strict=True)
        ]
        axes.plot(x, joined, color=look["color"], lw=look["lw"], alpha=0.7, zorder=2)
        for here, there, group in zip(x, y, groups, strict=True):
            _point(axes, here, there, group, look, whisker=not looks)
        said.append((f"{name} " if looks else "") + _spoken(found))
        if not looks:
            text = f"slope {format_number(found.slope.value)}\nerror {format_number(found.ece.value)}"
            axes.text(0.97, 0.04, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=7, color=MUTED)
    if not said:
        said = [_nothing(axes, panel)]
    return ", ".join(said)


def _few(group: ReliabilityGroup) -> bool:
    return group.patients is None or group.patients < FEW_PATIENTS


def _point(axes: Axes, x: float, y: float, group: ReliabilityGroup, look: dict[str, Any], whisker: bool) -> None:
    share = group.observed
    if whisker and share.low is not None and share.high is not None:
        axes.plot([x, x], [_odds(share.low), _odds(share.high)], color=look["color"], lw=1.2, zorder=3)
    marker = "v" if y == -MAX_LOG_ODDS else "^" if y == MAX_LOG_ODDS else look["marker"]
    fill = "none" if _few(group) else look["color"]
    axes.plot([x], [y], color=look["color"], marker=marker, mfc=fill, ms=look["ms"], ls="none", clip_on=False, zorder=4)


def _odds(chance: float) -> float:
    """Return log odds within the axes."""
    return float(np.clip(logit(chance), -MAX_LOG_ODDS, MAX_LOG_ODDS))


def _spoken(found: Calibration) -> str:
    parts = {"slope": found.slope, "intercept": found.intercept, "expected calibration error": found.ece}
    return ", ".join(f"{name} {format_number(figure.value)}" for name, figure in parts.items())


def _nothing(axes: Axes, panel: Panel) -> str:
    """Say in a panel why it is empty; return the reason."""
    why = make_cell(panel.item, "ece").reason or "no such examples here"
    axes.text(0.5, 0.5, why.replace(" (", "\n("), transform=axes.transAxes, ha="center", va="center", fontsize=7)
    return why


def _curve(panel: Panel) -> list[tuple[float, float, float, float, float]]:
    """Return of each threshold its log odds, the net benefit with its interval, and that of treating all."""
    found = panel.calibration(panel.classes[0]) if panel.classes else None
    return [
        (
            float(logit(point.chance)),
            point.value.value,
            point.value.value if point.value.low is None else point.value.low,
            point.value.value if point.value.high is None else point.value.high,
            point.treat_all,
        )
        for point in (found.curve if found else ())
        if point.value.value is not None and point.treat_all is not None
    ]


def _benefit(axes: Axes, panel: Panel) -> str:
    """Draw a panel's decision curve; return what it says."""
    points = _curve(panel)
    if not points:
        return f"{panel.name}: {_nothing(axes, panel)}"
    x, value, low, high, every = (np.asarray(part) for part in zip(*points, strict=True))
    axes.fill_between(x, low, high, color=FEDERATED, alpha=0.18, lw=0, zorder=2)
    axes.plot(x, every, color=MUTED, lw=1.2, ls=(0, (5, 2)), zorder=3)
    axes.axhline(0, color=INK, lw=1.0, ls=(0, (1, 1.5)), zorder=3)
    axes.plot(x, value, color=FEDERATED, lw=1.8, ls=(0, (3, 1)) if panel.few else "-", zorder=4)
    top = max(float(value.max()), float(every.max()), 1e-3)
    axes.set(xlim=(x.min(), x.max()), ylim=(-0.3 * top, 1.1 * top))
    best = np.flatnonzero(value > np.maximum(every, 0) + 1e-9)
    if not len(best):
        return f"{panel.name}: the model is nowhere better than treating all or none"
    chances = [1 / (1 + math.exp(-x[i])) for i in (best[0], best[-1])]
    gaps = "" if len(best) == best[-1] - best[0] + 1 else ", not everywhere between"
    return (
        f"{panel.name}: the model is better than treating all or none from a chance of {format_number(chances[0])} "
        f"to {format_number(chances[1])}{gaps}"
    )


def _legend(drawing: Any, entries: dict[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Line2D] = [Line2D([], [], **look) for look in entries.values()]
    drawing.legend(
        handles, entries.keys(), loc="lower center", ncols=3, frameon=False, handlelength=3.0, fontsize=8,
        borderaxespad=0.2,
    )  # fmt: skip
