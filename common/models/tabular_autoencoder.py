"""An autoencoder of a table of continuous and 0/1 columns with missing values.

Hinton and Salakhutdinov 2006, Science 313:504-507; layers with LayerNorm (Ba, Kiros, Hinton 2016). The encoder's
inputs are the values, 0 where not measured, and whether each was measured. Missing values are left out of the error. In
training a share of the values is hidden (Vincent et al. 2008, ICML), so that the model predicts them from the others
and learns to handle missing values.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from common.errors import ConfigError
from common.models._layers import Dropout, Noise
from common.models._reconstruct import Reconstruction, split_missing
from common.settings import Section
from common.task import Task

RECONSTRUCTS = True


class Options(Section):
    """Options of the tabular autoencoder."""

    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (32,), min_length=1, description="units of the encoder's layers; the decoder has the same in reverse order"
    )
    latent: int = Field(4, ge=1, le=1024, description="latent values, the bottleneck")
    hide: float = Field(0.2, ge=0, lt=1, description="share of the values that are hidden from the encoder in training")
    denoise: float = Field(
        0.0, ge=0, le=10, description="standard deviation of the noise added to the encoder's input in training"
    )
    variational: bool = Field(
        False, description="draw latent values, with a penalty on their divergence from a standard normal distribution"
    )
    beta: float = Field(
        0.001, ge=0, le=100, description="variational: weight of the divergence from that distribution in the loss"
    )


def _layers(widths: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()) for a, b in pairwise(widths)))


class TabularAutoencoder(nn.Module):
    """`(batch, 0, 0)` and `(batch, features)` -> Reconstruction."""

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        if not task.features:
            raise ConfigError("model.name=tabular_autoencoder needs features; this data set has a signal only")
        self.options, columns = options, len(task.features)
        self.encoder = _layers((2 * columns, *options.widths))
        self.latent = nn.Linear(options.widths[-1], options.latent)
        if options.variational:
            self.spread = nn.Linear(options.widths[-1], options.latent)
            self.draw = Noise()
        self.noise, self.hide = Noise(), Dropout(options.hide)
        self.decoder = _layers((options.latent, *options.widths[::-1]))
        self.out = nn.Linear(options.widths[0], columns)

    def forward(self, x: Tensor, features: Tensor) -> Reconstruction:
        """Return the reconstruction of the features, with its targets."""
        options = self.options
        values, mask = split_missing(features)
        visible = mask * (self.hide(torch.ones_like(mask)) > 0).to(mask.dtype)
        if options.denoise:
            values = values + options.denoise * self.noise(values)
        inside = self.encoder(torch.cat([values * visible, visible], dim=1))
        latent = self.latent(inside)
        penalty, drawn = torch.zeros_like(latent[:, 0]), latent
        if options.variational:
            spread = self.spread(inside).clamp(-10.0, 10.0)
            penalty = options.beta * 0.5 * (latent**2 + spread.exp() - 1 - spread).sum(1)
            drawn = latent + (0.5 * spread).exp() * self.draw(latent)
        return Reconstruction(latent, penalty, columns=self.out(self.decoder(drawn)), wanted_columns=features)


def build(task: Task, options: Options) -> nn.Module:
    """Return a tabular autoencoder for the task."""
    return TabularAutoencoder(task, options)
