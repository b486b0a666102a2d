"""What drives a model: attributions of the inputs, coefficients of a linear model, gains of trees, as plots.

Attributions are the hospitals' means, merged with the number of patients as weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from common.metrics.drivers import Coefficient
from experiments.report.document.report import Report
from experiments.report.plots.drawing import (
    FEDERATED,
    INK,
    MUTED,
    RULE,
    SERIES,
    Plot,
    add_legend,
    create_canvas,
    finish_plot,
    plot_style,
    plot_weighted_line,
)
from experiments.report.plots.tiles import create_tiles, cut_tiles
from experiments.report.text.formatting import format_count

MAX_INPUTS = 15
"""Maximum number of inputs in a plot."""
MAX_SITES = 6
"""Maximum number of hospitals whose own coefficients are drawn, one colour each; the federated model has the first."""
MARKERS = ("s", "D", "^", "v", "P", "X")
METHODS = {"integrated_gradients": "integrated gradients", "occlusion": "occlusion", "shap": "Shapley values"}


def rank_inputs(report: Report) -> list[tuple[str, float]]:
    """Return each feature and channel with its mean |attribution| over all hospitals' patients, largest first."""
    means: dict[str, float] = {}
    total = sum(item.patients for item in report.explanations.values())
    for item in report.explanations.values():
        for name, value in {**item.features, **item.channels}.items():
            means[name] = means.get(name, 0.0) + value * item.patients / total
    return sorted(means.items(), key=lambda pair: (-pair[1], pair[0]))


def merge_class_signals(report: Report) -> dict[str, tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Return for each class its number of patients, mean signal and mean importance, over all hospitals.

    Signal and importance are `(channels, samples)`.
    """
    merged: dict[str, tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    for name in report.class_titles:
        parts = [item.classes[name] for item in report.explanations.values() if name in item.classes]
        if parts:
            patients = np.array([part.patients for part in parts], dtype=np.float64)
            signal, importance = (
                np.tensordot(patients / patients.sum(), np.array([getattr(part, field) for part in parts]), 1)
                for field in ("signal", "importance")
            )
            merged[name] = int(patients.sum()), signal, importance
    return merged


def list_suppressed_classes(report: Report) -> Mapping[str, tuple[str, ...]]:
    """Return the classes that each hospital suppressed because of too few patients."""
    return {site: item.suppressed for site, item in report.explanations.items() if item.suppressed}


def draw_importance(report: Report) -> Plot | None:
    """Draw the most important inputs as bars; None if there are no attributions or only one input."""
    label = "mean size of the attribution, log odds of the true class"
    return _draw_bars(report, rank_inputs(report), "importance", "Importance of the inputs", label)


def draw_gains(report: Report) -> Plot | None:
    """Draw each input's share of the gain of all splits as bars; None for a model without trees."""
    total = sum(report.gains.values())
    rows = [(name, 100 * gain / total) for name, gain in report.gains.items()] if total > 0 else []
    label = "share of what all splits lowered the training loss by, in percent"
    return _draw_bars(report, rows, "gains", "Gain of the splits on each input", label, digits=1)


def _draw_bars(
    report: Report, rows: list[tuple[str, float]], name: str, title: str, label: str, digits: int = 3
) -> Plot | None:
    rows = rows[:MAX_INPUTS]
    if len(rows) < 2 or rows[0][1] <= 0:
        return None
    with plot_style():
        left = min(3.4, 0.5 + 0.075 * max(len(name) for name, _ in rows))
        canvas, [axes] = create_canvas(0.9 + 0.24 * len(rows), 1, left=left, right=0.9, top=0.3, bottom=0.55)
        y = np.arange(len(rows))
        axes.barh(y, [value for _, value in rows], color=FEDERATED, height=0.6)
        for at, (_, value) in zip(y, rows, strict=True):
            axes.annotate(
                f"{value:.{digits}f}", (value, at), (4, 0), textcoords="offset points", va="center", color=INK
            )
        axes.set_yticks(y, [name for name, _ in rows])
        axes.invert_yaxis()
        axes.set_xlabel(label)
        values = ", ".join(f"{name} {value:.{digits}f}" for name, value in rows)
        return finish_plot(canvas, report, name, title, f"The largest: {values}.")


def rank_coefficients(report: Report) -> list[Coefficient]:
    """Return the coefficients, largest in size first."""
    rows = report.coefficients.rows if report.coefficients else ()
    return sorted(rows, key=lambda row: (-abs(row.figure.value or 0.0), row.name))


def draw_coefficients(report: Report) -> Plot | None:
    """Draw the largest coefficients with their intervals, and those of the local models; None without coefficients."""
    rows = rank_coefficients(report)[:MAX_INPUTS]
    if len(rows) < 2:
        return None
    sites = list(rows[0].sites)[:MAX_SITES]
    with plot_style():
        left = min(3.4, 0.5 + 0.075 * max(len(row.name) for row in rows))
        canvas, [axes] = create_canvas(1.15 + 0.3 * len(rows), 1, left=left, right=0.4, top=0.3, bottom=0.85)
        axes.axvline(0, color=MUTED, lw=0.8)
        for y, row in enumerate(rows):
            for number, site in enumerate(sites):
                own = row.sites.get(site)
                if own is not None and own.value is not None:
                    axes.plot([own.value], [y + 0.22], MARKERS[number], color=SERIES[number + 1], ms=4, alpha=0.9)
            if row.figure.low is not None and row.figure.high is not None:
                axes.plot([row.figure.low, row.figure.high], [y - 0.08] * 2, color=FEDERATED, lw=2)
            axes.plot([row.figure.value or 0.0], [y - 0.08], "o", color=FEDERATED, ms=6)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="x", color=RULE, lw=0.6)
        axes.set_xlabel("to the right: makes the event likelier (change of its log odds)")
        entries = {"federated model": {"color": FEDERATED, "marker": "o", "lw": 2, "ms": 6}}
        entries |= {
            f"{site} alone": {"color": SERIES[number + 1], "marker": MARKERS[number], "lw": 0, "ms": 4}
            for number, site in enumerate(sites)
        }
        add_legend(canvas, entries, loc="lower center", ncols=4)
        values = ", ".join(f"{row.name} {row.figure.value:+.3f}" for row in rows)
        return finish_plot(canvas, report, "coefficients", "Coefficients of the inputs", f"The largest: {values}.")


