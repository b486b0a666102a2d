"""One hospital's `.psv` files, a patient each, as one table of hours that is parsed once, cached and memory-mapped.

The cache's key is a digest of all contents. Reading 18,000 files for that digest is most of the work, so a stamp stands
for it: a digest of every file's name, size, inode and times of change, to the nanosecond. The inode's own time changes
with every write and no program sets it back, so an equal stamp means unchanged files. No stamp is stored while a file
is younger than two seconds, when a second write may get the same time.
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

VERSION = 4
_MIN_AGE_NS = 2_000_000_000


@dataclass(frozen=True)
class HourTable:
    """The hours of one hospital's patients, patient after patient in the order of their names.

    Attributes:
        key: digest of the table's contents: the cache key of results that are computed from it.
        names: the patients.
        rows: float32 `(hours, 40)`, COLUMNS in their units, NaN where not measured.
        label: uint8 `(hours,)`, the published label of each hour: 1 sepsis.
        first: int64 `(patients,)`, each patient's first row.
        digest: uint8 `(patients, 16)`, digest of each patient's file.
        start: uint64 `(patients,)`, a hash of each patient's first row, to find patients who may be the same.
        empty: number of files without an hour, which are excluded.
        implausible: (index of the patient, column, number of implausible cells, which became NaN), as in psv.Hours.
    """

    key: str
    names: tuple[str, ...]
    rows: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    first: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint8]
    start: npt.NDArray[np.uint64]
    empty: int
    implausible: tuple[tuple[int, str, int], ...]

    @property
    def hours(self) -> npt.NDArray[np.int64]:
        """The number of hours of each patient."""
        return np.diff(self.first, append=len(self.label))


def read_hour_table(folder: Path, store: Path) -> HourTable:
    """Return the patients of a folder of `.psv` files, from the cache where they are there.

    Raises:
        DataError: no folder or no file, or a file is not as published; the message names the place.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the patients (.psv)")
    files = _stat_files(folder)
    if not files:
        raise DataError(f"no recordings in {folder}: it holds no .psv file")
    names = [file[0] for file in files]
    stamp = _digest(VERSION, str(folder.resolve()), files)
    notes = cache.read_notes(store, stamp)
    if notes and (table := _load(store, notes["content"])):
        return table
    contents = _contents(folder, [file[:2] for file in files])
    digests = [hashlib.blake2b(content, digest_size=16).digest() for content in contents]
    key = _digest(VERSION, names, digests)
    table = _load(store, key)
    if table is None:
        _prepare(folder, names, contents, digests, store, key)
        table = _load(store, key)
    if table is None:
        raise DataError(f"prepared data vanished from {store}: keep other programs from clearing it")
    if time.time_ns() - max(max(file[2:4]) for file in files) > _MIN_AGE_NS:
        cache.store_arrays(store, stamp, {}, {"content": key})
    return table


def _stat_files(folder: Path) -> list[tuple[str, int, int, int, int]]:
    """Return name, size, times of change of content and inode, and inode of each patient's file, sorted by name.

    Raises:
        DataError: a patient has two files, or one that is packed in a way that is not read.
    """
    files: list[tuple[str, int, int, int, int]] = []
    names: list[str] = []
    below: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            names.append(name)
            if os.path.isdir(entry.path):  # entry.is_dir() raises in a loop of links
                below.append(name)
            if psv.parse_patient(name):
                status = _stat(folder, entry)
                files.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    files.sort()
    psv.refuse_copies(folder, names)
    psv.refuse_files_below(folder, below)
    return files


def _stat(folder: Path, entry: os.DirEntry[str]) -> os.stat_result:
    try:
        if entry.is_file():
            return entry.stat()
        reason = "a folder" if entry.is_dir() else "a link to nothing"
    except OSError as error:
        reason = str(error.strerror)
    raise DataError(f"{folder / entry.name} is no file ({reason}): its patient would be left out")


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _load(store: Path, key: str) -> HourTable | None:
    stored = memory_map.open_tables(store, key)
    if stored is None:
        return None
    arrays, notes = stored
    return HourTable(
        key=key,
        names=tuple(notes["names"].split("\n")) if notes["names"] else (),
        rows=arrays["rows"],
        label=arrays["label"],
        first=arrays["first"],
        digest=arrays["digest"],
        start=arrays["start"],
        empty=int(notes["empty"]),
        implausible=tuple((patient, column, count) for patient, column, count in json.loads(notes["implausible"])),
    )


def _contents(folder: Path, files: Sequence[tuple[str, int]]) -> list[bytes]:
    """Return the contents of files, which are given by name and size."""
    directory = os.open(folder, os.O_RDONLY)

    def read_some(part: Sequence[tuple[str, int]]) -> list[bytes]:
        contents = []
        for name, size in part:
            try:
                handle = os.open(name, os.O_RDONLY, dir_fd=directory)
                try:
                    contents.append(os.read(handle, size + 1))
                finally:
                    os.close(handle)
            except OSError as error:
                raise DataError(f"{folder / name}: cannot be read: {error.strerror}") from None
            if len(contents[-1]) != size:
                raise DataError(f"{folder / name}: changed while it was read: start again when nothing writes to it")
        return [psv.unpack(folder / name, content) for (name, _), content in zip(part, contents, strict=True)]

    try:
        with ThreadPoolExecutor(2) as pool:
            parts = [files[at : at + 1024] for at in range(0, len(files), 1024)]
            return [content for contents in pool.map(read_some, parts) for content in contents]
    finally:
        os.close(directory)


def _hash_row(row: npt.NDArray[np.float32]) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=8).digest()


def _prepare(
    folder: Path, names: list[str], contents: list[bytes], digests: list[bytes], store: Path, key: str
) -> None:
    """Parse all files and write their table into the cache."""
    hours = psv.parse_files(folder, names, contents)
    digest_by_name = dict(zip(names, digests, strict=True))
    digest = np.frombuffer(b"".join(digest_by_name[name] for name in hours.files), np.uint8).reshape(-1, 16)
    arrays: dict[str, npt.NDArray[Any]] = {
        "rows": hours.rows,
        "label": hours.label,
        "first": hours.first,
        "digest": digest,
        "start": np.frombuffer(b"".join(map(_hash_row, hours.rows[hours.first])), np.uint64),
    }
    notes = {
        "names": "\n".join(str(psv.parse_patient(name)) for name in hours.files),
        "empty": str(len(names) - len(hours.files)),
        "implausible": json.dumps(hours.implausible),
    }
    memory_map.write_tables(
        store, key, {name: (item.shape, item.dtype, [item]) for name, item in arrays.items()}, notes
    )
