"""The one kit for plots, and the only module that imports matplotlib.

A plot is drawn on a canvas within `plot_style` and becomes a `Plot` by `finish_plot` (for the report's page, tagged
with the report's notices) or is written to files by `save_drawing` (for other pages). Matplotlib draws in placeholder
colours; in the SVG these become the page's CSS variables, so that one drawing serves light, dark and print, and text
stays text. A plot in a separate file has the page's light colours.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.files import write_bytes
from experiments.report.document.report import Report
from experiments.report.text.formatting import NOTICE_TAGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as MatplotlibFigure

    Canvas = MatplotlibFigure

INK, MUTED, RULE, ALARM = "#010101", "#020202", "#030303", "#040404"
FEDERATED, LOCAL, POOLED, PERSONAL = "#050505", "#060606", "#070707", "#080808"
SERIES = tuple(f"#0{digit}0a0a" for digit in range(1, 8))
"""Placeholder colours of single hospitals or classes."""

VARIABLES = {
    INK: "ink", MUTED: "muted", RULE: "rule", ALARM: "alarm",
    FEDERATED: "federated", LOCAL: "local", POOLED: "pooled", PERSONAL: "personal",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, 1)},
}  # fmt: skip
"""The CSS variable of each placeholder colour."""
WIDTH = 10.0
"""Width of every plot of the page in inches; the page scales it."""
DPI = 144
DASHED, DOTTED = (0, (4, 2)), (0, (1, 1.5))
"""Line styles of reference lines."""


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Attributes:
        title: what it shows.
        svg: the `<svg>` element for the page, coloured by the page's CSS variables.
        canvas: the matplotlib figure, from which the PNG is made.
        page: what the page shows instead of `svg`, if it is not the whole drawing (plots/tiles.py).
    """

    title: str
    svg: str
    canvas: Canvas
    page: str = ""

    @property
    def file(self) -> str:
        """The plot as a stand-alone SVG file in the page's light colours."""
        text = re.sub(r"var\(--([\w-]+)\)", lambda match: read_light_colours()[match[1]], self.svg)
        size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
        assert size is not None  # _make_plot wrote it
        attributes = f'<svg width="{size[1]}pt" height="{size[2]}pt" font-family="Helvetica, Arial, sans-serif"'
        background = f'</desc><rect width="100%" height="100%" fill="{read_light_colours()["paper"]}"/>'
        text = text.replace("<svg", attributes, 1).replace("</desc>", background, 1)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{text.rstrip()}\n'

    @cached_property
    def png(self) -> bytes:
        """The plot as PNG in the page's light colours."""
        with plot_style():
            return _render_png(self.canvas)


Draw = Callable[[Report], Plot | None]
"""Draws a plot of a report; None if the report has nothing to draw."""


@cache
def read_light_colours() -> dict[str, str]:
    """Return the page's light colours by the name of their CSS variable."""
    text = (Path(__file__).parents[1] / "templates" / "report.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text[: text.index("}")]))


