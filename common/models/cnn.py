"""A residual 1-D CNN over a beat or a strip of ECG, joined with the example's features, if it has any.

Residual blocks as in He et al. 2016, with GroupNorm (Wu and He 2018) in place of BatchNorm, whose running
statistics cannot be averaged over hospitals. Convolutions are written as 1 x k in two dimensions with channels-last
memory, which is 1.4 to 1.7 times as fast as Conv1d on a CPU.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from common.models._layers import Dropout, FeatureHead, Trunk, TrunkOptions, require_signal
from common.task import Task


class Options(TrunkOptions):
    """Options of the CNN."""

    hidden: int = Field(64, ge=4, le=1024, description="units of the hidden layer of the head")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of values set to 0 in training")
    features: bool = Field(True, description="use the features too")


class CNN(Trunk):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, options: Options) -> None:
        require_signal(task, "cnn")
        super().__init__(task.channels, options.widths, options.blocks, options.kernel)
        self.dropout = Dropout(options.dropout)
        features = len(task.features) if options.features else 0
        width = 2 * options.widths[-1]
        self.head = FeatureHead(width, features, options.hidden, len(task.classes), options.dropout)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        x = self.encode(x).squeeze(2)
        pooled = torch.cat([x.mean(-1), x.amax(-1)], dim=1)
        logits: Tensor = self.head(self.dropout(pooled), features)
        return logits


def build(task: Task, options: Options) -> nn.Module:
    """Return a CNN for the task."""
    return CNN(task, options)
