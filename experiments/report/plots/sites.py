"""The forest plot: each hospital's result with its interval, for each kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.metrics.evaluation import metric_value
from common.metrics.figures import Evaluation, Figure
from common.metrics.registry import METRICS
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult
from experiments.report.plots.drawing import (
    FEDERATED,
    LOCAL,
    MUTED,
    PERSONAL,
    POOLED,
    RULE,
    WIDTH,
    Plot,
    add_legend,
    create_canvas,
    finish_plot,
    plot_style,
)
from experiments.report.text.formatting import format_interval, format_number, metric_title
from experiments.report.text.many_hospitals import choose_detailed_hospitals
from experiments.report.text.site_words import name_sites

if TYPE_CHECKING:
    from experiments.report.plots.drawing import Axes

MARKS = {
    "federated": ("o", FEDERATED, "federated model"),
    "local": ("s", LOCAL, "local model (trained at this {site} alone)"),
    "pooled": ("D", POOLED, "model trained on all data in one place"),
    "personal": ("^", PERSONAL, "personal model of the {site}"),
}
"""Marker, colour and legend entry, for `name_sites`, of each kind of model."""
Row = tuple[str, dict[str, Evaluation]]
"""A hospital, and the evaluation of each kind of model on its patients."""


def draw_forest_plot(report: Report) -> Plot | None:
    """Draw the run's metric at each hospital for the federated, local and pooled models; None without test results."""
    model = report.federated
    if model is None or not model.sites:
        return None
    rows = _list_rows(report, model)
    kinds = [kind for kind in MARKS if any(kind in evaluations for _, evaluations in rows)]
    title = metric_title(report.metric)
    with plot_style():
        height = 1.25 + (0.2 + 0.13 * len(kinds)) * len(rows)
        left = min(3.4, 0.75 + 0.075 * max(len(name) for name, _ in rows))
        canvas, [axes] = create_canvas(height, 1, left=left, right=2.75, top=0.45, bottom=0.8)
        across = axes.get_yaxis_transform()
        inch = 1 / (WIDTH - left - 2.75)
        patients_x, value_x = 1 + 0.62 * inch, 1 + 0.85 * inch
        for y, (name, evaluations) in enumerate(rows):
            for order, kind in enumerate(kinds):
                if kind in evaluations:
                    offset = (order - (len(kinds) - 1) / 2) * 0.24
                    _draw_interval(axes, _get_figure(evaluations[kind], report.metric), y + offset, kind)
            worst = model.worst is not None and model.worst.site == name
            weight = "bold" if worst or y == len(rows) - 1 else "normal"
            label = f"{name} (worst)" if worst else name
            axes.text(-0.1 * inch, y, label, transform=across, ha="right", va="center", weight=weight)
            if "federated" in evaluations:
                figure = _get_figure(evaluations["federated"], report.metric)
                interval = format_interval(figure)
                value = format_number(figure.value) + (f"  ({interval})" if interval else "")
                patients = f"{evaluations['federated'].patients}"
                axes.text(patients_x, y, patients, transform=across, ha="right", va="center")
                axes.text(value_x, y, value, transform=across, ha="left", va="center", weight=weight)
        heads = ((patients_x, "patients", "right"), (value_x, "federated (95% interval)", "left"))
        for x, text, side in heads:
            axes.text(x, -0.85, text, transform=across, ha=side, va="center", color=MUTED)
        axes.axhline(len(rows) - 1.5, color=RULE, lw=0.8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        if METRICS[report.metric].high == 1:
            axes.set_xlim(0, 1)
        axes.set_xlabel(f"{title} on test patients")
        axes.grid(axis="x", color=RULE, lw=0.6)
        entries = {
            name_sites(label, report.data.site_kind): {"color": colour, "marker": marker, "lw": 1.6, "ms": 5.5}
            for marker, colour, label in (MARKS[kind] for kind in kinds)
        }
        add_legend(canvas, entries, loc="lower center", ncols=4, handlelength=2.6)
        description = "; ".join(f"{name}: {_describe_row(evaluations, report.metric)}" for name, evaluations in rows)
        return finish_plot(
            canvas, report, "forest", f"{title} of each {report.data.site_kind}, with 95% intervals", description
        )


def _list_rows(report: Report, model: ModelResult) -> list[Row]:
    """Return the models' evaluations at each hospital shown, then over all hospitals (without local models)."""
    pooled, personal = report.model("pooled"), report.model("personal")
    rows: list[Row] = []
    detailed = choose_detailed_hospitals(report)
    for site in sorted(set(model.sites) & detailed):
        models = {"federated": model, "local": report.model(f"local:{site}"), "pooled": pooled, "personal": personal}
        rows.append((site, {kind: m.sites[site] for kind, m in models.items() if m and site in m.sites}))
    everywhere = {"federated": model, "pooled": pooled, "personal": personal}
    rows.append((f"all {report.data.site_kind}s", {kind: m.pooled for kind, m in everywhere.items() if m and m.pooled}))
    return rows


def _describe_row(evaluations: Mapping[str, Evaluation], metric: str) -> str:
    return ", ".join(f"{kind} {format_number(metric_value(item, metric))}" for kind, item in evaluations.items())


def _get_figure(evaluation: Evaluation, metric: str) -> Figure:
    return evaluation.figure(metric) or Figure(value=None)


def _draw_interval(axes: Axes, figure: Figure, y: float, kind: str) -> None:
    marker, colour, _ = MARKS[kind]
    if figure.low is not None and figure.high is not None:
        axes.plot([figure.low, figure.high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
    if figure.value is not None:
        size = 4.8 if kind == "pooled" else 5.6
        axes.plot([figure.value], [y], color=colour, marker=marker, ms=size, ls="none", clip_on=False)
