"""Plots of an autoencoder: its latent space by hospital and class, and single examples with their reconstruction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.report.document.latent import LatentView, ReconstructionExample
from experiments.report.document.report import Report
from experiments.report.plots.drawing import (
    DASHED,
    FEDERATED,
    INK,
    MUTED,
    SERIES,
    Plot,
    add_legend,
    create_canvas,
    finish_plot,
    plot_style,
)
from experiments.report.text.formatting import format_count

if TYPE_CHECKING:
    from experiments.report.plots.drawing import Axes

MAX_PANELS = 5
"""Maximum number of panels in a row; further hospitals are in report.json only."""
MARKERS = ("s", "^", "o", "D", "v", "P", "X")


def merge_views(report: Report) -> dict[str, LatentView]:
    """Return the views to draw: all hospitals together, then the first hospitals that fit."""
    first = next(iter(report.views.values()))
    counts: dict[str, dict[int, int]] = {}
    for view in report.views.values():
        for name, cells in view.counts.items():
            merged = counts.setdefault(name, {})
            for cell, number in cells.items():
                merged[cell] = merged.get(cell, 0) + number
    if len(report.views) == 1:
        return dict(report.views)
    pooled = LatentView(cells=first.cells, reach=first.reach, counts=counts)
    return {f"all {report.data.site_kind}s": pooled, **dict(sorted(report.views.items())[: MAX_PANELS - 1])}


def draw_latent_space(report: Report) -> Plot | None:
    """Draw the position of test examples in latent space, by hospital and class; None without latent views."""
    if not report.views:
        return None
    views = merge_views(report)
    classes = list(dict.fromkeys(name for view in views.values() for name in view.counts))
    with plot_style():
        canvas, panels = create_canvas(3.1, len(views), left=0.55, right=0.15, top=0.6, bottom=0.75)
        for panel, (name, view) in zip(panels, views.items(), strict=True):
            _draw_cells(panel, view, classes)
            panel.set_title(name, fontsize=9)
            panel.set_xlabel("first direction (SD)", fontsize=8)
        panels[0].set_ylabel("second direction (SD)", fontsize=8)
        entries = {name: {"ls": "", **_choose_style(index)} for index, name in enumerate(classes)}
        add_legend(canvas, entries, loc="lower left", ncols=len(classes), fontsize=8)
        title = f"Latent space of the federated model: test examples by {report.data.site_kind} and class"
        counts = "; ".join(
            f"{name}: " + ", ".join(f"{kind} {sum(cells.values())}" for kind, cells in view.counts.items())
            for name, view in views.items()
        )
        description = f"Counts of examples per cell, larger marks for more examples. {counts}."
        return finish_plot(canvas, report, "latent", title, description)


def _choose_style(index: int) -> dict[str, Any]:
    if index == 0:
        return {"marker": MARKERS[0], "color": MUTED, "alpha": 0.35}
    return {"marker": MARKERS[index % len(MARKERS)], "color": SERIES[(index - 1) % len(SERIES)], "alpha": 0.75}


def _draw_cells(panel: Axes, view: LatentView, classes: Sequence[str]) -> None:
    step = 2 * view.reach / view.cells
    for index, name in enumerate(classes):
        cells = view.counts.get(name, {})
        x = [(cell % view.cells + 0.5) * step - view.reach for cell in cells]
        y = [(cell // view.cells + 0.5) * step - view.reach for cell in cells]
        size = [6 + 7 * math.log1p(number) for number in cells.values()]
        panel.scatter(x, y, s=size, linewidths=0, **_choose_style(index))
    panel.set_xticks([-2, 0, 2])
    panel.set_yticks([-2, 0, 2])
    panel.set_xlim(-view.reach, view.reach)
    panel.set_ylim(-view.reach, view.reach)


def select_examples(report: Report) -> list[tuple[str, ReconstructionExample]]:
    """Return the examples to draw, each with its hospital: those of the first two classes that have any."""
    by_class: dict[str, list[tuple[str, ReconstructionExample]]] = {}
    for site, view in sorted(report.views.items()):
        for name in dict.fromkeys(example.kind for example in view.examples):
            by_class.setdefault(name, [(site, example) for example in view.examples if example.kind == name])
    return [pair for name in list(by_class)[:2] for pair in by_class[name]]


def draw_reconstructions(report: Report) -> Plot | None:
    """Draw examples over the federated model's reconstruction of them, first lead only; None without examples."""
    examples = select_examples(report)
    if not examples:
        return None
    rate = float(report.task.get("rate_hz") or 1.0)
    with plot_style():
        canvas, panels = create_canvas(2.4, len(examples), left=0.35, right=0.15, top=0.75, bottom=0.55)
        for panel, (site, example) in zip(panels, examples, strict=True):
            seconds = [sample / rate for sample in range(len(example.wanted[0]))]
            panel.plot(seconds, example.wanted[0], color=INK, linewidth=1.1)
            panel.plot(seconds, example.made[0], color=FEDERATED, linewidth=1.1, linestyle=DASHED)
            panel.set_title(f"{example.kind}, {example.which}\n{site}: {example.error:.3g}", fontsize=8)
            panel.set_xlabel("s", fontsize=8)
            panel.tick_params(labelsize=7)
            panel.locator_params(nbins=4)
        errors = "; ".join(f"{example.kind}, {example.which}, error {example.error:.3g}" for _, example in examples)
        title = f"{format_count(len(examples), 'example')} (solid) and the federated model's reconstruction (dashed)"
        return finish_plot(canvas, report, "overlays", title, errors)