@contextmanager
def plot_style() -> Iterator[None]:
    """Make matplotlib write text as text in the page's colours; a `$` in a hospital's name starts no formula."""
    from matplotlib import rc_context

    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "wardround", "text.parse_math": False, "font.size": 9,
        "text.color": INK, "axes.labelcolor": MUTED, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
        "legend.labelcolor": INK, "axes.titlecolor": INK, "axes.titlesize": 9.5,
    }  # fmt: skip
    with rc_context(style), warnings.catch_warnings():
        # Matplotlib measures text with its own font, which lacks glyphs that the reader's fonts have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def create_canvas(
    height: float,
    panels: int,
    *,
    columns: int = 0,
    width: float = WIDTH,
    gap: float = 0.14,
    row_gap: float = 0.2,
    **margins: float,
) -> tuple[Canvas, list[Axes]]:
    """Return a canvas and its panels, side by side; call it within `plot_style`.

    Args:
        height: inches.
        panels: number of panels.
        columns: panels per row; 0 means all in one row.
        width: inches.
        gap: space between two panels of a row, in panel widths.
        row_gap: space between two rows, in panel heights.
        margins: distance of the panels from the edges, in inches (left, right, top, bottom).
    """
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(width, height))
    columns = columns or panels
    axes = [canvas.add_subplot(-(-panels // columns), columns, number + 1) for number in range(panels)]
    canvas.subplots_adjust(
        left=margins["left"] / width,
        right=1 - margins["right"] / width,
        top=1 - margins["top"] / height,
        bottom=margins["bottom"] / height,
        wspace=gap,
        hspace=row_gap,
    )
    for panel in axes:
        _clear_frame(panel)
    return canvas, axes


def create_panel_grid(
    count: int, columns: int, *, width: float = WIDTH, row_height: float = 2.2
) -> tuple[Canvas, list[Axes]]:
    """Return a canvas with rows of panels on a common scale; call it within `plot_style`.

    Args:
        count: number of panels.
        columns: maximum number of panels per row.
        width: width of the canvas in inches.
        row_height: height of a row in inches.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    canvas = Figure(figsize=(width, row_height * rows + 1.1), layout="constrained")
    grid = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = [grid[number // columns][number % columns] for number in range(rows * columns)]
    for panel in panels[count:]:
        panel.set_visible(False)
    for panel in panels[:count]:
        _clear_frame(panel)
        panel.tick_params(labelbottom=True)
        panel.grid(axis="y", color=RULE, lw=0.6)
    return canvas, panels[:count]


def _clear_frame(panel: Axes) -> None:
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(RULE)
    panel.tick_params(length=0)
    panel.set_axisbelow(True)


def add_legend(target: Canvas | Axes, entries: Mapping[str, Mapping[str, Any]], **options: Any) -> None:
    """Add a legend without a frame: each entry's label with its line properties; call it within `plot_style`."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **properties) for properties in entries.values()]
    target.legend(handles, list(entries), frameon=False, **options)


def plot_weighted_line(
    panel: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], widths: npt.NDArray[np.float64], color: str
) -> None:
    """Draw a line whose pieces between neighbouring points have the given widths in points, `(points - 1,)`."""
    from matplotlib.collections import LineCollection

    points = np.stack([x, y], 1)
    panel.add_collection(LineCollection(list(np.stack([points[:-1], points[1:]], 1)), colors=color, linewidths=widths))


def use_integer_ticks(panel: Axes) -> None:
    """Place the ticks of the x axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def read_png(path: Path) -> npt.NDArray[np.float32]:
    """Return the pixels of a PNG file, `(height, width, channels)`, each 0 to 1."""
    from matplotlib import image

    return np.asarray(image.imread(path), dtype=np.float32)


def finish_plot(canvas: Canvas, report: Report, name: str, title: str, description: str) -> Plot:
    """Return a drawing as a plot of the report's page; call it within `plot_style`.

    Args:
        canvas: the drawing.
        report: its notices are written into the drawing, which may be copied out of the page.
        name: prefix of every identifier in the SVG, because several plots share one page.
        title: what the plot shows, for screen readers.
        description: what can be seen in it, for screen readers.
    """
    tags = [tag for level, tag in NOTICE_TAGS.items() if report.has(level)]
    if tags:
        canvas.text(
            1 - 0.05 / canvas.get_figwidth(), 1 - 0.06 / canvas.get_figheight(), " · ".join(tags),
            ha="right", va="top", color=ALARM, weight="bold", size=10,
        )  # fmt: skip
    return _make_plot(canvas, name, title, description)


def save_drawing(canvas: Canvas, folder: Path, name: str, title: str, tags: Sequence[str]) -> list[Path]:
    """Write a drawing as `name`.svg and `name`.png under a title line; call it within `plot_style`.

    Returns:
        the paths of the SVG and of the PNG.
    """
    canvas.suptitle("   ".join([*tags, title]), x=0.01, ha="left", fontsize=11, color=ALARM if tags else INK)
    plot = _make_plot(canvas, name, title, "")
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    for path, content in zip(paths, (plot.file.encode(), plot.png), strict=True):
        write_bytes(path, content)
    return paths


def _make_plot(canvas: Canvas, name: str, title: str, description: str) -> Plot:
    out = io.StringIO()
    canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"font: (?:(bold|\d+) )?([\d.]+)px [^;\"]*", _format_font, text)
    text = re.sub("|".join(VARIABLES), lambda match: f"var(--{VARIABLES[match[0]]})", text)
    width, height = (72 * inches for inches in canvas.get_size_inches())
    opening = (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    return Plot(title, opening + text[text.index(">") + 1 :], canvas)


def _format_font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}px"


def _render_png(canvas: Canvas) -> bytes:
    """Return the drawing as PNG; its placeholder colours are replaced by the page's light ones, in place."""
    from matplotlib.colors import to_hex, to_rgba, to_rgba_array

    light = {colour: to_rgba(read_light_colours()[name])[:3] for colour, name in VARIABLES.items()}
    for artist in canvas.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get, set_ = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if get is None or set_ is None:
                continue
            colours = to_rgba_array(get())
            replaced = [(*light.get(to_hex(colour[:3]), tuple(colour[:3])), colour[3]) for colour in colours]
            if replaced != [tuple(colour) for colour in colours]:
                set_(replaced[0] if len(replaced) == 1 else replaced)
    out = io.BytesIO()
    canvas.savefig(out, format="png", dpi=DPI, facecolor=read_light_colours()["paper"], metadata={"Software": None})
    return out.getvalue()
