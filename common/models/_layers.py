"""Layers that several models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from common.errors import ConfigError
from common.settings import Section
from common.task import Task

Inputs = Literal["auto", "features", "signal", "both"]


def require_signal(task: Task, model: str, instead: str = "logreg or mlp") -> None:
    """Refuse a task without a signal.

    Args:
        task: the task.
        model: name of the model, for the error message.
        instead: models to suggest.

    Raises:
        ConfigError: the task has no channels.
    """
    if not task.channels:
        raise ConfigError(f"model.name={model} needs a signal; this data set has features only: use {instead}")


def fold_into_steps(x: Tensor, size: int) -> Tensor:
    """Return a signal `(batch, channels, samples)` as steps of `size` samples, `(batch, steps, channels * size)`.

    Zeros fill up the first step, so that the last step ends with the last sample.
    """
    batch, channels, samples = x.shape
    if spare := -samples % size:
        x = functional.pad(x, (spare, 0))
    x = x.transpose(1, 2)
    return x if size == 1 else x.reshape(batch, -1, size * channels)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm layer with about eight channels per group."""
    groups = max(1, channels // 8)
    while channels % groups:
        groups -= 1
    norm = nn.GroupNorm(groups, channels)
    norm.register_forward_pre_hook(_make_contiguous)
    return norm


def _make_contiguous(norm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """Make the input of a trained norm contiguous where it comes from frozen layers.

    On a CPU the backward pass of GroupNorm in torch 2.13 crashes where a channels-last input needs no gradient.
    """
    (x,) = inputs
    if x.ndim < 4 or x.requires_grad or not torch.is_grad_enabled():
        return None
    return (x.contiguous(),) if any(parameter.requires_grad for parameter in norm.parameters()) else None


class RandomLayer(nn.Module):
    """Base of layers that draw random numbers in training.

    Attributes:
        generator: the layer's own generator, so that threads do not share one; None: torch's global one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator: torch.Generator | None = None


class Dropout(RandomLayer):
    """Dropout that draws from its own generator."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return x, in training with a share of its values set to 0 and the others scaled up."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape, generator=self.generator) >= self.rate
        return x * keep.to(device=x.device, dtype=x.dtype) / (1 - self.rate)


class Noise(RandomLayer):
    """Standard normal noise in training."""

    def forward(self, like: Tensor) -> Tensor:
        """Return noise in the shape of a tensor; zeros outside of training."""
        if not self.training:
            return torch.zeros_like(like)
        return torch.randn(like.shape, generator=self.generator).to(device=like.device, dtype=like.dtype)


class ResidualBlock(nn.Module):
    """A residual block of two 1 x k convolutions with GroupNorm; the first may have a stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, kernel // 2), bias=False)
        self.norm1 = group_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, (1, kernel), 1, (0, kernel // 2), bias=False)
        self.norm2 = group_norm(outputs)
        self.skip = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Conv2d(inputs, outputs, 1, (1, stride), bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, outputs, 1, samples / stride)`."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.skip(x))


class TrunkOptions(Section):
    """Options of the models that start with a `Trunk`."""

    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (16, 32, 64), min_length=1, description="channels of each stage; each but the first halves the time axis"
    )
    blocks: int = Field(1, ge=1, le=8, description="residual blocks per stage")
    kernel: int = Field(5, ge=1, le=31, description="convolution kernel, in samples; odd")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that a convolution keeps the length of its input")
        return value


class Trunk(nn.Module):
    """`(batch, channels, samples)` -> `(batch, last width, 1, steps)`: a strided stem, then residual stages.

    Its parameters `stem`, `stem_norm` and `stages` have the same names in every model that starts with it, so that
    weights can be transferred. Each stage but the first halves the time axis.
    """

    def __init__(self, channels: int, widths: Sequence[int], blocks: int, kernel: int) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Conv2d(channels, first, (1, 7), (1, 2), (0, 3), bias=False)
        self.stem_norm = group_norm(first)
        stages: list[nn.Module] = []
        inputs = first
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(ResidualBlock(inputs, width, kernel, 2 if block == 0 and stage > 0 else 1))
                inputs = width
        self.stages = nn.Sequential(*stages)

    def encode(self, x: Tensor) -> Tensor:
        """Return the output of the last stage."""
        # (batch, channels, 1, samples), channels last in memory, by operations that torch.func.vmap supports
        x = x.transpose(1, 2).contiguous().unsqueeze(1).permute(0, 3, 1, 2)
        encoded: Tensor = self.stages(torch.relu(self.stem_norm(self.stem(x))))
        return encoded


class FeatureHead(nn.Module):
    """A signal's embedding `(batch, width)` and features `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, width: int, features: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.features = features
        extra = 0
        if features:
            extra = max(16, hidden // 2)
            self.embed = nn.Sequential(nn.Linear(features, extra), nn.ReLU())
        self.hidden = nn.Linear(width + extra, hidden)
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        if self.features:
            x = torch.cat([x, self.embed(features)], dim=1)
        logits: Tensor = self.out(self.dropout(torch.relu(self.hidden(x))))
        return logits


class Flatten(nn.Module):
    """The inputs of a model without convolutions: features, the flattened signal, or both, `(batch, width)`.

    `auto` selects the features where the task has any, else the signal.
    """

    def __init__(self, task: Task, inputs: Inputs, model: str) -> None:
        super().__init__()
        if inputs == "auto":
            inputs = "features" if task.features else "signal"
        if inputs != "signal" and not task.features:
            raise ConfigError(f"model.options of {model}: inputs={inputs}, but this data set has no features")
        if inputs != "features" and not task.channels:
            raise ConfigError(f"model.options of {model}: inputs={inputs}, but this data set has no signal")
        self.inputs = inputs
        self.width = len(task.features) * (inputs != "signal") + task.channels * task.samples * (inputs != "features")

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return one row per example, `(batch, width)`."""
        if self.inputs == "features":
            return features
        return x.flatten(1) if self.inputs == "signal" else torch.cat([features, x.flatten(1)], dim=1)
