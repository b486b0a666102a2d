"""Drawings of a model that reconstructs: its latent space by hospital and class, and single examples with theirs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from experiments.report.document.latent import LatentView, ReconstructionExample
from experiments.report.document.report import Report
from experiments.report.plots.drawing import FEDERATED, INK, MUTED, SERIES, create_canvas, finish_svg, page_style
from experiments.report.text.formatting import format_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 5
"""Hospitals side by side; of more the first are drawn, and the others stand in report.json."""
ALL_HOSPITALS = "all hospitals"
MARKS = ("s", "^", "o", "D", "v", "P", "X")


def merge_views(report: Report) -> dict[str, LatentView]:
    """Return the views to draw: of all hospitals together, then of each, as many as fit."""
    first = next(iter(report.views.values()))
    counts: dict[str, dict[int, int]] = {}
    for view in report.views.values():
        for name, cells in view.counts.items():
            held = counts.setdefault(name, {})
            for cell, number in cells.items():
                held[cell] = held.get(cell, 0) + number
    if len(report.views) == 1:
        return dict(report.views)
    together = LatentView(cells=first.cells, reach=first.reach, counts=counts)
    return {ALL_HOSPITALS: together, **dict(sorted(report.views.items())[: PANELS - 1])}


def draw_latent_space(report: Report) -> str:
    """Return where test examples lie in latent space, by hospital and class, as `<svg>`; empty without any."""
    if not report.views:
        return ""
    views = merge_views(report)
    kinds = list(dict.fromkeys(name for view in views.values() for name in view.counts))
    with page_style():
        drawing, panels = create_canvas(3.1, len(views), left=0.55, right=0.15, top=0.6, bottom=0.6)
        for panel, (name, view) in zip(panels, views.items(), strict=True):
            _cells(panel, view, kinds)
            panel.set_title(name, fontsize=9)
            panel.set_xlabel("first direction (SD)", fontsize=8)
        panels[0].set_ylabel("second direction (SD)", fontsize=8)
        handles = [_handle(place, kind) for place, kind in enumerate(kinds)]
        drawing.legend(handles=handles, loc="lower left", ncols=len(kinds), frameon=False, fontsize=8)
        title = "Latent space of the federated model: test examples by hospital and class"
        told = "; ".join(
            f"{name}: " + ", ".join(f"{kind} {sum(cells.values())}" for kind, cells in view.counts.items())
            for name, view in views.items()
        )
        return finish_svg(drawing, report, "latent", title, f"Counts of cells, larger marks for more examples. {told}.")


def _look(place: int) -> tuple[str, str, float]:
    return (MARKS[0], MUTED, 0.35) if place == 0 else (MARKS[place % len(MARKS)], SERIES[(place - 1) % 7], 0.75)


def _handle(place: int, kind: str) -> Any:
    from matplotlib.lines import Line2D

    mark, colour, alpha = _look(place)
    return Line2D([], [], linestyle="", marker=mark, color=colour, alpha=alpha, label=kind)


def _cells(panel: Axes, view: LatentView, kinds: list[str]) -> None:
    step = 2 * view.reach / view.cells
    for place, kind in enumerate(kinds):
        cells = view.counts.get(kind, {})
        mark, colour, alpha = _look(place)
        x = [(cell % view.cells + 0.5) * step - view.reach for cell in cells]
        y = [(cell // view.cells + 0.5) * step - view.reach for cell in cells]
        size = [6 + 7 * math.log1p(number) for number in cells.values()]
        panel.scatter(x, y, s=size, marker=mark, color=colour, alpha=alpha, linewidths=0)
    panel.set_xticks([-2, 0, 2])
    panel.set_yticks([-2, 0, 2])
    panel.set_xlim(-view.reach, view.reach)
    panel.set_ylim(-view.reach, view.reach)


def select_examples(report: Report) -> list[tuple[str, ReconstructionExample]]:
    """Return the examples to draw, with their hospital: of the first two classes that any shows."""
    found: dict[str, list[tuple[str, ReconstructionExample]]] = {}
    for site, view in sorted(report.views.items()):
        for kind in dict.fromkeys(item.kind for item in view.examples):
            found.setdefault(kind, [(site, item) for item in view.examples if item.kind == kind])
    return [item for kind in list(found)[:2] for item in found[kind]]


def draw_reconstructions(report: Report) -> str:
    """Return examples over what the federated model made of them, their first lead, as `<svg>`; empty without any."""
    items = select_examples(report)
    if not items:
        return ""
    rate = float(report.task.get("rate_hz") or 1.0)
    with page_style():
        drawing, panels = create_canvas(2.4, len(items), left=0.35, right=0.15, top=0.75, bottom=0.55)
        for panel, (site, item) in zip(panels, items, strict=True):
            seconds = [place / rate for place in range(len(item.wanted[0]))]
            panel.plot(seconds, item.wanted[0], color=INK, linewidth=1.1)
            panel.plot(seconds, item.made[0], color=FEDERATED, linewidth=1.1, linestyle=(0, (4, 1.5)))
            panel.set_title(f"{item.kind}, {item.which}\n{site}: {item.error:.3g}", fontsize=8)
            panel.set_xlabel("s", fontsize=8)
            panel.tick_params(labelsize=7)
            panel.locator_params(nbins=4)
        told = "; ".join(f"{item.kind}, {item.which}, error {item.error:.3g}" for _, item in items)
        title = f"{format_count(len(items), 'example')} (line) and what the federated model made of them (dashes)"
        return finish_svg(drawing, report, "overlays", title, told)
