"""Descriptions of a hospital's own data: YAML files in its data folder, whose first key names the data set.

Part of a description says how the folder's own files are read. The rest is the contract of a run, which must be the
same at every hospital. A hospital's own description decides what a run may read there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from common.errors import ConfigError
from common.settings import parse_yaml

HEADER = ("dataset", "format")
"""Keys of a description's file that are not options of a run."""


def read_described_dataset(path: Path) -> str:
    """Return the data set that a description's file names.

    Raises:
        ConfigError: no such file, not YAML, or it names no data set.
    """
    raw = _parse_file(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("dataset"), str):
        raise ConfigError(f"{path}: no description of data: its first key is dataset: with the data set's name")
    return str(raw["dataset"])


def read_description_file(path: Path, dataset: str, version: int, what: str) -> dict[str, Any]:
    """Return the keys of a description's file, without those that name its format.

    Args:
        path: the file.
        dataset: the data set that it must describe.
        version: the version of its keys that is known here.
        what: what it describes, for the error message, as in "a table".

    Raises:
        ConfigError: no such file, not YAML, or a description of something else.
    """
    raw = _parse_file(path)
    if not isinstance(raw, dict) or raw.get("dataset") != dataset:
        raise ConfigError(f"{path}: not the description of {what}: its first key is dataset: {dataset}")
    if isinstance(given := raw.get("format", version), bool) or given != version:
        raise ConfigError(
            f"{path}: format {raw['format']!r} is not known here, only {version}: install a newer Wardround"
        )
    return {str(key): value for key, value in raw.items() if key not in HEADER}


def find_description(path: Path, file_name: str) -> Path | None:
    """Return the description's file that `path` is, or that lies in the folder `path`; None without one."""
    file = path / file_name if path.is_dir() else path
    return file if file.is_file() and file.suffix.lower() in (".yaml", ".yml") else None


def read_path_options(
    path: Path, file_name: str, read: Callable[[Path], dict[str, Any]]
) -> tuple[dict[str, Any], Path] | None:
    """Return the options that a description at `path` states, and the data folder, or None without a description.

    Args:
        path: the description's file, or a folder that holds one.
        file_name: the name of a description's file in a data folder.
        read: returns the keys of a description's file.

    Raises:
        ConfigError: it is no description.
    """
    file = find_description(path, file_name)
    return None if file is None else (read(file), file.parent)


def require_description(folder: Path, file_name: str, reads: str) -> Path:
    """Return the file of a hospital's own description in its data folder.

    Args:
        folder: the data folder.
        file_name: the name of the file.
        reads: what a run reads only as far as the description names it, for the error message.

    Raises:
        ConfigError: the hospital has no description.
    """
    file = folder / file_name
    if not file.is_file():
        raise ConfigError(
            f"this hospital's data folder has no {file_name}: a run reads only the {reads} that the hospital's own "
            "description names (wardround data init)"
        )
    return file


def find_first_difference(one: Any, other: Any, where: str = "") -> str:
    """Return the first key in which two JSON-like values differ, as in `inputs.age.unit`, or "".

    The values are not named: those of categories are data of a hospital. Items of lists are named by their `name`.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            if result := find_first_difference(one.get(key), other.get(key), f"{where}.{key}".lstrip(".")):
                return result
        return ""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (left, right) in enumerate(zip(one, other, strict=True)):
            name = left.get("name", i) if isinstance(left, dict) else i
            if result := find_first_difference(left, right, f"{where}.{name}"):
                return result
        return ""
    return "" if one == other else where


@lru_cache(maxsize=16)
def _parse(text: str) -> Any:
    """Return what a text in YAML holds; every hospital of a simulation reads one description."""
    return parse_yaml(text)


def _parse_file(path: Path) -> Any:
    try:
        return copy.deepcopy(_parse(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
