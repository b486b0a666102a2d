"""The file of a run's counts: by site and table, as one .safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.files import write_arrays
from common.metrics.counts import Counts

COUNT_PARTS = tuple(part.name for part in fields(Counts))

SPARSE = "\tsparse:"
"""Between an array's name and a part of it that `_pack_sparse` made."""
MAX_POSITIONS = 2**32 - 1
Tables = dict[str, dict[str, Counts]]
"""Counts by site and table."""


def name_count_arrays(tables: Mapping[str, Mapping[str, Counts]]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of counts by site and table, under names from which `read_count_arrays` builds them again."""
    return {
        f"{site}\t{name}\t{part}": getattr(counts, part)
        for site, by_name in tables.items()
        for name, counts in by_name.items()
        for part in COUNT_PARTS
    }


def read_count_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Tables:
    """Return the counts in arrays that `name_count_arrays` named, by site and table.

    Raises:
        ValueError: a name is not one of these.
        TypeError: counts lack a part.
    """
    parts: dict[str, dict[str, dict[str, Any]]] = {}
    for key, value in arrays.items():
        site, name, part = key.split("\t")
        parts.setdefault(site, {}).setdefault(name, {})[part] = value
    return {site: {name: Counts(**each) for name, each in tables.items()} for site, tables in parts.items()}


def save_tables(path: Path, tables: Mapping[str, Mapping[str, Counts]]) -> None:
    """Write counts by site and table into one file; arrays that hold mostly zeros as their other values."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in name_count_arrays(tables).items():
        arrays |= _pack_sparse(name, value)
    write_arrays(path, arrays, {})


def _pack_sparse(name: str, value: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return an array of counts as the positions and values that are not 0, where few are."""
    flat = value.reshape(-1)
    where = np.flatnonzero(flat)
    if value.dtype != np.int64 or value.size > MAX_POSITIONS or len(where) * 6 > value.size:
        return {name: value}
    nonzero = flat[where]
    fitting = np.min_scalar_type(int(nonzero.max())) if len(nonzero) and nonzero.min() >= 0 else value.dtype
    packed = {"positions": where.astype(np.uint32), "values": nonzero.astype(fitting), "shape": np.asarray(value.shape)}
    return {f"{name}{SPARSE}{part}": item for part, item in packed.items()}


def _unpack_sparse(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return arrays under the names that `name_count_arrays` gives, those of `_pack_sparse` in full again."""
    whole: dict[str, npt.NDArray[Any]] = {}
    for name, value in arrays.items():
        base, _, part = name.partition(SPARSE)
        if not part:
            whole[name] = value
        elif part == "shape":
            full = np.zeros(tuple(value), np.int64)
            full.reshape(-1)[arrays[f"{base}{SPARSE}positions"]] = arrays[f"{base}{SPARSE}values"]
            whole[base] = full
    return whole


def load_tables(path: Path) -> Tables:
    """Return the counts that `save_tables` wrote, by site and table.

    Raises:
        DataError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return read_count_arrays(_unpack_sparse(load_file(path)))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, IndexError):
        raise DataError(f"{path} holds no counts: run with evaluation.keep_counts=true") from None
