"""A run's model, ready to predict: its weights with the task and configuration that they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import config as configuration
from common import models
from common.config import RunConfig
from common.errors import DataError
from common.latent import LatentStatistics
from common.scaling import Scaling
from common.task import Task

if TYPE_CHECKING:
    from torch import nn

__all__ = ["has_synthetic_data", "load_latent", "load_outcome", "load_scaling", "load_site_weights", "model"]


def load_latent(folder: Path, name: str = "federated") -> bytes:
    """Return what a run's model knows of its latent space (common/latent.py), or nothing.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / ("latent.safetensors" if name == "federated" else f"latent.{name.replace(':', '.')}.safetensors")
    try:
        if not path.is_file():
            return b""
        raw = path.read_bytes()
        LatentStatistics.from_bytes(raw)
    except (OSError, ValueError):
        raise DataError(f"{path} is damaged: train again") from None
    return raw


def load_scaling(folder: Path, name: str = "federated") -> Scaling | None:
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
        config = configuration.load_config(folder / "config.yaml")
        found = load_file(weights)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{folder} holds no whole model {name!r}: it needs {weights.name}, config.yaml, federated.json"
        ) from None
    built = models.build_model(task, config.model, config.seed)
    try:
        built.load_state_dict(found)
    except RuntimeError:
        raise DataError(f"{weights} does not fit the model of {folder / 'config.yaml'}") from None
    return built.eval(), task


def load_outcome(folder: Path, name: str = "federated") -> dict[str, Any]:
    """Return what the run says of a model beside its weights: `threshold`, the `chosen` round, its figures.

    Raises:
        DataError: the run says nothing of it.
    """
    path = folder / ("federated.json" if name == "federated" else "baselines.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found if name == "federated" else next(item for item in found["models"] if item["name"] == name))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        raise DataError(f"{path} says nothing of a model {name!r}: was the run stopped before its end?") from None


scaling, latent = load_scaling, load_latent
"""The names under which the model cards of earlier runs import them."""


def has_synthetic_data(folder: Path) -> bool:
    """Return whether a hospital of the run said that its data were generated."""
    said = load_outcome(folder).get("sites") or {}
    return any(item.get("synthetic") for item in said.values())


def load_site_weights(folder: Path, built: nn.Module, config: RunConfig, name: str, site: str | None) -> dict[str, Any]:
    """Return the weights that a hospital of a run on this machine kept to itself, empty where the strategy has none.

    Args:
        folder: the run's folder.
        built: the run's model.
        config: the run's configuration.
        name: "federated" (with local layers), "personal" (Ditto), or a baseline, which has none.
        site: the hospital.

    Raises:
        DataError: the strategy has a part for each hospital and no hospital is named, or it kept nothing here.
    """
    from safetensors.torch import load_file

    from server import strategies

    method = strategies.build_method(config.federation.strategy, built)
    wanted = set(built.state_dict()) if name == "personal" else set(method.local)
    if name == "personal" and method.pull is None:
        raise DataError(f"{folder} has no personal models: its strategy is {config.federation.strategy.name}")
    if not wanted or name not in ("federated", "personal"):
        return {}
    if site is None:
        raise DataError(f"{folder}: the model has a part of each hospital's own: say whose with --site NAME")
    number = int(load_outcome(folder)["chosen"])
    kept = sorted((folder / "sites" / site).glob(f"*/round-{number:05d}.safetensors"))
    if not kept:
        known = sorted(path.name for path in (folder / "sites").glob("*") if path.is_dir())
        raise DataError(f"{folder} holds nothing of {site}'s own; it has that of: {', '.join(known) or 'no hospital'}")
    found = load_file(kept[-1])
    if set(found) != wanted:
        raise DataError(f"{kept[-1]} does not fit the model of the run")
    return dict(found)
