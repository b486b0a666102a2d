"""Where a federation begins: fresh weights, or those of a model that was trained before (`federation.start`).

The baselines begin there too, so that they are compared from the same point.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common import models
from common.arrays import Weights
from common.config import RunConfig
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.task import Task

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class InitialModel:
    """A first model; the names of what it took from the saved one, and of what does not train."""

    model: nn.Module
    taken: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


def build_initial_model(config: RunConfig, task: Task) -> InitialModel:
    """Return the model that training begins with.

    Raises:
        ConfigError: `federation.start` holds no model, or one that does not fit; or a pattern of
            `federation.start_except` or `training.freeze` fits no parameter.
    """
    model = models.build_model(task, config.model, config.seed)
    where, taken = config.federation.start, []
    if where is not None:
        taken = models.transfer_weights(model, load_saved_weights(where), config.federation.start_except)
    return InitialModel(model, tuple(taken), tuple(models.freeze_parameters(model, config.training.freeze)))


def load_saved_weights(where: str) -> Weights:
    """Return the weights in a file, or of a run's chosen model, by name.

    Raises:
        ConfigError: there are none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(where).expanduser()
    if path.is_dir():
        path = RunFolder(path).weights()
    try:
        found: Weights = load_file(path)
    except FileNotFoundError:
        raise ConfigError(f"federation.start: no file {path}: name a run's folder or a .safetensors file") from None
    except (OSError, SafetensorError, KeyError):
        raise ConfigError(f"federation.start: {path} cannot be read as .safetensors") from None
    return found
