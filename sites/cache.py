"""Prepared data on disk: one safetensors file for each key, written completely or not at all.

The key is a digest of the contents of the files and of every setting that affects the result, so a result is
never used for a changed file or setting. A damaged file fails safetensors' own length check and is prepared again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from common.errors import DataError
from common.files import write_arrays

Arrays = dict[str, npt.NDArray[Any]]


def cache_folder() -> Path:
    """Return $WARDROUND_CACHE, or the user's cache folder."""
    if given := os.environ.get("WARDROUND_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wardround"


def content_key(paths: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """Return 32 hex digits of a digest of the files' contents and the settings."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=16)
    for path in paths:
        with path.open("rb") as content:
            own, size = hashlib.file_digest(content, "sha256").digest(), os.fstat(content.fileno()).st_size
        digest.update(f"\x1f{path.name}\x1f{size}\x1f".encode())
        digest.update(own)
    return digest.hexdigest()


def load_arrays(folder: Path, name: str) -> tuple[Arrays, dict[str, str]] | None:
    """Return arrays and notes, or None if there is no complete file of that name."""
    try:
        with safe_open(folder / f"{name}.safetensors", framework="numpy") as stored:
            items = stored.keys()
            return {item: stored.get_tensor(item) for item in items}, dict(stored.metadata() or {})
    except (OSError, SafetensorError):
        return None


def read_notes(folder: Path, name: str) -> dict[str, str] | None:
    """Return the notes alone, without reading the arrays, or None if there is no complete file of that name."""
    try:
        with safe_open(folder / f"{name}.safetensors", framework="numpy") as stored:
            return dict(stored.metadata() or {})
    except (OSError, SafetensorError):
        return None


def store_arrays(folder: Path, name: str, arrays: Arrays, notes: Mapping[str, str]) -> None:
    """Write a complete file or none.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    with report_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / f"{name}.safetensors", arrays, notes)


@contextmanager
def report_write_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into a DataError that names the folder of prepared data."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write prepared data into {folder}: {error.strerror}; set WARDROUND_CACHE to another folder"
        ) from None


def load_or_make(
    folder: Path, name: str, make: Callable[[], tuple[Arrays, dict[str, str]]]
) -> tuple[Arrays, dict[str, str]]:
    """Return the arrays and notes stored under `name`; prepare and store them first where there are none."""
    prepared = load_arrays(folder, name)
    if prepared is None:
        prepared = make()
        store_arrays(folder, name, *prepared)
    return prepared
