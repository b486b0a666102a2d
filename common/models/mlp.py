"""A multilayer perceptron of features, of a flattened signal, or of both.

Each hidden layer is linear, LayerNorm (Ba, Kiros, Hinton 2016, arXiv:1607.06450), ReLU and dropout.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from common.models._layers import Dropout, Flatten, Inputs
from common.settings import Section
from common.task import Task


class Options(Section):
    """Options of the multilayer perceptron."""

    inputs: Inputs = Field("auto", description="inputs; auto: the features where there are any, else the signal")
    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (64, 32), min_length=1, description="units of each hidden layer"
    )
    norm: bool = Field(True, description="LayerNorm in each hidden layer; it does not mix examples")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of values set to 0 in training")


class MLP(nn.Module):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.flatten = Flatten(task, options.inputs, "mlp")
        layers: list[nn.Module] = []
        inputs = self.flatten.width
        for width in options.widths:
            layers.append(nn.Linear(inputs, width))
            if options.norm and width > 1:
                layers.append(nn.LayerNorm(width))
            layers += [nn.ReLU(), Dropout(options.dropout)]
            inputs = width
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(inputs, len(task.classes))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.out(self.body(self.flatten(x, features)))
        return logits


def build(task: Task, options: Options) -> nn.Module:
    """Return a multilayer perceptron for the task."""
    return MLP(task, options)
