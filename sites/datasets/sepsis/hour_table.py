"""One hospital's `.psv` files, a patient each, as one table of hours that is read once, kept, and mapped.

What is prepared is kept under a digest of all contents. To read 18,000 files for that digest is most of the
work, so a stamp leads to it: a digest of every file's name, size, inode and times of change, to the nanosecond.
The inode's own time moves with every write and no program sets it back, so a stamp that fits means unchanged
files. None is left while a file is younger than two seconds, when a second write may bear the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites import cache, memory_map
from sites.datasets.sepsis import psv

VERSION = 1
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class HourTable:
    """The hours of one hospital's patients, patient after patient in the order of their names.

    `rows`: float32 `(hours, 40)`, COLUMNS in their units, NaN where not measured; `label`: uint8 `(hours,)`;
    `first`: int64 `(patients,)`, the row at which each begins; `digest`: uint8 `(patients, 16)`, of each file;
    `empty`: files without an hour, left out; `impossible`: of a patient (index) and a column, the number of
    cells that could not be and became NaN; `key`: names what is made from this table.
    """

    key: str
    names: tuple[str, ...]
    rows: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    first: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint8]
    empty: int
    impossible: tuple[tuple[int, str, int], ...]

    @property
    def hours(self) -> npt.NDArray[np.int64]:
        """The number of hours of each patient."""
        return np.diff(self.first, append=len(self.label))


def read_hour_table(folder: Path, store: Path) -> HourTable:
    """Return the patients of a folder of `.psv` files, prepared before or now.

    Raises:
        DataError: no folder or no file, or a file is not as published; the message names the place.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the patients (.psv)")
    facts = _facts(folder)
    if not facts:
        raise DataError(f"no recordings in {folder}: it holds no .psv file")
    names = [fact[0] for fact in facts]
    stamp = _digest(VERSION, str(folder.resolve()), facts)
    known = cache.read_notes(store, stamp)
    if known and (table := _load(store, known["content"])):
        return table
    contents = _contents(folder, [fact[:2] for fact in facts])
    digests = [hashlib.blake2b(content, digest_size=16).digest() for content in contents]
    key = _digest(VERSION, names, digests)
    table = _load(store, key)
    if table is None:
        _prepare(folder, names, contents, digests, store, key)
        table = _load(store, key)
    if table is None:
        raise DataError(f"prepared data vanished from {store}: keep other programs from clearing it")
    if time.time_ns() - max(max(fact[2:4]) for fact in facts) > _SETTLED_NS:
        cache.store_arrays(store, stamp, {}, {"content": key})
    return table


def _facts(folder: Path) -> list[tuple[str, int, int, int, int]]:
    """Return of each patient's file, by name: name, size, times of change of the content and of the inode, inode."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".psv") and name[0] != "." and entry.is_file():
                at = entry.stat()
                found.append((name, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino))
    found.sort()
    return found


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _load(store: Path, key: str) -> HourTable | None:
    found = memory_map.open_tables(store, key)
    if found is None:
        return None
    arrays, about = found
    return HourTable(
        key=key,
        names=tuple(about["names"].split("\n")) if about["names"] else (),
        rows=arrays["rows"],
        label=arrays["label"],
        first=arrays["first"],
        digest=arrays["digest"],
        empty=int(about["empty"]),
        impossible=tuple((who, column, count) for who, column, count in json.loads(about["impossible"])),
    )


def _contents(folder: Path, files: Sequence[tuple[str, int]]) -> list[bytes]:
    place = os.open(folder, os.O_RDONLY)

    def some(part: Sequence[tuple[str, int]]) -> list[bytes]:
        found = []
        for name, size in part:
            try:
                handle = os.open(name, os.O_RDONLY, dir_fd=place)
                try:
                    found.append(os.read(handle, size + 1))
                finally:
                    os.close(handle)
            except OSError as error:
                raise DataError(f"{folder / name}: cannot be read: {error.strerror}") from None
            if len(found[-1]) != size:
                raise DataError(f"{folder / name}: changed while it was read: start again when it is at rest")
        return found

    try:
        with ThreadPoolExecutor(2) as pool:
            parts = [files[at : at + 1024] for at in range(0, len(files), 1024)]
            return [content for found in pool.map(some, parts) for content in found]
    finally:
        os.close(place)


def _prepare(
    folder: Path, names: list[str], contents: list[bytes], digests: list[bytes], store: Path, key: str
) -> None:
    hours = psv.parse_files(folder, names, contents)
    of = dict(zip(names, digests, strict=True))
    digest = np.frombuffer(b"".join(of[name] for name in hours.files), np.uint8).reshape(-1, 16)
    arrays: dict[str, npt.NDArray[Any]] = {
        "rows": hours.rows,
        "label": hours.label,
        "first": hours.first,
        "digest": digest,
    }
    about = {
        "names": "\n".join(name.removesuffix(".psv") for name in hours.files),
        "empty": str(len(names) - len(hours.files)),
        "impossible": json.dumps(hours.impossible),
    }
    memory_map.write_tables(
        store, key, {name: (item.shape, item.dtype, [item]) for name, item in arrays.items()}, about
    )
