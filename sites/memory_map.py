"""Large prepared tables: safetensors files (as sites/cache.py writes) that are written in blocks and mapped.

A table of a gigabyte is then made without being held whole, opened without being read, and its pages are shared
by every process that opens it. A mapped array may be written to: the change stays in this process.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sites import cache
from sites.cache import Arrays

_TYPES: dict[str, type[np.generic]] = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}

Blocks = tuple[tuple[int, ...], npt.DTypeLike, Iterable[npt.NDArray[Any]]]
"""An array's shape, its type, and its blocks along the first axis, in order."""


def open_tables(folder: Path, name: str) -> tuple[Arrays, dict[str, str]] | None:
    """Return arrays, mapped, and notes; or None if there is no whole file of that name."""
    path = folder / f"{name}.safetensors"
    try:
        with path.open("rb") as stored:
            length = int.from_bytes(stored.read(8), "little")
            size = os.fstat(stored.fileno()).st_size
            if not 0 < length <= size - 8:
                return None
            header: dict[str, Any] = json.loads(stored.read(length))
        about: dict[str, str] = header.pop("__metadata__", {})
        if 8 + length + max((item["data_offsets"][1] for item in header.values()), default=0) != size:
            return None
        return {key: _mapped(path, 8 + length, item) for key, item in header.items()}, about
    except (OSError, ValueError):
        return None


def _mapped(path: Path, begin: int, item: dict[str, Any]) -> npt.NDArray[Any]:
    shape, kind = tuple(item["shape"]), _TYPES[item["dtype"]]
    if 0 in shape:
        return np.zeros(shape, kind)
    return np.asarray(np.memmap(path, kind, "c", begin + item["data_offsets"][0], shape))


def write_tables(folder: Path, name: str, arrays: Mapping[str, Blocks], about: Mapping[str, str]) -> None:
    """Write a whole file or none.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    # The widest types first: what follows the header, which is padded to 8 bytes, is then aligned.
    ordered = dict(sorted(arrays.items(), key=lambda entry: -np.dtype(entry[1][1]).itemsize))
    header: dict[str, Any] = {"__metadata__": dict(about)}
    end = 0
    for key, (shape, kind, _) in ordered.items():
        begin, end = end, end + math.prod(shape) * np.dtype(kind).itemsize
        header[key] = {"dtype": _NAMES[np.dtype(kind)], "shape": list(shape), "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)

    def write(out: BinaryIO) -> None:
        out.write(len(head).to_bytes(8, "little") + head)
        for _, kind, blocks in ordered.values():
            for block in blocks:
                out.write(np.ascontiguousarray(block, kind).reshape(-1).view(np.uint8).data)
        if out.tell() != 8 + len(head) + end:
            raise ValueError(f"{name}: the blocks are not of the shape that was announced")

    cache.write_whole(folder, name, write)
