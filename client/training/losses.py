"""The loss of each task, with class weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from common.models._reconstruct import ModelOutput, as_logits, as_reconstruction, build_reconstruction_error
from common.sections.training import TrainingConfig
from common.task import Task

Loss = Callable[[ModelOutput, Tensor, Tensor, Tensor], Tensor]
"""From a model's outputs and the batch's signals, features and labels to each example's loss, or their mean."""


def build_example_loss(task: Task) -> Loss:
    """Return the unweighted loss of each example, `(examples,)`.

    Classification: cross entropy; multilabel: binary cross entropy, summed over the labels; anomaly detection:
    reconstruction error plus the model's own penalty.
    """
    if task.anomaly:
        error = build_reconstruction_error(task)
        return lambda output, x, features, labels: error(as_reconstruction(output)) + as_reconstruction(output).penalty
    if task.kind == "multilabel":
        return lambda output, x, features, labels: functional.binary_cross_entropy_with_logits(
            as_logits(output), labels.to(as_logits(output).dtype), reduction="none"
        ).sum(1)
    return lambda output, x, features, labels: functional.cross_entropy(as_logits(output), labels, reduction="none")


def compute_class_weights(counts: Sequence[int], power: float) -> Tensor:
    """Return class weights share**-power, scaled to a mean of 1 over the examples; absent classes get 0.

    >>> [round(weight, 3) for weight in compute_class_weights([90, 10], 0.5).tolist()]
    [0.833, 2.5]
    """
    total = np.asarray(counts, dtype=np.float64)
    share = total / max(total.sum(), 1)
    weight = np.where(share > 0, np.maximum(share, 1e-12) ** -power, 0.0)
    return torch.tensor(weight / max(float((weight * share).sum()), 1e-12), dtype=torch.float32)


def compute_label_weights(counts: Sequence[int], total: int, power: float) -> Tensor:
    """Return the weight of each label's presence, (examples without it / examples with it)**power; absent labels: 1.

    >>> compute_label_weights([10, 0], 100, 0.5).tolist()
    [3.0, 1.0]
    """
    have = np.asarray(counts, dtype=np.float64)
    odds = np.where(have > 0, (total - have) / np.maximum(have, 1), 1.0)
    return torch.tensor(np.maximum(odds, 1e-12) ** power, dtype=torch.float32)


def build_mean_loss(
    config: TrainingConfig, counts: Sequence[int], device: torch.device, total: int | None = None
) -> Loss:
    """Return the mean loss of a batch, weighted as `training.loss` says.

    Focal loss: Lin et al. 2017 (arXiv:1708.02002), eq. 5, with the class weights as alpha.

    Args:
        config: `loss`, `weight_power`, `focal_gamma`.
        counts: class counts of the whole federation.
        device: where the batches are.
        total: multilabel only: the federation's number of examples; the labels `(batch, classes)` are then separate
            binary ones, whose losses are summed.
    """
    plain = config.loss == "cross_entropy"
    gamma = config.focal_gamma if config.loss == "focal" else 0.0
    if total is not None:
        present = None if plain else compute_label_weights(counts, total, config.weight_power).to(device)

        def labels_loss(output: ModelOutput, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
            logits = as_logits(output)
            truth = labels.to(logits.dtype)
            each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=present)
            if gamma:
                p = torch.sigmoid(logits)
                each = each * (truth * (1 - p) + (1 - truth) * p) ** gamma
            return each.sum(1).mean()

        return labels_loss
    weight = None if plain else compute_class_weights(counts, config.weight_power).to(device)
    if config.loss == "focal":

        def focal(output: ModelOutput, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
            log_p = functional.log_softmax(as_logits(output), dim=1).gather(1, labels[:, None]).squeeze(1)
            assert weight is not None
            return -(weight[labels] * (1 - log_p.exp()) ** gamma * log_p).mean()

        return focal

    def weighted(output: ModelOutput, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        each = functional.cross_entropy(as_logits(output), labels, reduction="none")
        return (each if weight is None else each * weight[labels]).mean()

    return weighted
