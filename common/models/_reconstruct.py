"""What models that reconstruct share: their outputs, and how far these are from what they should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common.task import Task


class Reconstruction(NamedTuple):
    """What a model makes of examples, beside what it should have made; None where it makes no signal or no columns.

    `latent`: `(batch, latent)`; `signal` and `wanted`: `(batch, channels, samples)`, NaN in `wanted` where nothing was
    measured; `columns` and `wanted_columns`: `(batch, features)` likewise, of a 0/1 feature the log odds of a 1;
    `penalty`: `(batch,)`, added to the loss in training alone; `share`: of the columns in the error.
    """

    latent: Tensor
    penalty: Tensor
    signal: Tensor | None = None
    wanted: Tensor | None = None
    columns: Tensor | None = None
    wanted_columns: Tensor | None = None
    share: float = 0.5


def build_reconstruction_error(task: Task) -> Callable[[Reconstruction], Tensor]:
    """Return the reconstruction error of each example, `(batch,)`, over what was measured of it: 0 if nothing was.

    Of a signal and of continuous columns the mean squared error; of a 0/1 column its deviance, twice the negative log
    likelihood, which is what the squared error is of a value of variance 1. A 0/1 column that was scaled is a 1 where
    it is above 0.
    """
    binary = torch.tensor([name in task.binary_features for name in task.features], dtype=torch.bool)

    def found(outputs: Reconstruction) -> Tensor:
        parts = []
        if outputs.signal is not None and outputs.wanted is not None:
            wanted, there = split_missing(outputs.wanted)
            parts.append(_mean((outputs.signal - wanted) ** 2, there))
        if outputs.columns is not None and outputs.wanted_columns is not None:
            wanted, there = split_missing(outputs.wanted_columns)
            each = (outputs.columns - wanted) ** 2
            if task.binary_features:
                truth = (wanted > 0).to(each.dtype)
                deviance = 2 * functional.binary_cross_entropy_with_logits(outputs.columns, truth, reduction="none")
                each = torch.where(binary.to(each.device), deviance, each)
            parts.append(_mean(each, there))
        if len(parts) == 1:
            return parts[0]
        return (1 - outputs.share) * parts[0] + outputs.share * parts[1]

    return found


def _mean(each: Tensor, there: Tensor) -> Tensor:
    """Return the mean of `each` over what was measured, `(batch,)`."""
    return (each * there).flatten(1).sum(1) / there.flatten(1).sum(1).clamp(min=1)


def split_missing(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return values with 0 for what was not measured, and 1 where one was measured, 0 elsewhere."""
    missing = x.isnan()
    return torch.where(missing, 0.0, x), (~missing).to(x.dtype)
