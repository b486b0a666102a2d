"""What the federated model looks at: the sites' aggregates together, weighted by their patients, and their plots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from experiments.report.document.report import Report
from experiments.report.plots.drawing import FEDERATED, INK, MUTED, create_canvas, finish_svg, page_style
from experiments.report.text.formatting import format_count

SHOWN, PANELS = 15, 3
"""Inputs in the bar chart; panels beside each other."""
METHODS = {"integrated_gradients": "integrated gradients", "occlusion": "occlusion"}


def rank_inputs(report: Report) -> list[tuple[str, float]]:
    """Return every feature and channel with its mean |attribution| over all hospitals' patients, the largest first."""
    found: dict[str, float] = {}
    total = sum(item.patients for item in report.explanations.values())
    for item in report.explanations.values():
        for name, value in {**item.features, **item.channels}.items():
            found[name] = found.get(name, 0.0) + value * item.patients / total
    return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))


def merge_class_signals(report: Report) -> dict[str, tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Return of each class its patients, mean signal and mean importance `(channels, samples)`, over all hospitals."""
    found: dict[str, tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    for name in report.class_titles:
        parts = [item.classes[name] for item in report.explanations.values() if name in item.classes]
        if parts:
            weights = np.array([part.patients for part in parts], dtype=np.float64)
            signal, weight = (
                np.tensordot(weights / weights.sum(), np.array([getattr(part, what) for part in parts]), 1)
                for what in ("signal", "importance")
            )
            found[name] = int(weights.sum()), signal, weight
    return found


def list_suppressed_classes(report: Report) -> Mapping[str, tuple[str, ...]]:
    """Return the hospitals that told nothing of some classes, for too few patients."""
    return {site: item.suppressed for site, item in report.explanations.items() if item.suppressed}


def draw_importance(report: Report) -> str:
    """Return the most important inputs as `<svg>`; empty where none was told or there is one alone."""
    rows = rank_inputs(report)[:SHOWN]
    if len(rows) < 2 or rows[0][1] <= 0:
        return ""
    with page_style():
        left = min(3.4, 0.5 + 0.075 * max(len(name) for name, _ in rows))
        drawing, [axes] = create_canvas(0.9 + 0.24 * len(rows), 1, left=left, right=0.9, top=0.3, bottom=0.55)
        places = np.arange(len(rows))
        axes.barh(places, [value for _, value in rows], color=FEDERATED, height=0.6)
        for place, (_, value) in zip(places, rows, strict=True):
            axes.annotate(f"{value:.3f}", (value, place), (4, 0), textcoords="offset points", va="center", color=INK)
        axes.set_yticks(places, [name for name, _ in rows])
        axes.invert_yaxis()
        axes.set_xlabel("mean |attribution|, log odds of the true class")
        said = ", ".join(f"{name} {value:.3f}" for name, value in rows)
        return finish_svg(drawing, report, "importance", "Importance of the inputs", f"The largest: {said}.")


def draw_mean_signals(report: Report) -> str:
    """Return each class's mean signal with the importance of its samples, as `<svg>`; empty where none was told."""
    from matplotlib.collections import LineCollection

    found = merge_class_signals(report)
    lines = [(name, channel) for name, (_, signal, _) in found.items() for channel in range(min(len(signal), 2))]
    if not lines:
        return ""
    names = [str(item) for item in report.task.get("channel_names", ())]
    rate = float(report.task.get("rate_hz") or 1.0)
    rows = -(-len(lines) // PANELS)
    with page_style():
        drawing, _ = create_canvas(0.3 + 2.1 * rows, 0, left=0.6, right=0.2, top=0.35, bottom=0.5)
        for place, (name, channel) in enumerate(lines):
            people, signal, weight = found[name]
            axes = drawing.add_subplot(rows, PANELS, place + 1)
            y, w = signal[channel], weight[channel] / max(float(weight.max()), 1e-12)
            x = np.arange(len(y)) / (rate if rate >= 1 else 1)
            points = np.stack([x, y], 1)
            pieces = np.stack([points[:-1], points[1:]], 1)
            axes.fill_between(x, y.min(), y.min() + w * (np.ptp(y) or 1.0), color=FEDERATED, alpha=0.25, linewidth=0)
            axes.add_collection(LineCollection(list(pieces), colors=INK, linewidths=0.6 + 3 * (w[:-1] + w[1:]) / 2))
            axes.set_xlim(x[0], x[-1])
            axes.set_ylim(y.min() - 0.05 * np.ptp(y), y.max() + 0.1 * np.ptp(y) + 1e-9)
            lead = f", {names[channel]}" if channel < len(names) else ""
            axes.set_title(f"{name}{lead} ({format_count(people, 'patient')})", fontsize=9)
            axes.tick_params(labelsize=7, colors=MUTED)
            axes.set_xlabel("seconds" if rate >= 1 else "steps", fontsize=7)
        drawing.tight_layout()
        said = "; ".join(f"{name}: most at {describe_peak(weight[0], rate)}" for name, (_, _, weight) in found.items())
        return finish_svg(drawing, report, "overlay", "Mean signal of each class, thick where it matters", f"{said}.")


def describe_peak(weight: npt.NDArray[np.float64], rate: float) -> str:
    """Return where the importance of a signal is largest, in words."""
    place = int(weight.argmax())
    return f"{place / rate:.2f} s" if rate >= 1 else f"step {place}"
