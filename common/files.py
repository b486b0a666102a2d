"""Writing files whole or not at all."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import Weights


def save_weights(path: Path, weights: Weights, about: dict[str, str]) -> None:
    """Write weights whole or not at all."""
    from safetensors.numpy import save

    # safetensors writes memory as it lies: an array in another order would come back scrambled
    write_bytes(path, save({key: np.asarray(value, order="C") for key, value in weights.items()}, about))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(replace_non_finite(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def append_json_line(path: Path, value: dict[str, Any]) -> None:
    """Append one value as a line of JSON."""
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(value, allow_nan=False) + "\n")


def replace_non_finite(value: Any) -> Any:
    """Return a JSON value with null for what JSON has no number for: a site's report may hold anything."""
    if isinstance(value, dict):
        return {key: replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
