"""Paths of a download: inside its folder, on a disk with room, each file written completely.

The bytes received so far of a file are `NAME.part`, and `NAME.part.tag` holds the version of the file that they belong
to.
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
    """Return the file of a published path in a folder, never outside of it.

    Raises:
        FetchError: the path is absolute, climbs out with `..`, or passes through a link.
    """
    plain = PurePosixPath(path)
    unsafe = not path or path != str(plain) or plain.is_absolute() or ".." in plain.parts or not plain.name
    if unsafe or re.search(r"[\x00-\x1f\x7f\\:]", path):
        raise FetchError(
            f"the list of files names {path[:80]!r}, which is not a path inside the folder: nothing is fetched"
        )
    parent = folder
    for step in plain.parts[:-1]:
        parent = parent / step
        if parent.is_symlink():
            raise FetchError(
                f"{parent} is a link, which could point outside of {folder}: remove it, or choose another folder"
            )
    return parent / plain.name


def partial_paths(target: Path) -> tuple[Path, Path]:
    """Return the paths of a partial file and its tag; links of these names are removed."""
    part = target.with_name(target.name + ".part")
    tag = target.with_name(target.name + ".part.tag")
    for path in (part, tag):
        if path.is_symlink():
            with report_disk_errors(path):
                path.unlink()
    return part, tag


def file_size(path: Path) -> int:
    """Return the length of a file in bytes, 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def require_space(folder: Path, count: int) -> None:
    """Raise `DataError` unless `count` more bytes fit on the disk of a folder, which need not exist yet."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if count + SPARE_BYTES > free:
        raise DataError(
            f"{format_bytes(count)} do not fit: {folder} has {format_bytes(free)} free, "
            f"and {format_bytes(SPARE_BYTES)} should stay so"
        )


@contextmanager
def report_disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the disk into a DataError that names the path."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Return a context manager that locks a folder, and creates it first if needed.

    The lock ends with the block, or with this process if that ends first.

    Raises:
        DataError: another process has locked it, or it cannot be created.
    """
    with report_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"another wardround fetches into {folder} at this moment: wait until it has finished"
            ) from None
        yield
    finally:
        os.close(handle)


def format_bytes(count: int) -> str:
    """Return a number of bytes as text with a unit.

    >>> format_bytes(1_234_567), format_bytes(999)
    ('1.2 MB', '999 bytes')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
