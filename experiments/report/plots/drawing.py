"""Drawings as inline SVG: text stays text, and colours are the page's, for light, dark and paper alike.

Matplotlib draws in placeholder colours that stand for the page's own. The finished SVG gets the page's
variables in their place, identifiers of its own (several drawings share one page), and a title and a
description for screen readers. As a file of its own a drawing has the page's light colours on white.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

import io
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import TYPE_CHECKING

from common.files import write_atomically
from experiments.report.document.report import Report
from experiments.report.text.formatting import NOTICE_TAGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, MUTED, RULE, ALARM = "#010101", "#020202", "#030303", "#040404"
FEDERATED, LOCAL, POOLED, PERSONAL = "#050505", "#060606", "#070707", "#080808"
SERIES = tuple(f"#0{digit}0a0a" for digit in range(1, 8))
"""Placeholders for the curves of single hospitals."""

VARIABLES = {
    INK: "ink", MUTED: "muted", RULE: "rule", ALARM: "alarm",
    FEDERATED: "federated", LOCAL: "local", POOLED: "pooled", PERSONAL: "personal",
    **{colour: f"series-{place}" for place, colour in enumerate(SERIES, 1)},
}  # fmt: skip
WIDTH = 10.0
"""Inches of every drawing; the page scales it."""
DPI = 144
_RASTERS: ContextVar[list[bytes] | None] = ContextVar("rasters", default=None)
"""Takes each finished drawing as PNG too, while someone asks for it."""


@dataclass(frozen=True)
class Plot:
    """A finished drawing: `svg` for the page, in its variables; `png` of the same, in its light colours."""

    svg: str
    png: bytes

    @property
    def file(self) -> str:
        """The drawing as an SVG file that stands alone."""
        text = re.sub(r"var\(--([\w-]+)\)", lambda found: read_light_colours()[found[1]], self.svg)
        size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
        assert size is not None  # finish wrote it
        own = f'<svg width="{size[1]}pt" height="{size[2]}pt" font-family="Helvetica, Arial, sans-serif"'
        ground = f'</desc><rect width="100%" height="100%" fill="{read_light_colours()["paper"]}"/>'
        text = text.replace("<svg", own, 1).replace("</desc>", ground, 1)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{text.rstrip()}\n'


@cache
def read_light_colours() -> dict[str, str]:
    """Return the page's light colours by the name of their variable."""
    text = (Path(__file__).parents[1] / "templates" / "report.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text[: text.index("}")]))


def draw_plot(draw: Callable[[Report], str], report: Report) -> Plot | None:
    """Return what a plot's function draws of a report, for the page and for files; None where it draws nothing."""
    kept: list[bytes] = []
    token = _RASTERS.set(kept)
    try:
        svg = draw(report)
    finally:
        _RASTERS.reset(token)
    return Plot(svg, kept[-1]) if svg else None


