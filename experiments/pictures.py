"""Drawings as files of their own, SVG and PNG: plain colours on white, the tags of their data written into them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, MUTED, RULE, ALARM = "#17212b", "#55616d", "#d5dbe1", "#a8071a"
BLUE, RED, GREEN = "#0072b2", "#d55e00", "#009e73"


@contextmanager
def style() -> Iterator[None]:
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


def panels(count: int, columns: int, *, width: float = 10.0, each: float = 2.2) -> tuple[Canvas, list[Axes]]:
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


def save(drawing: Canvas, folder: Path, stem: str, title: str, tags: Sequence[str]) -> list[Path]:
    """Write a drawing as SVG and PNG, each whole or not at all; call it within `style`."""
    drawing.suptitle("   ".join([*tags, title]), x=0.01, ha="left", fontsize=11, color=ALARM if tags else INK)
    paths = []
    for kind in ("svg", "png"):
        path = folder / f"{stem}.{kind}"
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        metadata = {"Date": None} if kind == "svg" else {}
        drawing.savefig(part, format=kind, dpi=150, facecolor="white", metadata=metadata)
        os.replace(part, path)
        paths.append(path)
    return paths
