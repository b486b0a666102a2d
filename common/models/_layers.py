"""Layers that several models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with about eight channels a group."""
    groups = max(1, channels // 8)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class Dropout(nn.Module):
    """Dropout that draws from its own generator, so that threads do not share one stream of random numbers."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x with a share of values zeroed while training."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape, generator=self.generator) >= self.rate
        return x * keep.to(device=x.device, dtype=x.dtype) / (1 - self.rate)


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
