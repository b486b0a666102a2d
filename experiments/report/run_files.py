"""Reading a run's JSON files, with the names of this version; every error names the file that is damaged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.errors import DataError
from common.old_names import replace_old_names
from common.run_folder import RunFolder


def read_object(folder: RunFolder, file: str, version: int | None = None) -> dict[str, Any] | None:
    """Return the object of a JSON file, with NaN and infinities as None; None if there is no file.

    Args:
        folder: the run's folder.
        file: the file's property of `folder`.
        version: the version that wrote it (common/old_names.py); None: as its `format` says, else 1.

    Raises:
        DataError: the file is damaged.
    """
    path: Path = getattr(folder, file)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise DataError(f"cannot read {path}: {describe_problem(problem)}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold an object, not a {type(value).__name__}")
    stated = value.get("format", 1) if version is None else version
    if not isinstance(stated, int):
        raise DataError(f"{path}: its format must be a number")
    finite: dict[str, Any] = _replace_non_finite(replace_old_names(file, value, stated))
    return finite


def read_lines(folder: RunFolder, file: str, version: int) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, without a last line that was cut off; empty if there is no file.

    Args:
        folder: the run's folder.
        file: the file's property of `folder`.
        version: the version that wrote it.

    Raises:
        DataError: another line is damaged.
    """
    path: Path = getattr(folder, file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = [line for line in text.split("\n") if line.strip()]
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            objects.append(_replace_non_finite(replace_old_names(file, json.loads(line), version)))
        except ValueError:
            if number < len(lines):
                raise DataError(f"{path}, line {number} is damaged") from None
    return objects


def describe_problem(problem: Exception) -> str:
    """Return what is wrong, in one line."""
    if isinstance(problem, ValidationError):
        first = problem.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return f"{type(problem).__name__}: {problem}"


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