def draw_mean_signals(report: Report) -> Plot | None:
    """Draw each class's mean signal with the importance of its samples; None if there are none."""
    merged = merge_class_signals(report)
    lines = [(name, channel) for name, (_, signal, _) in merged.items() for channel in range(min(len(signal), 2))]
    if not lines:
        return None
    channels = [str(item) for item in report.task.get("channel_names", ())]
    rate = float(report.task.get("rate_hz") or 1.0)
    with plot_style():
        canvas, panels = create_tiles(len(lines), legend_rows=0)
        parts = []
        for (name, channel), axes in zip(lines, panels, strict=True):
            patients, signal, importance = merged[name]
            y, weight = signal[channel], importance[channel] / max(float(importance.max()), 1e-12)
            x = np.arange(len(y)) / (rate if rate >= 1 else 1)
            bottom, height = y.min(), np.ptp(y)
            axes.fill_between(x, bottom, bottom + weight * (height or 1.0), color=FEDERATED, alpha=0.25, linewidth=0)
            plot_weighted_line(axes, x, y, 0.6 + 3 * (weight[:-1] + weight[1:]) / 2, INK)
            axes.set_xlim(x[0], x[-1])
            axes.set_ylim(bottom - 0.05 * height, y.max() + 0.1 * height + 1e-9)
            lead = f", {channels[channel]}" if channel < len(channels) else ""
            axes.set_title(f"{name}{lead}"[:34], loc="left", fontsize=9)
            count = format_count(patients, "patient")
            axes.text(0.98, 0.97, count, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=MUTED)
            axes.tick_params(labelsize=8, colors=MUTED)
            axes.set_xlabel("seconds" if rate >= 1 else "steps", fontsize=8.5)
            parts.append(f"{name}{lead}: peak at {describe_peak(importance[channel], rate)}")
        peaks = "; ".join(f"{name}: peak at {describe_peak(item[0], rate)}" for name, (_, _, item) in merged.items())
        title = "Mean signal of each class, thicker where samples are more important"
        return cut_tiles(finish_plot(canvas, report, "overlay", title, f"{peaks}."), report, "overlay", parts, {})


def describe_peak(importance: npt.NDArray[np.float64], rate: float) -> str:
    """Return where the importance of a signal, `(samples,)` at `rate` Hz, is largest."""
    sample = int(importance.argmax())
    return f"{sample / rate:.2f} s" if rate >= 1 else f"step {sample}"
