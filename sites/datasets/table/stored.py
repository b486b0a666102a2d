"""Rows of a table as arrays that the cache keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from sites import cache
from sites.datasets.table.ahead import TimedRows, look_ahead
from sites.datasets.table.description import Description
from sites.datasets.table.rows import TableRows, read_rows

NAMES = tuple(item.name for item in fields(TableRows) if item.type.startswith("tuple"))
ARRAYS = tuple(item.name for item in fields(TableRows) if item.name not in NAMES)


def prepare(folder: Path, description: Description, *, labelled: bool) -> tuple[cache.Arrays, dict[str, str]]:
    """Read a folder, and return its rows as arrays and notes for the cache."""
    rows = read_rows(folder, description, labelled=labelled)
    if description.time is not None:
        timed = look_ahead(rows, description, labelled=labelled)
    else:
        none = np.zeros(0, np.float32)
        timed = TimedRows(rows, none, none)
    arrays: cache.Arrays = {name: np.ascontiguousarray(getattr(timed.rows, name)) for name in ARRAYS}
    arrays |= {"covered": timed.covered, "until": timed.until}
    return arrays, {"names": json.dumps({name: getattr(timed.rows, name) for name in NAMES})}


def restore(arrays: cache.Arrays, names: Mapping[str, list[str]]) -> TimedRows:
    """Return the rows that `prepare` made arrays of."""
    own: dict[str, Any] = {name: arrays[name] for name in ARRAYS} | {name: tuple(names[name]) for name in NAMES}
    return TimedRows(TableRows(**own), arrays["covered"], arrays["until"])
