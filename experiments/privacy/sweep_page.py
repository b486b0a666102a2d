"""A sweep's drawing, and its page: one file that needs nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.report.plots.drawing import FEDERATED, LOCAL, MUTED, RULE, create_panel_grid, plot_style, save_drawing
from experiments.report.text import formatting

if TYPE_CHECKING:
    from experiments.report.plots.drawing import Axes

MAX_PANELS = 15
"""Hospitals drawn; of more, those of the fewest and of the most training patients. The table has all."""
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


def draw_sweep(found: dict[str, Any], folder: Path) -> str:
    """Write sweep.svg and sweep.png; return the SVG."""
    names = list(found["sites"])
    shown = names if len(names) <= MAX_PANELS else [*names[: MAX_PANELS - 3], *names[-3:]]
    with plot_style():
        drawing, panels = create_panel_grid(len(shown) + 1, 4)
        for panel, site in zip(panels, [*shown, POOLED], strict=True):
            _panel(panel, found, site)
        metric = formatting.metric_title(found["metric"])
        for panel in panels[::4]:
            panel.set_ylabel(metric)
        title = f"{formatting.capitalise(metric)} by epsilon: {found['title']}"
        if len(shown) < len(names):
            title += f" ({len(shown)} of {len(names)} hospitals drawn)"
        svg, _ = save_drawing(drawing, folder, "sweep", title, found["tags"])
    return svg.read_text(encoding="utf-8")


def _panel(panel: Axes, found: dict[str, Any], site: str) -> None:
    """Draw a hospital: a point and interval an epsilon, each run a small dot, without privacy a band behind them."""
    points = found["points"][site]
    free = points.get(NONE)
    last = len(found["epsilons"]) - 1
    if free and free["value"] is not None:
        panel.axhline(free["value"], color=MUTED, lw=0.8, ls=(0, (4, 2)))
        if free["low"] is not None:
            panel.axhspan(free["low"], free["high"], color=RULE, alpha=0.45, lw=0)
    for place, value in enumerate(found["epsilons"]):
        point = points[value]
        if point["value"] is None:
            panel.text(place, 0.02, "n/a", transform=panel.get_xaxis_transform(), ha="center", color=MUTED)
            continue
        colour = MUTED if value == NONE else FEDERATED
        if point["low"] is not None:
            panel.plot([place, place], [point["low"], point["high"]], color=colour, lw=1.8, solid_capstyle="butt")
        if len(point["each"]) > 1:
            panel.plot([place + 0.18] * len(point["each"]), point["each"], ".", color=LOCAL, ms=3.5)
        panel.plot([place], [point["value"]], "s" if value == NONE else "o", color=colour, ms=5.5)
    name = "all hospitals" if site == POOLED else site
    people = found["sites"].get(site, sum(found["sites"].values()))
    weight = "bold" if site == POOLED else "normal"
    panel.set_title(f"{name}, trained on {formatting.format_count(people, 'patient')}", loc="left", weight=weight)
    panel.set_xticks(range(last + 1), ["none" if value == NONE else value for value in found["epsilons"]])
    panel.set_xlim(-0.5, last + 0.5)
    panel.set_xlabel("epsilon")


def render_sweep_page(found: dict[str, Any], svg: str) -> str:
    """Return the page."""
    notices = "".join(f'<p class="notice">{escape(text)}</p>' for text in found["notices"])
    said = "".join(f"<p>{escape(text)}</p>" for text in explanation_sentences(found))
    title = f"What privacy costs: {escape(found['title'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f'{notices}{said}<div class="wide">{svg[svg.index("<svg") :]}</div>'
        "<p>Squares and the grey band: without privacy. Bars: 95% intervals, of several runs their outermost ends. "
        f'Small dots: single runs, where there are several.</p><div class="wide">{_table(found)}</div></body></html>\n'
    )


def _table(found: dict[str, Any]) -> str:
    """Return the points as a table."""
    heads = "".join(
        f'<th scope="col">{"no privacy" if value == NONE else f"epsilon {value}"}</th>' for value in found["epsilons"]
    )
    rows = []
    for site in [*found["sites"], POOLED]:
        count = found["sites"].get(site, sum(found["sites"].values()))
        cells = "".join(f"<td>{format_point(found['points'][site][value])}</td>" for value in found["epsilons"])
        name = "all hospitals" if site == POOLED else site
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td>{count}</td>{cells}</tr>')
    head = f'<thead><tr><th scope="col">Hospital</th><th scope="col">Training patients</th>{heads}</tr></thead>'
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


NONE = "none"


POOLED = "(pooled)"


def format_point(point: dict[str, Any]) -> str:
    """Return a point as `0.712 (0.641 to 0.780)`."""
    if point["value"] is None:
        return "n/a"
    ends = "" if point["low"] is None else f" ({point['low']:.3f} to {point['high']:.3f})"
    return f"{point['value']:.3f}{ends}"


def explanation_sentences(found: dict[str, Any]) -> list[str]:
    """Return the sentences that stand beside the figures."""
    unit = {"patient": "per patient", "record": "per example", "hospital": "per hospital"}.get(found["level"], "")
    runs = len(found["seeds"])
    lines = [
        f"{formatting.capitalise(formatting.metric_title(found['metric']))} of the federated model on test patients"
        + (f", epsilon {unit} at delta {found['delta']:g}." if unit else ".")
    ]
    several = f"Mean over {runs} seeds, with the outermost ends of the runs' " if runs > 1 else "With "
    lines.append(f"{several}95% intervals over test patients. Hospitals of the fewest training patients come first.")
    if found["settings_of_all_points"]:
        lines.append("All points alike, none too, were run with " + ", ".join(found["settings_of_all_points"]) + ".")
    return lines


def render_sweep_markdown(found: dict[str, Any]) -> str:
    """Return the table that is printed and quoted."""
    lines = [f"> {text}\n" for text in found["notices"]]
    lines += [*explanation_sentences(found), ""]
    heads = ["no privacy" if value == NONE else f"epsilon {value}" for value in found["epsilons"]]
    lines += [
        "| hospital | training patients | " + " | ".join(heads) + " |",
        "| --- | ---: |" + " --- |" * len(heads),
    ]
    for site in [*found["sites"], POOLED]:
        count = found["sites"].get(site, sum(found["sites"].values()))
        name = "all hospitals" if site == POOLED else site
        points = [format_point(found["points"][site][value]) for value in found["epsilons"]]
        lines.append(f"| {name} | {count} | " + " | ".join(points) + " |")
    return "\n".join(lines) + "\n"
