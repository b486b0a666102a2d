"""Small networks without dropout, of every kind of layer, for tests of gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from client.training.batches import RowLoader, make_row_loader
from common import models
from common.models._layers import Dropout
from common.sections.training import ModelConfig
from common.task import Task
from sites.cohort import Cohort

MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"widths": [8, 16], "hidden": 8}, "mlp": {}, "logreg": {}, "gru": {"width": 8, "hidden": 8},
    "lstm": {"width": 8, "hidden": 8}, "tcn": {"width": 8, "hidden": 8}, "transformer": {"width": 8, "hidden": 8},
}  # fmt: skip


def network(task: Task, name: str, **more: Any) -> nn.Module:
    """Return a model whose dropout is off, so that two methods give one gradient."""
    model = models.build_model(task, ModelConfig(name=name, options={**MODELS[name], **more}), seed=1).train()
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    return model


def row_loader(cohort: Cohort) -> RowLoader:
    """Return a function from row numbers to a cohort's rows, without augmentation."""
    return make_row_loader(cohort, torch.device("cpu"), 0.0, torch.Generator())
