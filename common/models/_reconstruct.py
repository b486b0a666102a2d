"""The output of autoencoders, and the reconstruction error."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common.task import Task


class Reconstruction(NamedTuple):
    """The output of an autoencoder, with the targets.

    Attributes:
        latent: latent values, `(batch, latent)`.
        penalty: added to the loss in training only, `(batch,)`.
        signal: reconstructed signal, `(batch, channels, samples)`; None: the model reconstructs no signal.
        wanted: the signal itself, NaN where nothing was measured.
        columns: reconstructed features, `(batch, features)`, of a 0/1 feature the log odds of 1; None: no features.
        wanted_columns: the features themselves, NaN where nothing was measured.
        share: weight of the features in the error, 0 to 1.
    """

    latent: Tensor
    penalty: Tensor
    signal: Tensor | None = None
    wanted: Tensor | None = None
    columns: Tensor | None = None
    wanted_columns: Tensor | None = None
    share: float = 0.5


ModelOutput = Tensor | Reconstruction
"""What a model returns: a classifier logits `(batch, classes)`, an autoencoder a Reconstruction."""


def as_logits(output: ModelOutput) -> Tensor:
    """Return a classifier's output, which is a tensor of logits.

    Raises:
        TypeError: it is an autoencoder's.
    """
    if not isinstance(output, Tensor):
        raise TypeError("an autoencoder gives no logits")
    return output


def as_reconstruction(output: ModelOutput) -> Reconstruction:
    """Return an autoencoder's output, which is a Reconstruction.

    Raises:
        TypeError: it is a classifier's.
    """
    if not isinstance(output, Reconstruction):
        raise TypeError("a classifier gives no reconstruction")
    return output


def build_reconstruction_error(task: Task) -> Callable[[Reconstruction], Tensor]:
    """Return a function from outputs to the reconstruction error of each example over its measured values, `(batch,)`.

    The mean squared error of a signal and of continuous features; for a 0/1 feature the deviance, twice the negative
    log likelihood; the squared error is the same quantity for a normal value of variance 1. A scaled 0/1 feature counts
    as 1 above 0. Without any measured value the error is 0.
    """
    binary = torch.tensor([name in task.binary_features for name in task.features], dtype=torch.bool)

    def compute_error(outputs: Reconstruction) -> Tensor:
        parts = []
        if outputs.signal is not None and outputs.wanted is not None:
            wanted, mask = split_missing(outputs.wanted)
            parts.append(_mean((outputs.signal - wanted) ** 2, mask))
        if outputs.columns is not None and outputs.wanted_columns is not None:
            wanted, mask = split_missing(outputs.wanted_columns)
            each = (outputs.columns - wanted) ** 2
            if task.binary_features:
                truth = (wanted > 0).to(each.dtype)
                deviance = 2 * functional.binary_cross_entropy_with_logits(outputs.columns, truth, reduction="none")
                each = torch.where(binary.to(each.device), deviance, each)
            parts.append(_mean(each, mask))
        if len(parts) == 1:
            return parts[0]
        return (1 - outputs.share) * parts[0] + outputs.share * parts[1]

    return compute_error


def _mean(each: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over measured values, `(batch,)`."""
    return (each * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1)


def split_missing(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return values with 0 in place of NaN, and a mask: 1 where a value was measured, else 0."""
    missing = x.isnan()
    return torch.where(missing, 0.0, x), (~missing).to(x.dtype)
