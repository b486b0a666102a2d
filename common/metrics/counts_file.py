"""The file of a run's counts: by site and table, as one .safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy.typing as npt

from common.errors import DataError
from common.files import write_arrays
from common.metrics.counts import Counts

COUNT_PARTS = tuple(part.name for part in fields(Counts))


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
    """Write counts by site and table into one file."""
    write_arrays(path, name_count_arrays(tables), {})


def load_tables(path: Path) -> Tables:
    """Return the counts that `save_tables` wrote, by site and table.

    Raises:
        DataError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return read_count_arrays(load_file(path))
    except (OSError, SafetensorError, ValueError, TypeError):
        raise DataError(f"{path} holds no counts: run with evaluation.keep_counts=true") from None
