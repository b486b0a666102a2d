"""Reading a run's JSON files; every error names the file that is damaged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.errors import DataError


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the object of a JSON file, with NaN and infinities as None; None if there is no file.

    Raises:
        DataError: the file is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise DataError(f"cannot read {path}: {describe_problem(problem)}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold an object, not a {type(value).__name__}")
    finite: dict[str, Any] = _replace_non_finite(value)
    return finite


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, without a last line that was cut off; empty if there is no file.

    Raises:
        DataError: another line is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = [line for line in text.split("\n") if line.strip()]
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            objects.append(_replace_non_finite(json.loads(line)))
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
