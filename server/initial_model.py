"""The first model of a run: fresh weights, or those of a model that was trained before (`federation.start`).

The baselines start from it too, so that they are compared from the same point.
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
    """A first model.

    Attributes:
        model: the network.
        taken: names of the parameters that were taken from the saved model.
        frozen: names of the parameters that do not train.
    """

    model: nn.Module
    taken: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


def build_initial_model(config: RunConfig, task: Task) -> InitialModel:
    """Return the model that training starts from.

    Raises:
        ConfigError: `federation.start` holds no model, or one that does not fit; or a pattern of
            `federation.start_except` or `training.freeze` fits no parameter.
    """
    model = models.build_model(task, config.model, config.seed)
    source, taken = config.federation.start, []
    if source is not None:
        taken = models.transfer_weights(model, load_saved_weights(source), config.federation.start_except)
    return InitialModel(model, tuple(taken), tuple(models.freeze_parameters(model, config.training.freeze)))


def load_saved_weights(source: str) -> Weights:
    """Return the weights in a file, or of a run's chosen model, by name.

    Raises:
        ConfigError: there is no such file, or it holds no weights.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(source).expanduser()
    if path.is_dir():
        path = RunFolder(path).weights()
    try:
        weights: Weights = load_file(path)
    except FileNotFoundError:
        raise ConfigError(f"federation.start: no file {path}: name a run's folder or a .safetensors file") from None
    except (OSError, SafetensorError, KeyError):
        raise ConfigError(f"federation.start: {path} cannot be read as .safetensors") from None
    return weights
