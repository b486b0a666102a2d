"""The files of a data folder, also behind links, and what is wrong with them without a look at their contents.

Besides, what several files show together: two with the same bytes, and one that ends in the middle of a line where all
others end with one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sites.download.destination import file_sha256

RECORDING_ENDINGS = (".hea", ".dat", ".atr", ".xyz")
TEXT_ENDINGS = (".hea", ".psv", ".csv")
DATA_ENDINGS = (*RECORDING_ENDINGS, ".csv", ".psv", ".data", ".parquet")
MIN_ALIKE, MAX_CUT = 10, 0.1
"""Files of one kind from which on the few that end without a line end, at most this share, are said to be cut off."""


def data_ending(path: Path) -> str:
    """Return the ending of a file in small letters, without that of packing.

    >>> data_ending(Path("A.CSV.gz")), data_ending(Path("RECORDS"))
    ('.csv', '')
    """
    name = path.name.lower().removesuffix(".gz")
    return os.path.splitext(name)[1]


def list_files(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Return the files in a folder and below it, sorted, and what is wrong with those that are none.

    Folders that are links are entered, as readers do, but none twice. A name of a data file that is a folder or a link
    to nothing is wrong. Hidden files and partial downloads are left out.
    """
    files: list[Path] = []
    wrong: dict[Path, str] = {}
    visited: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        for name in (*folders, *names):
            path = Path(root) / name
            if is_own(path):
                continue
            if name in folders:
                if data_ending(path) in DATA_ENDINGS:
                    wrong[path] = "is a folder, not a file"
            elif _is_file(path):
                files.append(path)
            else:
                wrong[path] = "is a link to nothing" if path.is_symlink() else "is no file"
    return sorted(files), dict(sorted(wrong.items()))


def is_own(path: Path) -> bool:
    """Return whether a file is hidden, or of a download that is not finished."""
    return path.name.startswith(".") or path.name.endswith((".part", ".part.tag"))


def list_unfinished(folder: Path) -> list[Path]:
    """Return the files of which there is only the beginning, as `NAME.part`."""
    parts = sorted(folder.rglob("*.part"))
    return [target for part in parts if not (target := part.with_suffix("")).exists()]


def find_copies(files: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each data file that has the same bytes as one before it, with that one."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in files:
        if data_ending(path) in DATA_ENDINGS and (size := path.stat().st_size):
            by_size[size].append(path)
    for alike in by_size.values():
        first: dict[str, Path] = {}
        for path in alike if len(alike) > 1 else ():
            other = first.setdefault(file_sha256(path), path)
            if other is not path:
                yield path, other


def find_cut_lines(files: Sequence[Path]) -> Iterator[Path]:
    """Yield the text files that end in the middle of a line, where nearly all others of their kind do not."""
    for ending in TEXT_ENDINGS:
        own = [path for path in files if path.name.lower().endswith(ending) and path.stat().st_size]
        cut = [path for path in own if _last_byte(path) not in b"\r\n"]
        if len(own) >= MIN_ALIKE and len(cut) <= MAX_CUT * len(own):
            yield from cut


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a loop of links
        return False


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as content:
        content.seek(-1, os.SEEK_END)
        return content.read(1)
