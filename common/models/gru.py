"""A gated recurrent unit over hours, joined with the example's features, if it has any.

Cho et al. 2014 (arXiv:1406.1078), in the form of torch.nn.GRU, but made of linear layers: Opacus refuses nn.GRU, and on
a CPU this is as fast. The head takes the last state, because a window ends at the time of prediction. For an ECG use a
`stride` of 4 or more, because the time grows with the number of steps.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from common.models._layers import Dropout, FeatureHead, fold_into_steps, require_signal
from common.settings import Section
from common.task import Task


class Options(Section):
    """Options of the GRU."""

    width: int = Field(64, ge=4, le=1024, description="units of the state")
    layers: int = Field(1, ge=1, le=4, description="recurrent layers")
    stride: int = Field(1, ge=1, le=64, description="samples (hours) per step")
    hidden: int = Field(64, ge=4, le=1024, description="units of the hidden layer of the head")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of values set to 0 in training")
    features: bool = Field(True, description="use the features too")


class _Layer(nn.Module):
    """A GRU layer: `(batch, steps, inputs)` -> states `(batch, steps, width)`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(inputs, 3 * width)
        self.state = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        gates, candidates = self.input(x).split([2 * self.width, self.width], dim=2)
        state = torch.zeros_like(candidates[:, 0])
        states = []
        for gate, candidate in zip(gates.unbind(1), candidates.unbind(1), strict=True):
            from_gate, from_state = self.state(state).split([2 * self.width, self.width], dim=1)
            reset, keep = torch.sigmoid(gate + from_gate).chunk(2, dim=1)
            new = torch.tanh(candidate + reset * from_state)
            state = new + keep * (state - new)
            states.append(state)
        return torch.stack(states, dim=1)


class GRU(nn.Module):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        require_signal(task, "gru")
        self.stride = options.stride
        inputs = [task.channels * options.stride] + [options.width] * (options.layers - 1)
        self.layers = nn.Sequential(*(_Layer(width, options.width) for width in inputs))
        self.dropout = Dropout(options.dropout)
        features = len(task.features) if options.features else 0
        self.head = FeatureHead(options.width, features, options.hidden, len(task.classes), options.dropout)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        last = self.layers(fold_into_steps(x, self.stride))[:, -1]
        logits: Tensor = self.head(self.dropout(last), features)
        return logits


def build(task: Task, options: Options) -> nn.Module:
    """Return a GRU for the task."""
    return GRU(task, options)
