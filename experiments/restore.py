"""A run's saved model, ready to predict: its weights, task, input scaling and outcome.

The model cards of runs load their model with this module: `model` and `scaling` keep their names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import models
from common.config import RunConfig, load_config
from common.errors import DataError
from common.latent import LatentStatistics
from common.run_folder import RunFolder
from common.scaling import Scaling
from common.task import Task

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "has_synthetic_data",
    "list_local_layers",
    "load_latent",
    "load_outcome",
    "load_site_weights",
    "model",
    "scaling",
]


def model(folder: Path, name: str = "federated", site: str | None = None) -> tuple[nn.Module, Task]:
    """Return a run's model in evaluation mode, and its task.

    Args:
        folder: the run's folder.
        name: "federated", "pooled", "local:SITE", or "personal" (Ditto's model of the hospital `site`).
        site: the hospital whose own layers complete the federated model, where the strategy keeps layers local.

    Raises:
        DataError: the folder holds no such model, or weights that do not fit its configuration; or the strategy keeps
            layers at each hospital, and `site` names none whose layers are in the folder.
    """
    built, task, config = _load_saved(folder, "federated" if name == "personal" else name)
    if own := load_site_weights(folder, built, config, name, site):
        built.load_state_dict({**built.state_dict(), **own})
    return built.eval(), task


def _load_saved(folder: Path, name: str) -> tuple[nn.Module, Task, RunConfig]:
    """Return a model with the weights in its file, its task, and the run's configuration."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = RunFolder(folder).weights(name)
    try:
        outcome = json.loads(RunFolder(folder).outcome.read_text(encoding="utf-8"))
        task = Task.from_dict(outcome["task"])
        config = load_config(RunFolder(folder).config)
        weights = load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{folder} holds no complete model {name!r}: it needs {path.name}, config.yaml and federated.json"
        ) from None
    built = models.build_model(task, config.model, config.seed)
    try:
        built.load_state_dict(weights)
    except RuntimeError:
        raise DataError(f"{path} does not fit the model of {RunFolder(folder).config}") from None
    if not all(bool(array.isfinite().all()) for array in built.state_dict().values()):
        raise DataError(f"{path} holds weights that are not finite: the training diverged, or the file is damaged")
    return built, task, config


def load_site_weights(folder: Path, built: nn.Module, config: RunConfig, name: str, site: str | None) -> dict[str, Any]:
    """Return the local weights that a hospital of a simulated run did not send; empty if the strategy keeps none local.

    Args:
        folder: the run's folder.
        built: the run's model.
        config: the run's configuration.
        name: "federated", "personal", or a baseline, which has no local layers.
        site: the hospital.

    Raises:
        DataError: the strategy keeps weights local, and no hospital is named or the folder lacks its weights.
    """
    from safetensors.torch import load_file

    wanted = _list_local_layers(folder, built, config, name)
    if not wanted:
        return {}
    known = sorted(path.name for path in RunFolder(folder).sites.glob("*") if path.is_dir())
    if site is None:
        local_part = "a personal model" if name == "personal" else _shorten(wanted)
        choice = f"one of {', '.join(known)}" if known else "but its files are at the hospitals, not in this folder"
        raise DataError(
            f"{folder}: {config.federation.strategy.name} keeps {local_part} at each hospital, so that the saved model "
            f"is incomplete: name a hospital with --site (in Python: site=), {choice}"
        )
    number = int(load_outcome(folder)["chosen"])
    paths = sorted(RunFolder(folder).site(site).glob(f"*/round-{number:05d}.safetensors"))
    if not paths:
        raise DataError(f"{folder} holds no layers of {site}; it has those of: {', '.join(known) or 'no hospital'}")
    weights = load_file(paths[-1])
    if set(weights) != wanted:
        raise DataError(f"{paths[-1]} does not fit the model of the run")
    return dict(weights)


def list_local_layers(folder: Path) -> set[str]:
    """Return the names of the federated model's arrays that each hospital keeps to itself.

    Raises:
        DataError: as `model`.
    """
    built, _, config = _load_saved(folder, "federated")
    return _list_local_layers(folder, built, config, "federated")


def _list_local_layers(folder: Path, built: nn.Module, config: RunConfig, name: str) -> set[str]:
    from server import strategies

    if name not in ("federated", "personal"):
        return set()
    method = strategies.build_method(config.federation.strategy, built)
    if name == "federated":
        return set(method.local)
    if method.pull is None:
        raise DataError(f"{folder} has no personal models: its strategy is {config.federation.strategy.name}")
    return set(built.state_dict())


def _shorten(names: set[str]) -> str:
    listed: Sequence[str] = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more arrays" if len(listed) > 3 else "")


def load_latent(folder: Path, name: str = "federated") -> bytes:
    """Return the latent statistics of a run's model (common/latent.py) as bytes, empty where there are none.

    Raises:
        DataError: the file is damaged.
    """
    path = RunFolder(folder).latent(name)
    try:
        if not path.is_file():
            return b""
        raw = path.read_bytes()
        LatentStatistics.from_bytes(raw)
    except (OSError, ValueError):
        raise DataError(f"{path} is damaged: train again") from None
    return raw


def scaling(folder: Path, name: str = "federated") -> Scaling | None:
    """Return how the inputs of a run's model must be scaled, or None if they are not.

    Raises:
        DataError: the file is damaged.
    """
    path = RunFolder(folder).scaling(name)
    try:
        fitted = Scaling.from_bytes(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError):
        raise DataError(f"{path} is damaged: train again") from None
    if fitted is not None and not fitted.is_usable():
        raise DataError(f"{path} is damaged: its means, deviations or ranks are no finite numbers of one width")
    return fitted


load_scaling = scaling


def load_outcome(folder: Path, name: str = "federated") -> dict[str, Any]:
    """Return what the run recorded of a model besides its weights: `threshold`, the `chosen` round, its figures.

    Raises:
        DataError: the run recorded nothing of it.
    """
    path = RunFolder(folder).outcome if name == "federated" else RunFolder(folder).baselines
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        recorded = content if name == "federated" else next(item for item in content["models"] if item["name"] == name)
        recorded = dict(recorded)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        raise DataError(f"{path} records no model {name!r}: was the run stopped before its end?") from None
    threshold = recorded.get("threshold")
    if threshold is not None and (type(threshold) not in (int, float) or not math.isfinite(threshold)):
        raise DataError(f"{path}: the threshold of {name} is no finite number: restore the file, or train again")
    return recorded


def has_synthetic_data(folder: Path) -> bool:
    """Return whether a hospital of the run reported that its data were generated."""
    sites = load_outcome(folder).get("sites") or {}
    return any(site.get("synthetic") for site in sites.values())
