"""A run's model, ready to predict: its weights with the task and configuration that they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from common import config as configuration
from common import models
from common.errors import DataError
from common.scaling import Scaling
from common.task import Task

if TYPE_CHECKING:
    from torch import nn


def scaling(folder: Path, name: str = "federated") -> Scaling | None:
    """Return how a run's model wants its inputs scaled, or None.

    Raises:
        DataError: the file is damaged.
    """
    stem = "scaling" if name == "federated" else f"scaling.{name.replace(':', '.')}"
    path = folder / f"{stem}.safetensors"
    try:
        return Scaling.from_bytes(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError):
        raise DataError(f"{path} is damaged: train again") from None


def model(folder: Path, name: str = "federated") -> tuple[nn.Module, Task]:
    """Return a run's model in evaluation mode, and its task.

    Args:
        folder: the run's folder.
        name: "federated", "pooled" or "local:SITE".

    Raises:
        DataError: the folder holds no such model, or weights that do not fit its configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    stem = "model" if name == "federated" else f"model.{name.replace(':', '.')}"
    weights = folder / f"{stem}.safetensors"
    try:
        outcome = json.loads((folder / "federated.json").read_text(encoding="utf-8"))
        task = Task.from_dict(outcome["task"])
        config = configuration.load(folder / "config.yaml")
        found = load_file(weights)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{folder} holds no whole model {name!r}: it needs {weights.name}, config.yaml, federated.json"
        ) from None
    built = models.build(task, config.model, config.seed)
    try:
        built.load_state_dict(found)
    except RuntimeError:
        raise DataError(f"{weights} does not fit the model of {folder / 'config.yaml'}") from None
    return built.eval(), task
