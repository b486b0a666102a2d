"""Comparison of measurements with those of an earlier version: the ratio of each number that both have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import DataError
from experiments.markdown_table import render_markdown_table

NAME_KEYS = ("command", "name", "hospitals", "workload", "method", "message", "level")
"""Keys that identify an entry of a list, joined in this order; without any, its position does."""


def read_measurements(path: Path) -> Any:
    """Return what `wardround bench ... --json` printed into a file.

    Raises:
        DataError: the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"--compare {path}: needs a file that `wardround bench ... --json` has printed") from None


def compare_measurements(now: Any, before: Any) -> list[tuple[str, float, float, float | None]]:
    """Return the path, both values and their ratio (None: to 0) of each number that both have, in today's order."""
    earlier = dict(_walk_numbers(before, ()))
    return [
        (", ".join(path), earlier[path], value, value / earlier[path] if earlier[path] else None)
        for path, value in _walk_numbers(now, ())
        if path in earlier
    ]


def render_comparison(now: Any, before: Any) -> str:
    """Return a Markdown table of the numbers that both have.

    Raises:
        DataError: they have none in common: they are of different benchmarks.
    """
    rows = compare_measurements(now, before)
    if not rows:
        raise DataError("--compare: the file holds another benchmark: it has no figure of this one")
    cells = [
        [path, f"{old:.4g}", f"{new:.4g}", "n/a" if ratio is None else f"{ratio:.2f}"] for path, old, new, ratio in rows
    ]
    return render_markdown_table(["figure", "before", "now", "ratio"], cells, (1, 2, 3))


def _walk_numbers(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the path and value of each number of measurements; lists of plain numbers are single turns and left out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk_numbers(item, (*path, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, Mapping):
                names = [str(item[key]) for key in NAME_KEYS if key in item] or [str(number)]
                yield from _walk_numbers(item, (*path, *names))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
