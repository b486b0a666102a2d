"""Small multiples: a drawing of many equal panels, which the page lays out in as many columns as are readable.

The whole drawing is a file; on the page each panel is an SVG of its own, so that a narrow page or paper shows fewer of
them side by side instead of smaller ones, and the legend is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

from experiments.report.document.report import Report
from experiments.report.plots.drawing import VARIABLES, Plot, add_legend, create_canvas
from experiments.report.text.formatting import NOTICE_TAGS

if TYPE_CHECKING:
    from experiments.report.plots.drawing import Axes, Canvas

COLUMNS = 4
TILE = (2.5, 2.3)
"""Width and height of a panel with its labels, in inches."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.62, 0.13, 0.3, 0.5
"""Space for the labels of a panel, in inches."""
_HEAD = 0.25
_GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖"}
_HOLLOW = {"o": "○"}


def create_tiles(count: int, legend_rows: int) -> tuple[Canvas, list[Axes]]:
    """Return a canvas of equal panels above space for a legend, and its panels; call it within `plot_style`."""
    columns = min(COLUMNS, max(count, 3))
    rows, (width, height) = math.ceil(count / columns), TILE
    whole = _HEAD + rows * height + 0.15 + 0.19 * legend_rows
    inner, tall = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    return create_canvas(
        whole, count, columns=columns, width=columns * width, gap=(_LEFT + _RIGHT) / inner,
        row_gap=(_TOP + _BOTTOM) / tall, left=_LEFT, right=_RIGHT, top=_HEAD + _TOP,
        bottom=whole - _HEAD - rows * height + _BOTTOM,
    )  # fmt: skip


def add_tile_legend(canvas: Canvas, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the legend under the panels; call it within `plot_style`."""
    add_legend(canvas, entries, loc="lower center", ncols=3, handlelength=3.0, fontsize=8, borderaxespad=0.2)


def cut_tiles(
    plot: Plot, report: Report, name: str, descriptions: Sequence[str], entries: Mapping[str, Mapping[str, Any]]
) -> Plot:
    """Return the plot with what the page shows of it: a list of the panels, and the legend as text.

    Args:
        plot: the finished plot of `create_tiles`.
        report: its notices stand on every panel, which may be copied out of the page.
        name: prefix of the identifiers in the plot.
        descriptions: what can be seen in each panel, for screen readers.
        entries: the legend: each label with its line properties.
    """
    tags = " · ".join(tag for level, tag in NOTICE_TAGS.items() if report.has(level))
    columns = round(plot.canvas.get_figwidth() / TILE[0])
    width, height = (72 * inches for inches in TILE)
    shared = "".join(re.findall(r"<defs>\s*<clipPath.*?</defs>", plot.svg, re.DOTALL))
    head = 9 if tags else 0
    items = []
    for number, description in enumerate(descriptions):
        x, y = number % columns * width, 72 * _HEAD + number // columns * height
        label = f"{plot.title}: {description}"
        mark = f'<text class="mark" x="{x + width - 2:g}" y="{y - 1:g}">{escape(tags)}</text>' if tags else ""
        items.append(
            f'<li><svg viewBox="{x:g} {y - head:g} {width:g} {height + head:g}" role="img" '
            f'aria-label="{escape(label)}">{mark}{_cut_group(plot.svg, f"{name}-axes_{number + 1}")}'
            f"{shared if number == 0 else ''}</svg></li>"
        )
    keys = "".join(f"<li>{_draw_key(style)} {escape(label)}</li>" for label, style in entries.items())
    legend = f'<ul class="keys">{keys}</ul>' if keys else ""
    return replace(plot, page=f'<ul class="multiples">{"".join(items)}</ul>{legend}')


def _cut_group(svg: str, identifier: str) -> str:
    """Return the element `<g id=IDENTIFIER>` with all within."""
    start, depth = svg.index(f'<g id="{identifier}"'), 0
    for match in re.compile(r"<g\b[^>]*>|</g>").finditer(svg, start):
        depth += -1 if match[0] == "</g>" else not match[0].endswith("/>")
        if not depth:
            return svg[start : match.end()]
    raise ValueError(f"the drawing has no end of {identifier}")


def _draw_key(style: Mapping[str, Any]) -> str:
    """Return the sign of a legend's entry: its marker as a character, its line in its colour and dashes."""
    colour, marker, line = VARIABLES[style["color"]], style.get("marker", ""), style.get("ls", "-")
    hollow = style.get("mfc") == "none"
    sign = _HOLLOW.get(marker, "") if hollow else _GLYPHS.get(marker, "")
    glyph = f'<span style="color: var(--{colour})">{sign}</span>' if sign else ""
    if line == "none":
        return f'<span aria-hidden="true">{glyph}</span>'
    dashes = "" if isinstance(line, str) else f' stroke-dasharray="{" ".join(f"{2 * part:g}" for part in line[1])}"'
    stroke = f'<line x1="0" y1="5" x2="28" y2="5" stroke="var(--{colour})" stroke-width="2"{dashes}/>'
    return f'<span aria-hidden="true"><svg viewBox="0 0 28 10">{stroke}</svg>{glyph}</span>'
