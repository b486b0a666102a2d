"""A temporal convolutional network over hours, joined with the example's features, if it has any.

Residual blocks of two causal convolutions, dilated by 1, 2, 4, ... (Bai, Kolter, Koltun 2018, arXiv:1803.01271), with
GroupNorm in place of weight normalisation. The head takes the last step, whose receptive field is
`1 + 2 (kernel - 1) (2**blocks - 1)` steps, and the mean over all steps. GroupNorm uses the whole window, all of which
is past.

It uses Conv1d: the channels-last layout that makes `cnn` faster does not help at the length of hourly windows.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from common.models._layers import Dropout, FeatureHead, fold_into_steps, group_norm, require_signal
from common.settings import Section
from common.task import Task


class Options(Section):
    """Options of the temporal convolution."""

    width: int = Field(32, ge=4, le=1024, description="channels of each block")
    blocks: int = Field(4, ge=1, le=10, description="residual blocks; each doubles the dilation")
    kernel: int = Field(3, ge=2, le=15, description="convolution kernel, in steps")
    stride: int = Field(1, ge=1, le=64, description="samples (hours) per step")
    hidden: int = Field(64, ge=4, le=1024, description="units of the hidden layer of the head")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of values set to 0 in training")
    features: bool = Field(True, description="use the features too")


class _Block(nn.Module):
    """A residual block of two causal convolutions: `(batch, width, steps)` -> the same shape."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.before = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(width, width, kernel, dilation=dilation, bias=False)
        self.norm1 = group_norm(width)
        self.conv2 = nn.Conv1d(width, width, kernel, dilation=dilation, bias=False)
        self.norm2 = group_norm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(functional.pad(x, (self.before, 0)))))
        y = self.norm2(self.conv2(functional.pad(y, (self.before, 0))))
        return torch.relu(x + y)


class TCN(nn.Module):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        require_signal(task, "tcn")
        self.stride = options.stride
        self.embed = nn.Linear(task.channels * options.stride, options.width)
        self.blocks = nn.Sequential(
            *(_Block(options.width, options.kernel, 2**block) for block in range(options.blocks))
        )
        self.dropout = Dropout(options.dropout)
        features = len(task.features) if options.features else 0
        self.head = FeatureHead(2 * options.width, features, options.hidden, len(task.classes), options.dropout)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        x = self.blocks(self.embed(fold_into_steps(x, self.stride)).transpose(1, 2))
        pooled = torch.cat([x[:, :, -1], x.mean(2)], dim=1)
        logits: Tensor = self.head(self.dropout(pooled), features)
        return logits


def build(task: Task, options: Options) -> nn.Module:
    """Return a temporal convolution for the task."""
    return TCN(task, options)
