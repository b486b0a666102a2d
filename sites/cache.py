"""Prepared data on disk: one safetensors file per key, memory-mappable, written beside and renamed.

The key is a digest of the files' contents and of every setting that matters, so a changed file or setting
never meets an old result. A file that is damaged, or half-written by something that does not rename, fails
safetensors' own length check and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.errors import DataError

Arrays = dict[str, npt.NDArray[Any]]


def cache_folder() -> Path:
    """Return $WARDROUND_CACHE, or the user's cache folder."""
    if given := os.environ.get("WARDROUND_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wardround"


def content_key(paths: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """Return 32 hex digits for the contents of the files and the settings."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=16)
    for path in paths:
        content = path.read_bytes()
        digest.update(f"\x1f{path.name}\x1f{len(content)}\x1f".encode())
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def load_arrays(folder: Path, name: str) -> tuple[Arrays, dict[str, str]] | None:
    """Return arrays and notes, or None if there is no whole file of that name."""
    try:
        with safe_open(folder / f"{name}.safetensors", framework="numpy") as stored:
            items = stored.keys()
            return {item: stored.get_tensor(item) for item in items}, dict(stored.metadata() or {})
    except (OSError, SafetensorError):
        return None


def read_notes(folder: Path, name: str) -> dict[str, str] | None:
    """Return only the notes, without reading the arrays."""
    try:
        with safe_open(folder / f"{name}.safetensors", framework="numpy") as stored:
            return dict(stored.metadata() or {})
    except (OSError, SafetensorError):
        return None


def store_arrays(folder: Path, name: str, arrays: Arrays, about: Mapping[str, str]) -> None:
    """Write a whole file or none.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    content = save({key: np.ascontiguousarray(value) for key, value in arrays.items()}, dict(about))
    write_whole(folder, name, lambda out: out.write(content))


def write_whole(folder: Path, name: str, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill the file of `name`, which is there whole at the end or not at all.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
        try:
            with os.fdopen(handle, "wb") as out:
                write(out)
            os.replace(part, folder / f"{name}.safetensors")
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(
            f"cannot write prepared data into {folder}: {error.strerror}; set WARDROUND_CACHE to another"
        ) from None


def load_or_make(
    folder: Path, name: str, make: Callable[[], tuple[Arrays, dict[str, str]]]
) -> tuple[Arrays, dict[str, str]]:
    """Return what is stored under `name`, or make and store it."""
    found = load_arrays(folder, name)
    if found is None:
        found = make()
        store_arrays(folder, name, *found)
    return found
