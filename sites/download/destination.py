"""Where a download lands: inside its folder, on a disk with room, in one piece.

What has come so far of a file is `NAME.part` beside it, and `NAME.part.tag` the version it is of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from common.errors import DataError, FetchError

SPARE_BYTES = 64 << 20
"""Bytes of disk that a download leaves free."""


def resolve_inside(folder: Path, path: str) -> Path:
    """Return where a published path lies in a folder, never outside of it.

    Raises:
        FetchError: the path is absolute, climbs out with `..`, or leads through a link.
    """
    plain = PurePosixPath(path)
    odd = not path or path != str(plain) or plain.is_absolute() or ".." in plain.parts or not plain.name
    if odd or re.search(r"[\x00-\x1f\x7f\\:]", path):
        raise FetchError(
            f"the list of files names {path[:80]!r}, which is no path inside the folder: nothing is fetched"
        )
    here = folder
    for step in plain.parts[:-1]:
        here = here / step
        if here.is_symlink():
            raise FetchError(f"{here} is a link, which could lead out of {folder}: remove it, or choose another folder")
    return here / plain.name


def partial_paths(target: Path) -> tuple[Path, Path]:
    """Return the part of a file and its tag; what else goes by these names is removed."""
    part = target.with_name(target.name + ".part")
    tag = target.with_name(target.name + ".part.tag")
    for path in (part, tag):
        if path.is_symlink():
            with report_disk_errors(path):
                path.unlink()
    return part, tag


def file_size(path: Path) -> int:
    """Return the length of a file in bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def require_space(folder: Path, count: int) -> None:
    """Raise `DataError` unless `count` more bytes fit on the disk of a folder, which need not be there yet."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if count + SPARE_BYTES > free:
        raise DataError(
            f"{format_bytes(count)} do not fit: {folder} has {format_bytes(free)} free, "
            f"and {format_bytes(SPARE_BYTES)} should stay so"
        )


@contextmanager
def report_disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, making it first; it is free again when this process ends, however it ends.

    Raises:
        DataError: another process holds it, or it cannot be made.
    """
    with report_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another wardround fetches into {folder} at this moment: let it finish") from None
        yield
    finally:
        os.close(handle)


def format_bytes(count: int) -> str:
    """Return a number of bytes for people.

    >>> big(1_234_567), big(999)
    ('1.2 MB', '999 bytes')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
