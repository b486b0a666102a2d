"""Logistic regression: one linear layer, initialised to zero.

Its inputs are the features where the task has any, else the flattened signal. Its parameters are `out.weight` and
`out.bias`: a strategy that keeps `out.bias` local gives each hospital its own intercept.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from common.models._layers import Flatten, Inputs
from common.settings import Section
from common.task import Task


class Options(Section):
    """Options of logistic regression; training.weight_decay sets its penalty."""

    inputs: Inputs = Field("auto", description="inputs; auto: the features where there are any, else the signal")


class LogisticRegression(nn.Module):
    """`(batch, channels, samples)` and `(batch, features)` -> logits `(batch, classes)`."""

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.flatten = Flatten(task, options.inputs, "logreg")
        self.out = nn.Linear(self.flatten.width, len(task.classes))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.out(self.flatten(x, features))
        return logits


def build(task: Task, options: Options) -> nn.Module:
    """Return a logistic regression for the task."""
    return LogisticRegression(task, options)
