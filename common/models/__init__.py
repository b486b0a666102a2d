"""Models: one file each, named by the file. `build(task, options) -> nn.Module`, `Options` checks the options."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from common import config, plugins
from common.config import ModelConfig
from common.seeds import seed_for
from common.task import Task

if TYPE_CHECKING:
    from torch import nn

_building = threading.Lock()
"""Layers draw their weights from torch's one global stream: threads that build at once would share it."""


def names() -> tuple[str, ...]:
    """Return the names of the models."""
    return plugins.names("common.models", "build")


def build(task: Task, wanted: ModelConfig, seed: int) -> nn.Module:
    """Return a freshly initialised model; the same seed gives the same weights.

    Raises:
        ConfigError: no such model, or a wrong option.
    """
    import torch

    module = plugins.load("common.models", "build", wanted.name, "model")
    options = config.check(module.Options, wanted.options, f"model.options of {wanted.name}")
    with _building, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "initial weights"))
        model: nn.Module = module.build(task, options)
    return model
