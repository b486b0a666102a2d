"""The file of a run's counts: by site and table, as one .safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.files import write_arrays
from common.metrics.counts import Counts

COUNT_PARTS = tuple(part.name for part in fields(Counts))


def save_tables(path: Path, tables: Mapping[str, Mapping[str, Counts]]) -> None:
    """Write counts by site and table into one file."""
    arrays = {
        f"{site}\t{name}\t{part}": getattr(counts, part)
        for site, by_name in tables.items()
        for name, counts in by_name.items()
        for part in COUNT_PARTS
    }
    write_arrays(path, arrays, {})


def load_tables(path: Path) -> dict[str, dict[str, Counts]]:
    """Return the counts that `save_tables` wrote, by site and table.

    Raises:
        DataError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    arrays: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        for key, value in load_file(path).items():
            site, name, part = key.split("\t")
            arrays.setdefault(site, {}).setdefault(name, {})[part] = value
        return {s: {n: Counts(**parts) for n, parts in tables.items()} for s, tables in arrays.items()}
    except (OSError, SafetensorError, ValueError, TypeError):
        raise DataError(f"{path} holds no counts: run with evaluation.keep_counts=true") from None
