"""A convolutional autoencoder of a beat or a strip of ECG, and of the example's features, if it has any.

Hinton and Salakhutdinov 2006, Science 313:504-507. The encoder starts with the residual trunk of `cnn`, under the same
parameter names, so that weights can be transferred to a classifier. The decoder doubles the time axis by repetition and
convolves, which avoids checkerboard artefacts (Odena et al. 2016, doi:10.23915/distill.00003). `variational`: Kingma
and Welling 2013 (arXiv:1312.6114), with the weight beta of Higgins et al. 2017. `denoise`: Vincent et al. 2008, ICML.
Values that were not measured are 0 in the input and left out of the error.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from common.models._layers import Noise, Trunk, TrunkOptions, group_norm, require_signal
from common.models._reconstruct import Reconstruction, split_missing
from common.task import Task

RECONSTRUCTS = True


class Options(TrunkOptions):
    """Options of the autoencoder."""

    latent: int = Field(16, ge=1, le=1024, description="latent values, the bottleneck")
    variational: bool = Field(
        False, description="draw latent values, with a penalty on their divergence from a standard normal distribution"
    )
    beta: float = Field(
        0.001, ge=0, le=100, description="variational: weight of the divergence from that distribution in the loss"
    )
    denoise: float = Field(
        0.0, ge=0, le=10, description="standard deviation of the noise added to the encoder's input in training"
    )
    normalise: Literal["none", "example"] = Field(
        "none", description="example: scale each signal to mean 0 and standard deviation 1 over all its leads"
    )
    features: bool = Field(True, description="reconstruct the features too")
    share: float = Field(0.5, ge=0, le=1, description="weight of the features in the error")


class _Grow(nn.Module):
    """A decoder stage that doubles the steps: `(batch, inputs, 1, steps)` -> `(batch, outputs, 1, 2 steps)`."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, (1, kernel), 1, (0, kernel // 2), bias=False)
        self.norm = group_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x.repeat_interleave(2, dim=-1))))


class Autoencoder(Trunk):
    """`(batch, channels, samples)` and `(batch, features)` -> Reconstruction."""

    def __init__(self, task: Task, options: Options) -> None:
        require_signal(task, "autoencoder", "tabular_autoencoder")
        super().__init__(task.channels, options.widths, options.blocks, options.kernel)
        self.options, self.samples = options, task.samples
        self.width, self.steps = options.widths[-1], math.ceil(task.samples / 2 ** len(options.widths))
        self.columns = len(task.features) if options.features else 0
        inside = self.width * self.steps
        extra = 0
        if self.columns:
            extra = max(16, 2 * self.columns)
            self.embed = nn.Sequential(nn.Linear(self.columns, extra), nn.ReLU())
            self.back = nn.Sequential(nn.Linear(options.latent, extra), nn.ReLU(), nn.Linear(extra, self.columns))
        self.latent = nn.Linear(inside + extra, options.latent)
        if options.variational:
            self.spread = nn.Linear(inside + extra, options.latent)
            self.draw = Noise()
        self.noise = Noise()
        self.unfold = nn.Linear(options.latent, inside)
        shrinking = options.widths[::-1]
        self.grow = nn.Sequential(
            *(
                _Grow(inputs, outputs, options.kernel)
                for inputs, outputs in zip(shrinking, (*shrinking[1:], shrinking[-1]), strict=True)
            )
        )
        self.out = nn.Conv2d(options.widths[0], task.channels, (1, options.kernel), 1, (0, options.kernel // 2))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, features: Tensor) -> Reconstruction:
        """Return the reconstruction of the inputs, with its targets."""
        options = self.options
        if options.normalise == "example":
            x = _normal(x)
        wanted = x
        x, _ = split_missing(x)
        if options.denoise:
            x = x + options.denoise * self.noise(x)
        encoded = self.encode(x).flatten(1)
        if self.columns:
            columns, _ = split_missing(features)
            if options.denoise:
                columns = columns + options.denoise * self.noise(columns)
            encoded = torch.cat([encoded, self.embed(columns)], dim=1)
        latent = self.latent(encoded)
        penalty, drawn = torch.zeros_like(latent[:, 0]), latent
        if options.variational:
            spread = self.spread(encoded).clamp(-10.0, 10.0)
            penalty = options.beta * 0.5 * (latent**2 + spread.exp() - 1 - spread).sum(1)
            drawn = latent + (0.5 * spread).exp() * self.draw(latent)
        grown = self.grow(self.unfold(drawn).reshape(-1, self.width, 1, self.steps))
        signal = self.out(grown).squeeze(2)[..., : self.samples]
        if not self.columns:
            return Reconstruction(latent, penalty, signal, wanted)
        return Reconstruction(latent, penalty, signal, wanted, self.back(drawn), features, options.share)


def _normal(x: Tensor) -> Tensor:
    """Return signals scaled to mean 0 and standard deviation 1 over their measured values; constant ones become 0."""
    values, mask = split_missing(x)
    count = mask.sum((1, 2), keepdim=True).clamp(min=1)
    moved = x - values.sum((1, 2), keepdim=True) / count
    power = (split_missing(moved)[0] ** 2).sum((1, 2), keepdim=True) / count
    return moved / (power.sqrt() + 1e-3)


def build(task: Task, options: Options) -> nn.Module:
    """Return an autoencoder for the task."""
    return Autoencoder(task, options)
