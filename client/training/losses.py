"""The loss of each task, with class weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from common.models._reconstruct import ModelOutput, as_logits, as_reconstruction, build_reconstruction_error
from common.sections.training import TrainingConfig
from common.task import Task

Loss = Callable[[ModelOutput, Tensor, Tensor, Tensor], Tensor]
"""From a model's outputs and the batch's signals, features and labels to each example's loss, or their mean."""


def build_example_loss(task: Task, replaced: float = 0.0) -> Loss:
    """Return the unweighted loss of each example, `(examples,)`.

    Classification: cross entropy; multilabel: binary cross entropy, summed over the labels; anomaly detection:
    reconstruction error plus the model's own penalty.

    Args:
        task: what is predicted.
        replaced: as for `build_mean_loss`.
    """
    if task.anomaly:
        error = build_reconstruction_error(task)
        return lambda output, x, features, labels: error(as_reconstruction(output)) + as_reconstruction(output).penalty
    if task.kind == "multilabel":

        def labels_loss(output: ModelOutput, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
            logits = as_logits(output)
            odds = _logits_of_replaced(logits, replaced) if replaced else logits
            return functional.binary_cross_entropy_with_logits(odds, labels.to(logits.dtype), reduction="none").sum(1)

        return labels_loss
    if replaced:
        return lambda output, x, features, labels: functional.nll_loss(
            _log_softmax_of_replaced(as_logits(output), replaced), labels, reduction="none"
        )
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
    config: TrainingConfig,
    counts: Sequence[int],
    device: torch.device,
    total: int | None = None,
    replaced: float = 0.0,
) -> Loss:
    """Return the mean loss of a batch, weighted as `training.loss` says.

    Focal loss: Lin et al. 2017 (arXiv:1708.02002), eq. 5, with the class weights as alpha. Where labels were replaced,
    the loss is that of the probability which the model gives to the label as it is seen (the forward correction of
    Patrini et al. 2017, arXiv:1609.03683), so that the model's own probabilities are those of the true labels.

    Args:
        config: `loss`, `weight_power`, `focal_gamma`.
        counts: class counts of the whole federation.
        device: where the batches are.
        total: multilabel only: the federation's number of examples; the labels `(batch, classes)` are then separate
            binary ones, whose losses are summed.
        replaced: probability with which a label was replaced by one of the others, each as likely.
    """
    plain = config.loss == "cross_entropy"
    gamma = config.focal_gamma if config.loss == "focal" else 0.0
    if total is not None:
        present = None if plain else compute_label_weights(counts, total, config.weight_power).to(device)

        def labels_loss(output: ModelOutput, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
            logits = as_logits(output)
            truth = labels.to(logits.dtype)
            if replaced:
                logits = _logits_of_replaced(logits, replaced)
            each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=present)
            if gamma:
                p = torch.sigmoid(logits)
                each = each * (truth * (1 - p) + (1 - truth) * p) ** gamma
            return each.sum(1).mean()

        return labels_loss
    weight = None if plain else compute_class_weights(counts, config.weight_power).to(device)
    log_probability = partial(_log_softmax_of_replaced, replaced=replaced)
    if config.loss == "focal":

        def focal(output: ModelOutput, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
            log_p = log_probability(as_logits(output)).gather(1, labels[:, None]).squeeze(1)
            assert weight is not None
            return -(weight[labels] * (1 - log_p.exp()) ** gamma * log_p).mean()

        return focal

    def weighted(output: ModelOutput, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        if replaced:
            each = functional.nll_loss(log_probability(as_logits(output)), labels, reduction="none")
        else:
            each = functional.cross_entropy(as_logits(output), labels, reduction="none")
        return (each if weight is None else each * weight[labels]).mean()

    return weighted


def build_batch_loss(
    task: Task, config: TrainingConfig, counts: Sequence[int], device: torch.device, total: int, replaced: float = 0.0
) -> Loss:
    """Return the mean loss of a batch of any task: of reconstructions, or as `build_mean_loss` for labels."""
    if task.anomaly:
        example_loss = build_example_loss(task)
        return lambda *batch: example_loss(*batch).mean()
    return build_mean_loss(config, counts, device, total if task.kind == "multilabel" else None, replaced)


def _log_softmax_of_replaced(logits: Tensor, replaced: float) -> Tensor:
    """Return the log probability of each class `(batch, classes)` as it is seen after replacing."""
    if not replaced:
        return functional.log_softmax(logits, dim=1)
    other = replaced / (logits.shape[1] - 1)
    return torch.log(other + (1 - replaced - other) * functional.softmax(logits, dim=1))


def _logits_of_replaced(logits: Tensor, replaced: float) -> Tensor:
    """Return the log odds of each label `(batch, labels)` as it is seen after replacing."""
    return torch.logit(replaced + (1 - 2 * replaced) * torch.sigmoid(logits))