@contextmanager
def page_style() -> Iterator[None]:
    """Make matplotlib write text as text, in the page's colours; a `$` in a hospital's name is no formula."""
    from matplotlib import rc_context

    looks: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "wardround", "text.parse_math": False, "font.size": 9,
        "text.color": INK, "axes.labelcolor": MUTED, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
        "legend.labelcolor": INK, "axes.titlecolor": INK,
    }  # fmt: skip
    with rc_context(looks), warnings.catch_warnings():
        # Matplotlib lays text out with its own font, which lacks letters that the reader's fonts have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def create_canvas(
    height: float, panels: int, *, columns: int = 0, apart: float = 0.14, below: float = 0.2, **margins: float
) -> tuple[Canvas, list[Axes]]:
    """Return a drawing of `height` inches with panels side by side; call it within `style`.

    Args:
        height: inches.
        panels: how many.
        columns: how many stand in a row; 0: all.
        apart: between two in a row, in widths of one.
        below: between two rows, in heights of one.
        margins: where the panels end, in inches from the edge (left, right, top, bottom).
    """
    from matplotlib.figure import Figure as Canvas

    drawing = Canvas(figsize=(WIDTH, height))
    columns = columns or panels
    axes = [drawing.add_subplot(-(-panels // columns), columns, place + 1) for place in range(panels)]
    drawing.subplots_adjust(
        left=margins["left"] / WIDTH,
        right=1 - margins["right"] / WIDTH,
        top=1 - margins["top"] / height,
        bottom=margins["bottom"] / height,
        wspace=apart,
        hspace=below,
    )
    for panel in axes:
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.spines["bottom"].set_color(RULE)
        panel.tick_params(length=0)
        panel.set_axisbelow(True)
    return drawing, axes


def finish_svg(drawing: Canvas, report: Report, name: str, title: str, description: str) -> str:
    """Return the drawing as an `<svg>` element; call it within `style`.

    Args:
        drawing: what was drawn.
        report: its notices are written into the drawing, which may be copied out of the page.
        name: starts every identifier in it.
        title: what it shows, for screen readers.
        description: what is to be seen in it, for screen readers.
    """
    tags = [tag for level, tag in NOTICE_TAGS.items() if report.has(level)]
    if tags:
        drawing.text(
            1 - 0.05 / WIDTH, 1 - 0.06 / drawing.get_figheight(), " · ".join(tags),
            ha="right", va="top", color=ALARM, weight="bold", size=10,
        )  # fmt: skip
    out = io.StringIO()
    drawing.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    if (kept := _RASTERS.get()) is not None:
        kept.append(_raster(drawing))
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"font: (?:(bold|\d+) )?([\d.]+)px [^;\"]*", _font, text)
    text = re.sub("|".join(VARIABLES), lambda found: f"var(--{VARIABLES[found[0]]})", text)
    height = drawing.get_figheight() * 72
    opening = (
        f'<svg viewBox="0 0 {WIDTH * 72:g} {height:g}" role="img" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    return opening + text[text.index(">") + 1 :]


def _font(found: re.Match[str]) -> str:
    weight = f"font-weight: {found[1]}; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"


def _raster(drawing: Canvas) -> bytes:
    """Return the drawing as PNG; its placeholder colours become the page's light ones, in place."""
    from matplotlib.colors import to_hex, to_rgba, to_rgba_array

    real = {colour: to_rgba(read_light_colours()[name])[:3] for colour, name in VARIABLES.items()}
    for artist in drawing.findobj():
        for what in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            read, write = getattr(artist, f"get_{what}", None), getattr(artist, f"set_{what}", None)
            if read is None or write is None:
                continue
            rows = to_rgba_array(read())
            fixed = [(*real.get(to_hex(row[:3]), tuple(row[:3])), row[3]) for row in rows]
            if fixed != [tuple(row) for row in rows]:
                write(fixed[0] if len(fixed) == 1 else fixed)
    out = io.BytesIO()
    drawing.savefig(out, format="png", dpi=DPI, facecolor=read_light_colours()["paper"], metadata={"Software": None})
    return out.getvalue()


INK, MUTED, RULE, ALARM = "#17212b", "#55616d", "#d5dbe1", "#a8071a"


BLUE, RED, GREEN = "#0072b2", "#d55e00", "#009e73"


@contextmanager
def matplotlib_style() -> Iterator[None]:
    """Make matplotlib write text as text; a `$` in a hospital's name is no formula."""
    from matplotlib import rc_context

    looks: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "wardround", "text.parse_math": False, "font.size": 9,
        "text.color": INK, "axes.labelcolor": MUTED, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
        "legend.labelcolor": INK, "axes.titlecolor": INK, "font.family": "sans-serif", "axes.titlesize": 9.5,
    }  # fmt: skip
    with rc_context(looks), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def create_panel_grid(count: int, columns: int, *, width: float = 10.0, each: float = 2.2) -> tuple[Canvas, list[Axes]]:
    """Return a drawing with so many panels, row after row, all on the same scale; call it within `style`.

    Args:
        count: of panels.
        columns: at most so many in a row.
        width: inches of the drawing.
        each: inches of a row.
    """
    from matplotlib.figure import Figure as Canvas

    columns = min(columns, count)
    rows = -(-count // columns)
    drawing = Canvas(figsize=(width, each * rows + 1.1), layout="constrained")
    grid = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    flat = [grid[place // columns][place % columns] for place in range(rows * columns)]
    for panel in flat[count:]:
        panel.set_visible(False)
    for panel in flat[:count]:
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.spines["bottom"].set_color(RULE)
        panel.tick_params(length=0, labelbottom=True)
        panel.grid(axis="y", color=RULE, lw=0.6)
        panel.set_axisbelow(True)
    return drawing, flat[:count]


def save_drawing(drawing: Canvas, folder: Path, stem: str, title: str, tags: Sequence[str]) -> list[Path]:
    """Write a drawing as SVG and PNG, each whole or not at all; call it within `style`."""
    drawing.suptitle("   ".join([*tags, title]), x=0.01, ha="left", fontsize=11, color=ALARM if tags else INK)
    paths = []
    for kind in ("svg", "png"):
        path = folder / f"{stem}.{kind}"
        metadata = {"Date": None} if kind == "svg" else {}
        with write_atomically(path) as part:
            drawing.savefig(part, format=kind, dpi=150, facecolor="white", metadata=metadata)
        paths.append(path)
    return paths
