"""Checking that the files of a data set are there and complete: by the publisher's SHA-256 sums, or by reading them.

Without sums, a file is complete if it can be read to its end: a WFDB header with its signals and their checksums,
annotations with their end mark, tables whose rows are of one width, archives with their checksums. A header that names
another record, a signal longer than its header states, and a link to nothing are wrong too; files with the same bytes
are named. Then the data set's own reader reads the folder. What only the publisher's sums could show (a number that was
changed, a file or its last line that is missing) is not noticed; the number of published files is shown for that.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from sites.download.folder_files import (
    DATA_ENDINGS,
    RECORDING_ENDINGS,
    data_ending,
    find_copies,
    find_cut_lines,
    list_files,
    list_unfinished,
)
from sites.ecg.annotation_file import read_annotation_file
from sites.ecg.headers import NO_FILE, read_header
from sites.ecg.recordings import read_listing
from sites.ecg.signals import find_faults, find_longer_files
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
        copies: data files with the same bytes as another one, and that one; published data hold some too.
        unlisted: paths of data files that the list of sums does not name, and that a reader may take.
        unchecked: number of files of a kind that cannot be checked.
        unfinished: number of partial downloads.
        records: number of records that the data set's reader read; None if it was not used.
        units: number of files of a recording or patient each; None where it is not known which they are.
        published: how many of these the publisher has; None if that is not known.
    """

    by: str
    ok: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    copies: dict[str, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    unchecked: int = 0
    unfinished: int = 0
    records: int | None = None
    units: int | None = None
    published: int | None = None

    @property
    def good(self) -> bool:
        """Whether all expected files are there and complete."""
        return not self.damaged and not self.missing and not self.unlisted and self.ok > 0


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
        return _check_by_reading(source, published, on_progress)
    patterns = only or fetch.fetched_patterns(folder) or ("*",)
    wanted = sorted(path for path in sums if any(fnmatchcase(path, pattern) for pattern in patterns))
    missing = [pattern for pattern in only if not any(fnmatchcase(path, pattern) for path in sums)]
    damaged: dict[str, str] = {}

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
    ok = len(wanted) - len(set(missing) & set(wanted)) - len(damaged)
    return Verification(
        by,
        ok,
        damaged,
        tuple(missing),
        unlisted=_unlisted(folder, sums, published),
        unfinished=_count_partial(folder),
    )


def _unlisted(folder: Path, sums: Mapping[str, str], published: Download | None) -> tuple[str, ...]:
    """Return the files that a reader may take, of the kinds that the list names or readers of recordings take."""
    named = {data_ending(Path(path)) for path in (*sums, *(published.wanted if published else ()))}
    kinds = {*RECORDING_ENDINGS, *(named & set(DATA_ENDINGS))}
    files = [str(path.relative_to(folder)) for path in list_files(folder)[0] if data_ending(path) in kinds]
    return tuple(path for path in files if path not in sums)


def _known_sums(folder: Path, published: Download | None) -> tuple[dict[str, str], str]:
    """Return the expected sums, of the folder or the catalogue, and their origin in words; none: {} and ""."""
    listing = folder / SUMS_FILE
    generated = synthetic_folder.is_marked(folder) or (folder / hospitals.MARKER).exists()
    fixed = dict(published.sums) if published is not None and not generated else {}
    if listing.is_file():
        also = " and those of the published files" if fixed else ""
        try:
            sums = fetch.parse_sums(listing.read_text(encoding="utf-8"))
            return sums | fixed, f"the SHA-256 sums in {SUMS_FILE}{also}"
        except (FetchError, UnicodeDecodeError) as error:
            reason = "it is no text" if isinstance(error, UnicodeDecodeError) else error
            raise DataError(
                f"cannot use {listing}: {reason}; fetch it again, or remove it to check by reading"
            ) from None
    return fixed, "the SHA-256 sums of the published files" if fixed else ""


def _check_by_reading(source: Source, published: Download | None, on_progress: ProgressListener) -> Verification:
    folder = source.folder
    every, wrong = list_files(folder)
    checks = [(path, check) for path in every if (check := _find_check(path)) is not None]
    missing = dict.fromkeys(_missing_headers(folder, every))
    missing |= dict.fromkeys(str(path.relative_to(folder)) for path in list_unfinished(folder))
    damaged = {str(path.relative_to(folder)): what for path, what in wrong.items()}

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
    copies = {str(path.relative_to(folder)): str(other.relative_to(folder)) for path, other in find_copies(every)}
    for path in find_cut_lines(every):
        what = "ends in the middle of a line, unlike the others: is it cut off?"
        damaged.setdefault(str(path.relative_to(folder)), what)
    records = 0
    try:
        records = len(source.patients())
    except DataError as error:
        damaged.setdefault(f"the reader of {source.card.name}", str(error))
    ok = sum(str(path.relative_to(folder)) not in damaged for path, _ in checks)
    headers = {path.with_suffix("") for path, check in checks if check is _recording_faults}
    unchecked = sum(_find_check(path) is None and path.with_suffix("") not in headers for path in every)
    by = f"reading every file, and the reader of {source.card.name}"
    units, total = None, None
    if published is not None and published.count is not None and not source.card.synthetic:
        pattern, total = published.count
        units = sum(fnmatchcase(str(path.relative_to(folder)), pattern) for path in every)
    return Verification(
        by,
        ok,
        damaged,
        tuple(missing),
        copies,
        unchecked=unchecked,
        unfinished=_count_partial(folder),
        records=records,
        units=units,
        published=total,
    )


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
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".hea"):
        return _recording_faults
    if name.endswith(".atr"):
        return _annotation_faults
    if name.endswith((".csv", ".psv", ".data")):
        return _table_faults
    return _parquet_faults if name.endswith(".parquet") else None


def _recording_faults(path: Path) -> Iterator[str]:
    content = path.read_bytes()
    if b"\0" in content:
        yield "holds bytes that are no text"
    header = read_header(path)
    first = next((line for line in content.splitlines() if line.strip() and not line.startswith(b"#")), b"")
    name = first.split()[0].partition(b"/")[0].decode("utf-8", "replace")
    if name.lower() != path.stem.lower():
        yield f"names the record {name[:40]}: is it the header of another one?"
    files = [f"{segment.name}.hea" for segment in header.segments] + [channel.file for channel in header.channels]
    missing = [name for name in dict.fromkeys(files) if NO_FILE not in name and not (path.parent / name).is_file()]
    yield from (f"missing {name}" for name in missing)
    if not missing and header.channels:
        yield from find_faults(header)
        yield from find_longer_files(header)


def _annotation_faults(path: Path) -> Iterator[str]:
    read_annotation_file(path)
    yield from ()


def _table_faults(path: Path) -> Iterator[str]:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    psv, number = ".psv" in path.name.lower(), 0
    with opened(path, "rt", encoding="utf-8", errors="strict", newline="") as lines:
        width = None
        for number, row in enumerate(csv.reader(lines, delimiter="|" if psv else ","), 1):
            if row and width not in (None, len(row)):
                yield f"line {number} has {len(row)} cells, the lines before {width}"
                return
            width = len(row) if row else width
        if width is None:
            yield "is empty"
        elif psv and number == 1:
            yield "has no row below its header"


def _parquet_faults(path: Path) -> Iterator[str]:
    import pyarrow.parquet as parquet

    parquet.read_table(path)
    yield from ()
