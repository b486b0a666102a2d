"""A small transformer over hours, joined with the example's features, if it has any.

Encoder blocks of Vaswani et al. 2017 (arXiv:1706.03762) with LayerNorm before each part (Xiong et al. 2020,
arXiv:2002.04745) and sinusoidal positions, counted backwards from the last step, at which a window ends. Attention is
made of linear layers, because Opacus refuses nn.MultiheadAttention. For an ECG use a `stride` of 4 or more, because the
time grows with the square of the number of steps.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from common.models._layers import Dropout, FeatureHead, fold_into_steps, require_signal
from common.settings import Section
from common.task import Task


class Options(Section):
    """Options of the transformer."""

    width: int = Field(32, ge=4, le=1024, description="units of each step; even, and a multiple of heads")
    blocks: int = Field(2, ge=1, le=12, description="encoder blocks")
    heads: int = Field(4, ge=1, le=16, description="attention heads")
    stride: int = Field(1, ge=1, le=64, description="samples (hours) per step")
    hidden: int = Field(64, ge=4, le=1024, description="units of the hidden layer of the head")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of values set to 0 in training")
    features: bool = Field(True, description="use the features too")

    @model_validator(mode="after")
    def _divides(self) -> Options:
        if self.width % 2 or self.width % self.heads:
            raise ValueError("width must be even and a multiple of heads")
        return self


class _Block(nn.Module):
    """An encoder block of attention and a feed-forward network: `(batch, steps, width)` -> the same shape."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias would add the same value to all scores of a query
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        query, key, value = (
            part(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (batch, heads, steps, width / heads)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        y = (scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(y))
        y = self.narrow(torch.relu(self.wide(self.norm2(x))))
        added: Tensor = x + self.dropout(y)
        return added


class Transformer(nn.Module):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        require_signal(task, "transformer")
        self.stride = options.stride
        self.embed = nn.Linear(task.channels * options.stride, options.width)
        self.blocks = nn.Sequential(
            *(_Block(options.width, options.heads, options.dropout) for _ in range(options.blocks))
        )
        self.norm = nn.LayerNorm(options.width)
        features = len(task.features) if options.features else 0
        self.head = FeatureHead(2 * options.width, features, options.hidden, len(task.classes), options.dropout)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        x = self.embed(fold_into_steps(x, self.stride))
        x = self.norm(self.blocks(x + encode_positions(x.shape[1], x.shape[2]).to(x)))
        logits: Tensor = self.head(torch.cat([x[:, -1], x.mean(1)], dim=1), features)
        return logits


def encode_positions(count: int, width: int) -> Tensor:
    """Return position encodings `(count, width)`: sines and cosines of the distance to the last step.

    The shortest wavelength is 2 pi steps.
    """
    distance = torch.arange(count - 1, -1, -1, dtype=torch.float32)[:, None]
    angle = distance * torch.exp(-math.log(1e4) / (width // 2) * torch.arange(width // 2, dtype=torch.float32))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def build(task: Task, options: Options) -> nn.Module:
    """Return a transformer for the task."""
    return Transformer(task, options)
