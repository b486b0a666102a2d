"""Are the files of a data set there, and whole? By their publisher's SHA-256 sums, or else by reading them.

Without sums, a file is whole if it can be read to its end: a WFDB header with its signals and their checksums,
annotations with their end mark, tables whose rows are of one width, archives with their checksums. The data set's own
reader has the last word then.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from common.errors import DataError, FetchError
from sites import synthetic_folder
from sites.datasets import Source
from sites.download import fetch
from sites.download.catalogue import SUMS_FILE, Download
from sites.download.destination import file_sha256, resolve_inside
from sites.ecg.simulate import hospitals

ProgressListener = Callable[[int, int], None]


@dataclass(frozen=True)
class Verification:
    """What was found: how it was checked, in words; counts, and what is wrong with which file.

    `unchecked`: files of a kind that nothing can be said of; `unfinished`: downloads that broke off; `records`: how
    many the reader read, none where it was not asked.
    """

    by: str
    ok: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unchecked: int = 0
    unfinished: int = 0
    records: int | None = None

    @property
    def good(self) -> bool:
        """Whether everything that should be there is, and is whole."""
        return not self.damaged and not self.missing and self.ok > 0


def verify_files(
    source: Source, published: Download | None, only: Sequence[str] = (), tell: ProgressListener = lambda done, of: None
) -> Verification:
    """Check the files of a folder; `tell(done, of)` says how far it is.

    `only`: patterns of what should be there, else what `data fetch` was asked for, else all.

    Raises:
        DataError: there is no such folder, or its list of sums cannot be read.
    """
    folder = source.folder
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: say where {source.card.name} lies, or fetch it")
    sums, by = _sums(folder, published)
    if not sums:
        return _by_reading(source, tell)
    patterns = only or fetch.fetched_patterns(folder) or ("*",)
    wanted = sorted(path for path in sums if any(fnmatchcase(path, pattern) for pattern in patterns))
    missing, damaged = [], {}

    def look(path: str) -> str | None:
        place = resolve_inside(folder, path)
        if not place.is_file():
            return "missing"
        try:
            return None if file_sha256(place) == sums[path] else "its SHA-256 is another"
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, (path, wrong) in enumerate(zip(wanted, pool.map(look, wanted), strict=True), 1):
            if wrong == "missing":
                missing.append(path)
            elif wrong:
                damaged[path] = wrong
            tell(done, len(wanted))
    ok = len(wanted) - len(missing) - len(damaged)
    return Verification(by, ok, damaged, tuple(missing), unfinished=_unfinished(folder))


def _sums(folder: Path, published: Download | None) -> tuple[dict[str, str], str]:
    """Return the sums to hold the files against: of the folder's own list, or those known of the publisher's files."""
    listing = folder / SUMS_FILE
    if listing.is_file():
        try:
            return fetch.parse_sums(listing.read_text(encoding="utf-8")), f"the SHA-256 sums in {SUMS_FILE}"
        except (FetchError, UnicodeDecodeError) as error:
            why = "it is no text" if isinstance(error, UnicodeDecodeError) else error
            raise DataError(f"cannot use {listing}: {why}; fetch it again, or remove it to check by reading") from None
    made = synthetic_folder.is_marked(folder) or (folder / hospitals.MARKER).exists()
    if published is not None and published.sums and not made:
        return dict(published.sums), "the SHA-256 sums of the published files"
    return {}, ""


def _by_reading(source: Source, tell: ProgressListener) -> Verification:
    folder = source.folder
    every = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _ours(path)]
    checks = [(path, check) for path in every if (check := _check(path)) is not None]
    missing = dict.fromkeys(_unlisted(folder, every))
    damaged: dict[str, str] = {}

    def look(item: tuple[Path, Callable[[Path], Iterator[str]]]) -> list[str]:
        path, check = item
        try:
            return list(check(path))
        except Exception as error:  # whatever a reader makes of damaged bytes; its text may quote them
            return [f"cannot be read ({type(error).__name__})"]

    for done, (item, wrong) in enumerate(zip(checks, map(look, checks), strict=True), 1):
        for why in wrong:
            if why.startswith("missing "):
                missing[str((item[0].parent / why.removeprefix("missing ")).relative_to(folder))] = None
            else:
                damaged.setdefault(str(item[0].relative_to(folder)), why)
        tell(done, len(checks))
    records = 0
    try:
        records = len(source.patients())
    except DataError as error:
        damaged.setdefault(f"the reader of {source.card.name}", str(error))
    ok = sum(str(path.relative_to(folder)) not in damaged for path, _ in checks)
    heads = {path.with_suffix("") for path, check in checks if check is _wfdb}
    unchecked = sum(_check(path) is None and path.with_suffix("") not in heads for path in every)
    by = f"reading every file, and the reader of {source.card.name}"
    return Verification(by, ok, damaged, tuple(missing), unchecked, _unfinished(folder), records)


def _ours(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith((".part", ".part.tag"))


def _unfinished(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.part"))


def _unlisted(folder: Path, every: Sequence[Path]) -> Iterator[str]:
    """Yield the headers of recordings that a RECORDS list names and that are not there."""
    for listing in every:
        if listing.name == "RECORDS":
            for name in listing.read_text(encoding="utf-8", errors="replace").split():
                header = listing.parent / f"{name}.hea"
                if not name.endswith("/") and not header.is_file():
                    yield str(header.relative_to(folder))


def _check(path: Path) -> Callable[[Path], Iterator[str]] | None:
    name = path.name.removesuffix(".gz")
    if name.endswith(".hea"):
        return _wfdb
    if name.endswith(".atr"):
        return _annotations
    if name.endswith((".csv", ".psv", ".data")):
        return _table
    return _parquet if name.endswith(".parquet") else None


def _wfdb(header: Path) -> Iterator[str]:
    import wfdb

    stem = str(header.with_suffix(""))
    lost = [name for name in dict.fromkeys(wfdb.rdheader(stem).file_name or []) if not (header.parent / name).is_file()]
    yield from (f"missing {name}" for name in lost)
    if lost:
        return
    record = wfdb.rdrecord(stem, physical=False)
    sums = np.asarray(record.d_signal).sum(axis=0, dtype=np.int64) & 0xFFFF
    wanted = [None if value is None else int(value) & 0xFFFF for value in record.checksum or []]
    if any(wanted):  # all zero: whoever wrote the header left them out
        for lead, (want, got) in enumerate(zip(wanted, sums, strict=False)):
            if want is not None and want != int(got):
                yield f"the checksum of lead {record.sig_name[lead]} does not fit"


def _annotations(path: Path) -> Iterator[str]:
    if not path.read_bytes().endswith(b"\0\0"):
        yield "has no end mark: truncated"


def _table(path: Path) -> Iterator[str]:
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", errors="strict", newline="") as lines:
        width = None
        for number, row in enumerate(csv.reader(lines, delimiter="|" if ".psv" in path.name else ","), 1):
            if row and width not in (None, len(row)):
                yield f"line {number} has {len(row)} cells, the lines before {width}"
                return
            width = len(row) if row else width
        if width is None:
            yield "is empty"


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet as parquet

    parquet.read_table(path)
    yield from ()
