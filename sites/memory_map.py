"""Large prepared tables: a folder of `.npy` files that are written in blocks and opened memory-mapped.

A table of a gigabyte is written without being held in memory, opened without being read, and its pages are shared by
all processes that open it. A mapped array may be written to: the change stays in this process.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sites.cache import Arrays, report_write_errors

NOTES = "notes.json"
"""The file of a table's folder that holds its notes."""

Blocks = tuple[tuple[int, ...], npt.DTypeLike, Iterable[npt.NDArray[Any]]]
"""An array's shape, its type, and its blocks along the first axis, in order."""


def open_tables(folder: Path, name: str) -> tuple[Arrays, dict[str, str]] | None:
    """Return the mapped arrays and the notes, or None if there is no complete table of that name."""
    home = _table_folder(folder, name)
    try:
        notes: dict[str, str] = json.loads((home / NOTES).read_text(encoding="utf-8"))
        return {path.stem: _open_array(path) for path in sorted(home.glob("*.npy"))}, notes
    except (OSError, ValueError):
        return None


def write_tables(folder: Path, name: str, arrays: Mapping[str, Blocks], notes: Mapping[str, str]) -> None:
    """Write all arrays of a table or none.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
        ValueError: the blocks do not fill the shape.
    """
    with report_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as scratch:
            build = Path(scratch) / "table"
            build.mkdir()
            for key, (shape, dtype, blocks) in arrays.items():
                _write_blocks(build / f"{key}.npy", shape, dtype, blocks)
            (build / NOTES).write_text(json.dumps(dict(notes)), encoding="utf-8")
            home = _table_folder(folder, name)
            if home.exists() and open_tables(folder, name) is None:
                shutil.rmtree(home)
            if not home.exists():
                try:
                    build.rename(home)
                except OSError:
                    # another process may have finished the same table first
                    if open_tables(folder, name) is None:
                        raise


def _table_folder(folder: Path, name: str) -> Path:
    return folder / f"{name}.tables"


def _open_array(path: Path) -> npt.NDArray[Any]:
    """Return a mapped array.

    Raises:
        ValueError: the file is damaged, shorter or longer than its array.
    """
    array = np.lib.format.open_memmap(path, mode="c")
    if array.offset + array.nbytes != path.stat().st_size:
        raise ValueError(f"{path} is not of the length of its array")
    return np.asarray(array)


def _write_blocks(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, blocks: Iterable[npt.NDArray[Any]]) -> None:
    # Written, not mapped: a full disk is then an error of the write, where a mapped page would end the process.
    kind = np.dtype(dtype)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    filled = 0
    with path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for block in blocks:
            out.write(np.ascontiguousarray(block, kind).reshape(-1).view(np.uint8).data)
            filled += block.size
    if filled != math.prod(shape):
        raise ValueError(f"{path.stem}: the blocks hold {filled} values, the shape {math.prod(shape)}")
