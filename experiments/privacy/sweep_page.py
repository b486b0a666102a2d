"""The plot, the Markdown table and the page of a privacy sweep; the page is one file without external resources."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.markdown_table import render_markdown_table
from experiments.report.plots.drawing import FEDERATED, LOCAL, MUTED, RULE, create_panel_grid, plot_style, save_drawing
from experiments.report.text import formatting

if TYPE_CHECKING:
    from experiments.report.plots.drawing import Axes

NONE = "none"
"""The point without privacy."""
POOLED = "(pooled)"
"""The key of the figures over all hospitals."""
MAX_PANELS = 15
"""Hospitals in the plot; of more, those with the fewest and the most training patients. The table has all."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #17212b; background: #fff;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .3rem .7rem; border-bottom: 1px solid #d5dbe1; text-align: right; }
th:first-child { text-align: left; }
.notice { border-left: 6px solid #a8071a; padding: .4rem .8rem; font-weight: 600; }
svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
"""


def draw_sweep(sweep: dict[str, Any], folder: Path) -> str:
    """Write sweep.svg and sweep.png; return the SVG."""
    names = list(sweep["sites"])
    drawn = names if len(names) <= MAX_PANELS else [*names[: MAX_PANELS - 3], *names[-3:]]
    with plot_style():
        drawing, panels = create_panel_grid(len(drawn) + 1, 4)
        for panel, site in zip(panels, [*drawn, POOLED], strict=True):
            _draw_panel(panel, sweep, site)
        metric = formatting.metric_title(sweep["metric"])
        for panel in panels[::4]:
            panel.set_ylabel(metric)
        title = f"{formatting.capitalise(metric)} by epsilon: {sweep['title']}"
        if len(drawn) < len(names):
            title += f" ({len(drawn)} of {len(names)} hospitals drawn)"
        svg, _ = save_drawing(drawing, folder, "sweep", title, sweep["tags"])
    return svg.read_text(encoding="utf-8")


def _draw_panel(panel: Axes, sweep: dict[str, Any], site: str) -> None:
    """Draw one hospital: a point with its interval at each epsilon, dots for single runs, a band without privacy."""
    points = sweep["points"][site]
    without = points.get(NONE)
    last = len(sweep["epsilons"]) - 1
    if without and without["value"] is not None:
        panel.axhline(without["value"], color=MUTED, lw=0.8, ls=(0, (4, 2)))
        if without["low"] is not None:
            panel.axhspan(without["low"], without["high"], color=RULE, alpha=0.45, lw=0)
    for position, value in enumerate(sweep["epsilons"]):
        point = points[value]
        if point["value"] is None:
            panel.text(position, 0.02, "n/a", transform=panel.get_xaxis_transform(), ha="center", color=MUTED)
            continue
        colour = MUTED if value == NONE else FEDERATED
        if point["low"] is not None:
            panel.plot([position, position], [point["low"], point["high"]], color=colour, lw=1.8, solid_capstyle="butt")
        if len(point["each"]) > 1:
            panel.plot([position + 0.18] * len(point["each"]), point["each"], ".", color=LOCAL, ms=3.5)
        panel.plot([position], [point["value"]], "s" if value == NONE else "o", color=colour, ms=5.5)
    name = "all hospitals" if site == POOLED else site
    people = sweep["sites"].get(site, sum(sweep["sites"].values()))
    weight = "bold" if site == POOLED else "normal"
    panel.set_title(f"{name}, trained on {formatting.format_count(people, 'patient')}", loc="left", weight=weight)
    panel.set_xticks(range(last + 1), ["none" if value == NONE else value for value in sweep["epsilons"]])
    panel.set_xlim(-0.5, last + 0.5)
    panel.set_xlabel("epsilon")


def render_sweep_page(sweep: dict[str, Any], svg: str) -> str:
    """Return sweep.html; `svg` is the plot."""
    notices = "".join(f'<p class="notice">{escape(text)}</p>' for text in sweep["notices"])
    sentences = "".join(f"<p>{escape(text)}</p>" for text in explanation_sentences(sweep))
    title = f"The cost of privacy: {escape(sweep['title'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f'{notices}{sentences}<div class="wide">{svg[svg.index("<svg") :]}</div>'
        "<p>Squares and the grey band: without privacy. Bars: 95% intervals; with several runs, their outermost ends. "
        f'Small dots: single runs of several.</p><div class="wide">{_table(sweep)}</div></body></html>\n'
    )


def _table(sweep: dict[str, Any]) -> str:
    """Return the points as an HTML table."""
    heads = "".join(
        f'<th scope="col">{"no privacy" if value == NONE else f"epsilon {value}"}</th>' for value in sweep["epsilons"]
    )
    rows = []
    for site in [*sweep["sites"], POOLED]:
        count = sweep["sites"].get(site, sum(sweep["sites"].values()))
        cells = "".join(f"<td>{format_point(sweep['points'][site][value])}</td>" for value in sweep["epsilons"])
        name = "all hospitals" if site == POOLED else site
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td>{count}</td>{cells}</tr>')
    head = f'<thead><tr><th scope="col">Hospital</th><th scope="col">Training patients</th>{heads}</tr></thead>'
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def format_point(point: dict[str, Any]) -> str:
    """Return a point such as `0.712 (0.641 to 0.780)`."""
    if point["value"] is None:
        return "n/a"
    ends = "" if point["low"] is None else f" ({point['low']:.3f} to {point['high']:.3f})"
    return f"{point['value']:.3f}{ends}"


def explanation_sentences(sweep: dict[str, Any]) -> list[str]:
    """Return the sentences that explain the figures."""
    unit = {"patient": "per patient", "record": "per example", "hospital": "per hospital"}.get(sweep["level"], "")
    runs = len(sweep["seeds"])
    lines = [
        f"{formatting.capitalise(formatting.metric_title(sweep['metric']))} of the federated model on test patients"
        + (f", epsilon {unit} at delta {sweep['delta']:g}." if unit else ".")
    ]
    several = f"Mean over {runs} seeds, with the outermost ends of the runs' " if runs > 1 else "With "
    lines.append(f"{several}95% intervals over test patients. Hospitals with the fewest training patients come first.")
    if sweep["settings_of_all_points"]:
        lines.append(
            "All points, also that without privacy, were run with " + ", ".join(sweep["settings_of_all_points"]) + "."
        )
    return lines


def render_sweep_markdown(sweep: dict[str, Any]) -> str:
    """Return sweep.md, a table of hospitals by epsilon."""
    titles = ["no privacy" if value == NONE else f"epsilon {value}" for value in sweep["epsilons"]]
    rows = []
    for site in [*sweep["sites"], POOLED]:
        count = sweep["sites"].get(site, sum(sweep["sites"].values()))
        points = [format_point(sweep["points"][site][value]) for value in sweep["epsilons"]]
        rows.append(["all hospitals" if site == POOLED else site, count, *points])
    text = "".join(f"> {notice}\n\n" for notice in sweep["notices"])
    text += "\n".join(explanation_sentences(sweep)) + "\n\n"
    header = ["hospital", "training patients", *titles]
    return text + render_markdown_table(header, rows, right_aligned=[1]) + "\n"
