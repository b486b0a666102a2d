"""Builds the models of common/models, with inputs and losses that fit them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from common import models
from common.errors import ConfigError
from common.models._layers import Dropout
from common.sections.training import ModelConfig
from common.task import Task
from common.trees import grows_trees

NETWORKS = tuple(name for name in models.list_models() if not grows_trees(name))
"""The models that train by gradients; trees have tests of their own."""


def made(
    kind: Any, classes: int, channels: int, samples: int, features: int, rate: float = 125.0, name: str = "t"
) -> Task:
    labels, leads = (tuple(f"{letter}{i}" for i in range(count)) for letter, count in (("c", classes), ("l", channels)))
    return Task(name, kind, labels, labels, channels, samples, rate, tuple(f"f{i}" for i in range(features)), leads)


TASKS = {
    "beats": made("multiclass", 4, 4, 96, 8),
    "beats without features": made("multiclass", 2, 1, 187, 0),
    "strips of 12 leads": made("multilabel", 5, 12, 150, 0, 100.0),
    "hours with features": made("multiclass", 2, 6, 24, 5, 1 / 3600),
    "table": made("multiclass", 2, 0, 0, 13, 0.0),
}


def build(name: str, task: Task, seed: int = 1, **options: object) -> nn.Module:
    return models.build_model(task, ModelConfig(name=name, options=dict(options)), seed)


def _takes(name: str, task: Task) -> bool:
    try:
        build(name, task)
    except ConfigError:
        return False
    return True


PAIRS = [(name, title) for name in NETWORKS for title, task in TASKS.items() if _takes(name, task)]


def calm(model: nn.Module) -> nn.Module:
    """Return the model without dropout."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    return model


def stirred(model: nn.Module) -> nn.Module:
    """Return the model with weights of which none is zero, as after training."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


each_pair = pytest.mark.parametrize(("name", "title"), PAIRS)
