"""A bidirectional LSTM over a beat, joined with the example's features, if it has any.

A strided convolution shortens the signal first, because the time of an LSTM grows with the length of its input.

Privacy: Opacus refuses nn.LSTM. Gradients of single examples come from torch.func.vmap, slowly (its LSTM kernel has
no batching rule); `gru` and `tcn` have no such limit.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from common.models._layers import Dropout, FeatureHead, group_norm, require_signal
from common.settings import Section
from common.task import Task


class Options(Section):
    """Options of the LSTM."""

    width: int = Field(32, ge=4, le=1024, description="units in each direction")
    layers: int = Field(1, ge=1, le=4, description="recurrent layers")
    stride: int = Field(4, ge=1, le=32, description="samples per step")
    hidden: int = Field(64, ge=4, le=1024, description="units of the hidden layer of the head")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of values set to 0 in training")
    features: bool = Field(True, description="use the features too")


class LSTM(nn.Module):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        require_signal(task, "lstm")
        kernel = 2 * options.stride + 1
        self.stem = nn.Conv1d(task.channels, options.width, kernel, options.stride, options.stride, bias=False)
        self.norm = group_norm(options.width)
        self.lstm = nn.LSTM(options.width, options.width, options.layers, batch_first=True, bidirectional=True)
        self.dropout = Dropout(options.dropout)
        features = len(task.features) if options.features else 0
        self.head = FeatureHead(4 * options.width, features, options.hidden, len(task.classes), options.dropout)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        x = torch.relu(self.norm(self.stem(x))).transpose(1, 2)  # (batch, steps, width)
        x, _ = self.lstm(x)
        pooled = torch.cat([x.mean(1), x.amax(1)], dim=1)
        logits: Tensor = self.head(self.dropout(pooled), features)
        return logits


def build(task: Task, options: Options) -> nn.Module:
    """Return an LSTM for the task."""
    return LSTM(task, options)
