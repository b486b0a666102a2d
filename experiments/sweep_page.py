"""A sweep's drawing, and its page: one file that needs nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import pictures
from experiments.report import words
from experiments.sweep import NONE, POOLED, explained, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 15
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


def draw(found: dict[str, Any], folder: Path) -> str:
    """Write sweep.svg and sweep.png; return the SVG."""
    names = list(found["sites"])
    shown = names if len(names) <= MOST else [*names[: MOST - 3], *names[-3:]]
    with pictures.style():
        drawing, panels = pictures.panels(len(shown) + 1, 4)
        for panel, site in zip(panels, [*shown, POOLED], strict=True):
            _panel(panel, found, site)
        metric = words.title(found["metric"])
        for panel in panels[::4]:
            panel.set_ylabel(metric)
        title = f"{words.capital(metric)} by epsilon: {found['title']}"
        if len(shown) < len(names):
            title += f" ({len(shown)} of {len(names)} hospitals drawn)"
        svg, _ = pictures.save(drawing, folder, "sweep", title, found["tags"])
    return svg.read_text(encoding="utf-8")


def _panel(panel: Axes, found: dict[str, Any], site: str) -> None:
    """Draw a hospital: a point and interval an epsilon, each run a small dot, without privacy a band behind them."""
    points = found["points"][site]
    free = points.get(NONE)
    last = len(found["epsilons"]) - 1
    if free and free["value"] is not None:
        panel.axhline(free["value"], color=pictures.MUTED, lw=0.8, ls=(0, (4, 2)))
        if free["low"] is not None:
            panel.axhspan(free["low"], free["high"], color=pictures.RULE, alpha=0.45, lw=0)
    for place, value in enumerate(found["epsilons"]):
        point = points[value]
        if point["value"] is None:
            panel.text(place, 0.02, "n/a", transform=panel.get_xaxis_transform(), ha="center", color=pictures.MUTED)
            continue
        colour = pictures.MUTED if value == NONE else pictures.BLUE
        if point["low"] is not None:
            panel.plot([place, place], [point["low"], point["high"]], color=colour, lw=1.8, solid_capstyle="butt")
        if len(point["each"]) > 1:
            panel.plot([place + 0.18] * len(point["each"]), point["each"], ".", color=pictures.RED, ms=3.5)
        panel.plot([place], [point["value"]], "s" if value == NONE else "o", color=colour, ms=5.5)
    name = "all hospitals" if site == POOLED else site
    people = found["sites"].get(site, sum(found["sites"].values()))
    weight = "bold" if site == POOLED else "normal"
    panel.set_title(f"{name}, trained on {words.plural(people, 'patient')}", loc="left", weight=weight)
    panel.set_xticks(range(last + 1), ["none" if value == NONE else value for value in found["epsilons"]])
    panel.set_xlim(-0.5, last + 0.5)
    panel.set_xlabel("epsilon")


def page(found: dict[str, Any], svg: str) -> str:
    """Return the page."""
    notices = "".join(f'<p class="notice">{escape(text)}</p>' for text in found["notices"])
    said = "".join(f"<p>{escape(text)}</p>" for text in explained(found))
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
        cells = "".join(f"<td>{spoken(found['points'][site][value])}</td>" for value in found["epsilons"])
        name = "all hospitals" if site == POOLED else site
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td>{count}</td>{cells}</tr>')
    head = f'<thead><tr><th scope="col">Hospital</th><th scope="col">Training patients</th>{heads}</tr></thead>'
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
