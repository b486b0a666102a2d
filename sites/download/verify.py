"""Checking that the files of a data set are there and complete: by the publisher's SHA-256 sums, or by reading them.

Without sums, a file is complete if it can be read to its end: a WFDB header with its signals and their checksums,
annotations with their end mark, tables whose rows are of one width, archives with their checksums. Then the data set's
own reader reads the folder.
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

from common.errors import DataError, FetchError
from sites import synthetic_folder
from sites.datasets import Source
from sites.download import fetch
from sites.download.catalogue import SUMS_FILE, Download
from sites.download.destination import file_sha256, resolve_inside
from sites.ecg.annotation_file import read_annotation_file
from sites.ecg.headers import NO_FILE, read_header
from sites.ecg.recordings import read_listing
from sites.ecg.signals import find_faults
from sites.ecg.simulate import hospitals

ProgressListener = Callable[[int, int], None]


@dataclass(frozen=True)
class Verification:
    """The result of a check.

    Attributes:
        by: how the files were checked, in words.
        ok: number of complete files.
        damaged: what is wrong with each damaged file, by path.
        missing: paths of missing files.
        unchecked: number of files of a kind that cannot be checked.
        unfinished: number of partial downloads.
        records: number of records that the data set's reader read; None if it was not used.
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
        """Whether all expected files are there and complete."""
        return not self.damaged and not self.missing and self.ok > 0


def verify_files(
    source: Source,
    published: Download | None,
    only: Sequence[str] = (),
    on_progress: ProgressListener = lambda done, total: None,
) -> Verification:
    """Check the files of a data set's folder.

    Args:
        source: the data set in its folder.
        published: its download, if it is published.
        only: patterns of the files that should be there; else those that `data fetch` fetched, else all.
        on_progress: called with the number of files checked and their total.

    Raises:
        DataError: there is no such folder, or its list of sums cannot be read.
    """
    folder = source.folder
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: name the folder of {source.card.name}, or fetch it")
    sums, by = _known_sums(folder, published)
    if not sums:
        return _check_by_reading(source, on_progress)
    patterns = only or fetch.fetched_patterns(folder) or ("*",)
    wanted = sorted(path for path in sums if any(fnmatchcase(path, pattern) for pattern in patterns))
    missing, damaged = [], {}

    def compare(path: str) -> str | None:
        target = resolve_inside(folder, path)
        if not target.is_file():
            return "missing"
        try:
            return None if file_sha256(target) == sums[path] else "its SHA-256 is another"
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, (path, wrong) in enumerate(zip(wanted, pool.map(compare, wanted), strict=True), 1):
            if wrong == "missing":
                missing.append(path)
            elif wrong:
                damaged[path] = wrong
            on_progress(done, len(wanted))
    ok = len(wanted) - len(missing) - len(damaged)
    return Verification(by, ok, damaged, tuple(missing), unfinished=_count_partial(folder))


def _known_sums(folder: Path, published: Download | None) -> tuple[dict[str, str], str]:
    """Return the expected sums, of the folder or the catalogue, and their origin in words; none: {} and ""."""
    listing = folder / SUMS_FILE
    if listing.is_file():
        try:
            return fetch.parse_sums(listing.read_text(encoding="utf-8")), f"the SHA-256 sums in {SUMS_FILE}"
        except (FetchError, UnicodeDecodeError) as error:
            reason = "it is no text" if isinstance(error, UnicodeDecodeError) else error
            raise DataError(
                f"cannot use {listing}: {reason}; fetch it again, or remove it to check by reading"
            ) from None
    generated = synthetic_folder.is_marked(folder) or (folder / hospitals.MARKER).exists()
    if published is not None and published.sums and not generated:
        return dict(published.sums), "the SHA-256 sums of the published files"
    return {}, ""


def _check_by_reading(source: Source, on_progress: ProgressListener) -> Verification:
    folder = source.folder
    every = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_own(path)]
    checks = [(path, check) for path in every if (check := _find_check(path)) is not None]
    missing = dict.fromkeys(_missing_headers(folder, every))
    damaged: dict[str, str] = {}

    def find_faults(item: tuple[Path, Callable[[Path], Iterator[str]]]) -> list[str]:
        path, check = item
        try:
            return list(check(path))
        except DataError as error:
            return [str(error)]
        except Exception as error:  # a reader may raise anything on damaged bytes; its text may quote them
            return [f"cannot be read ({type(error).__name__})"]

    for done, (item, faults) in enumerate(zip(checks, map(find_faults, checks), strict=True), 1):
        for fault in faults:
            if fault.startswith("missing "):
                missing[str((item[0].parent / fault.removeprefix("missing ")).relative_to(folder))] = None
            else:
                damaged.setdefault(str(item[0].relative_to(folder)), fault)
        on_progress(done, len(checks))
    records = 0
    try:
        records = len(source.patients())
    except DataError as error:
        damaged.setdefault(f"the reader of {source.card.name}", str(error))
    ok = sum(str(path.relative_to(folder)) not in damaged for path, _ in checks)
    headers = {path.with_suffix("") for path, check in checks if check is _recording_faults}
    unchecked = sum(_find_check(path) is None and path.with_suffix("") not in headers for path in every)
    by = f"reading every file, and the reader of {source.card.name}"
    return Verification(by, ok, damaged, tuple(missing), unchecked, _count_partial(folder), records)


def _is_own(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith((".part", ".part.tag"))


def _count_partial(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.part"))


def _missing_headers(folder: Path, every: Sequence[Path]) -> Iterator[str]:
    """Yield the missing headers of recordings that a RECORDS file lists."""
    for listing in every:
        if listing.name == "RECORDS":
            for name in _listed(listing):
                header = listing.parent / f"{name}.hea"
                if not name.endswith("/") and not header.is_file():
                    yield str(header.relative_to(folder))


def _listed(listing: Path) -> tuple[str, ...]:
    try:
        return read_listing(listing)
    except DataError:
        return ()  # named by the data set's reader


def _find_check(path: Path) -> Callable[[Path], Iterator[str]] | None:
    """Return the function that yields the faults of a file of this kind, None if there is none."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".hea"):
        return _recording_faults
    if name.endswith(".atr"):
        return _annotation_faults
    if name.endswith((".csv", ".psv", ".data")):
        return _table_faults
    return _parquet_faults if name.endswith(".parquet") else None


def _recording_faults(path: Path) -> Iterator[str]:
    header = read_header(path)
    files = [f"{segment.name}.hea" for segment in header.segments] + [channel.file for channel in header.channels]
    missing = [name for name in dict.fromkeys(files) if NO_FILE not in name and not (path.parent / name).is_file()]
    yield from (f"missing {name}" for name in missing)
    if not missing and header.channels:
        yield from find_faults(header)


def _annotation_faults(path: Path) -> Iterator[str]:
    read_annotation_file(path)
    yield from ()


def _table_faults(path: Path) -> Iterator[str]:
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


def _parquet_faults(path: Path) -> Iterator[str]:
    import pyarrow.parquet as parquet

    parquet.read_table(path)
    yield from ()
