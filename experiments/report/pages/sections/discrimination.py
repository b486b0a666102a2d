"""How well the scores separate the classes: curves, score histograms, and small drawings for each hospital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.metrics.figures import CurvePoint, ReliabilityGroup
from common.percent import format_percent
from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.plots import discrimination
from experiments.report.text.thresholds import format_probability_range


@dataclass(frozen=True)
class SiteCurve:
    """The small drawings of one hospital.

    Attributes:
        site: the hospital.
        number: its number on the page.
        events: test examples with the event.
        others: test examples without it.
        line: the ROC curve as points of an SVG polyline in a square of 100.
        bars: x, width, height without and height with the event of each group of scores, in the same square.
        few: whether fewer than ten examples of one outcome were tested.
    """

    site: str
    number: int
    events: int
    others: int
    line: str
    bars: Sequence[tuple[float, float, float, float]]
    few: bool


def draw_site_curve(site: str, number: int, groups: Sequence[ReliabilityGroup]) -> SiteCurve:
    """Return the drawings of a hospital from its groups of scores."""
    events = sum(group.events for group in groups)
    others = sum(group.examples for group in groups) - events
    points, hits, wrong = [(0.0, 100.0)], 0, 0
    for group in reversed(groups):
        hits, wrong = hits + group.events, wrong + group.examples - group.events
        points.append((100 * wrong / others if others else 0.0, 100 - (100 * hits / events if events else 0.0)))
    bars = []
    for group in groups:
        at = -7 if group.low is None else group.low
        without = (group.examples - group.events) / others if others else 0.0
        bars.append(((at + 7) * 100 / 14, 100 / 14, 100 * without, 100 * group.events / events if events else 0.0))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return SiteCurve(site, number, events, others, line, bars, min(events, others) < 10)


def list_site_curves(report: Report) -> list[SiteCurve]:
    """Return the drawings of every hospital that counts an event by groups of scores."""
    model = report.federated
    if model is None or not report.binary:
        return []
    numbers = {site.name: number for number, site in enumerate(report.sites, 1)}
    curves = []
    for site, evaluation in model.sites.items():
        calibration = list(evaluation.classes.values())[-1].calibration
        if calibration is not None and calibration.groups:
            curves.append(draw_site_curve(site, numbers.get(site, 0), calibration.groups))
    return curves


def list_curve_points(report: Report) -> list[tuple[str, str, CurvePoint]]:
    """Return the class, the threshold as a probability and the point of each curve, without repeated points."""
    rows: list[tuple[str, str, CurvePoint]] = []
    for title, calibration in discrimination.list_panels(report):
        before: CurvePoint | None = None
        for point in calibration.points:
            repeated = before is not None and before.sensitivity == point.sensitivity
            if not (repeated and before is not None and before.specificity == point.specificity):
                rows.append((title, format_percent(1 / (1 + 2.718281828459045**-point.log_odds)), point))
            before = point
    return rows


def _build(report: Report) -> Mapping[str, Any]:
    return {
        "curves": list_site_curves(report),
        "points": list_curve_points(report),
        "groups": [(title, calibration.groups) for title, calibration in discrimination.list_panels(report)],
        "format_range": format_probability_range,
        "single": len(discrimination.list_panels(report)) == 1,
    }


SECTION = Section(
    "discrimination",
    "How well the scores separate the outcomes",
    "Curves",
    after="classes",
    applies=lambda report: bool(discrimination.list_panels(report)),
    build=_build,
    plots={
        "roc": discrimination.draw_roc,
        "precision_recall": discrimination.draw_precision_recall,
        "scores": discrimination.draw_score_histograms,
        "probability_calibration": discrimination.draw_probability_calibration,
    },
)
