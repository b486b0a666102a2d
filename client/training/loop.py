"""The training loop, the same for federated, pooled, single-hospital and private training.

`run_training_loop` holds what all of them share: seeds, learning rates, the proximal term, early stopping. Where a
step's gradient comes from is the caller's: `train_model` takes it from shuffled batches, DP-SGD
(client/privacy/dp_sgd.py) from the clipped and noisy gradients of sampled units.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from client.training.batches import RowLoader, choose_device, iterate_outputs, make_row_loader
from client.training.losses import Loss, build_batch_loss
from client.uncompiled_torch import skip_compiler
from common import models
from common.arrays import Weights
from common.errors import NotFiniteError, SiteError
from common.models._layers import RandomLayer
from common.sections.training import TrainingConfig
from common.seeds import seed_for
from sites.cohort import Cohort


class TrainingStopped(SiteError):
    """Training was stopped between two steps; the model has the weights of the last step."""


@dataclass(frozen=True)
class Schedule:
    """The part of the whole run that one call trains; the cosine learning rate depends on it.

    Attributes:
        done: epochs that were trained before.
        total: epochs of the whole run.
    """

    done: int
    total: int


@dataclass(frozen=True)
class TrainingResult:
    """Result of one call of the training loop.

    Attributes:
        examples: the number of training examples that is reported to the server.
        steps: optimiser steps.
        loss: mean training loss of each epoch, without the proximal term; empty if training is private.
        validation: validation loss after each epoch; empty without early stopping.
        stopped_early: whether early stopping ended the training.
        rate_sum: the sum of the learning rates of the steps that led to the final weights.
    """

    examples: int
    steps: int
    loss: tuple[float, ...]
    validation: tuple[float, ...]
    stopped_early: bool
    rate_sum: float = 0.0


class StepGradients(Protocol):
    """Source of the gradient of each training step."""

    steps_per_epoch: int

    def start_epoch(self) -> None:
        """Prepare the steps of an epoch."""

    def compute(self, step: int) -> None:
        """Set `grad`, which is None on entry, of every trained parameter for one step of the epoch."""

    def finish_epoch(self) -> float | None:
        """Return the mean training loss of the epoch, or None if it must not be known."""


class BatchGradients:
    """Gradients of the mean loss of shuffled batches.

    Args:
        model: the network.
        load_rows: returns a batch.
        device: device of the rows.
        examples: number of rows.
        batch_size: rows of a batch; the last batch of an epoch may be smaller.
        mean_loss: mean loss of a batch.
        shuffling: generator of the rows' order.
        on_rows: called with the rows of each batch before its step; None: no call.
    """

    def __init__(
        self,
        model: nn.Module,
        load_rows: RowLoader,
        device: torch.device,
        *,
        examples: int,
        batch_size: int,
        mean_loss: Loss,
        shuffling: torch.Generator,
        on_rows: Callable[[Tensor], None] | None = None,
    ) -> None:
        self._model, self._load_rows, self._mean_loss = model, load_rows, mean_loss
        self._device, self._examples, self._batch_size, self._shuffling = device, examples, batch_size, shuffling
        self._order, self._loss_sum, self._on_rows = torch.zeros(0), torch.zeros(()), on_rows
        self.steps_per_epoch = math.ceil(examples / batch_size)

    def start_epoch(self) -> None:
        """Shuffle the rows."""
        self._order = torch.randperm(self._examples, generator=self._shuffling).to(self._device)
        self._loss_sum = torch.zeros((), device=self._device)

    def compute(self, step: int) -> None:
        """Set the gradient of one batch's mean loss."""
        rows = self._order[step * self._batch_size : (step + 1) * self._batch_size]
        if self._on_rows is not None:
            self._on_rows(rows)
        x, features, y = self._load_rows(rows)
        loss = self._mean_loss(self._model(x, features), x, features, y)
        loss.backward()  # type: ignore[no-untyped-call]
        self._loss_sum.add_(loss.detach(), alpha=len(rows))

    def finish_epoch(self) -> float:
        """Return the mean loss over the rows, each as its step saw it."""
        return float(self._loss_sum) / self._examples


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return AdamW or SGD for the trained parameters; weight decay spares biases and norms."""
    skip_compiler()
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, foreach=True)


def train_model(
    model: nn.Module,
    train: Cohort,
    config: TrainingConfig,
    seed: int,
    *,
    counts: Sequence[int],
    total: int | None = None,
    schedule: Schedule | None = None,
    validation: Cohort | None = None,
    stop: threading.Event | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    after_epoch: Callable[[int, nn.Module], None] | None = None,
    proximal: float = 0.0,
    anchor: Weights | None = None,
    correction: Weights | None = None,
    on_rows: Callable[[Tensor], None] | None = None,
    replaced: float = 0.0,
) -> TrainingResult:
    """Train `model` in place on `train`, without privacy.

    Args:
        model: logits or a reconstruction from `(batch, channels, samples)` and `(batch, features)`.
        train: at least one example.
        config: epochs, batch size, optimiser, loss, early stopping, frozen parameters.
        seed: of shuffling, dropout and augmentation; the same seed gives the same weights on one device.
        counts: class counts that weight the loss (of the whole federation).
        total: the number of examples behind `counts`; default: this site's.
        schedule: for the cosine learning rate; default: this call is the whole run.
        validation: patients for early stopping (`patience` > 0), which restores the best epoch's weights.
        stop: when set, the loop raises TrainingStopped between steps.
        on_epoch: called with each epoch and its mean loss.
        after_epoch: called with each epoch and the model.
        proximal: mu of mu/2 ||w - anchor||^2, whose gradient mu (w - anchor) is added to each step's (FedProx).
        anchor: arrays by name; default: the weights that the model has now.
        correction: arrays by name, added to each step's gradient after clipping (SCAFFOLD: c - c_i).
        on_rows: called with the rows of each batch before its step.
        replaced: probability with which each label of `train` was replaced by another one.

    Raises:
        SiteError: there is nothing to train on, or `stop` was set.
        NotFiniteError: the loss or a weight is not finite.
        ConfigError: there is no cuda device though cuda was asked for, or `freeze` fits no parameter or all of them.
    """
    device = choose_device(config.device)
    build = partial(build_batch_loss, train.task, config, counts, device, total or len(train.y))
    mean_loss, true_loss = build(replaced), build(0.0)
    validation_loss = None
    if config.patience and validation is not None and len(validation.y):
        validation_loss = partial(_mean_validation_loss, model, validation, true_loss, device)
    return run_training_loop(
        model,
        train,
        config,
        seed,
        partial(
            BatchGradients,
            examples=len(train.y),
            batch_size=config.batch_size,
            mean_loss=mean_loss,
            shuffling=torch.Generator().manual_seed(seed_for(seed, "shuffle")),
            on_rows=on_rows,
        ),
        schedule=schedule,
        stop=stop,
        proximal=proximal,
        anchor=anchor,
        clip_norm=config.clip_norm,
        correction=correction,
        validation_loss=validation_loss,
        on_epoch=on_epoch,
        after_epoch=after_epoch,
    )


def run_training_loop(
    model: nn.Module,
    train: Cohort,
    config: TrainingConfig,
    seed: int,
    make_gradients: Callable[[nn.Module, RowLoader, torch.device], StepGradients],
    *,
    schedule: Schedule | None = None,
    stop: threading.Event | None = None,
    proximal: float = 0.0,
    anchor: Weights | None = None,
    clip_norm: float | None = None,
    correction: Weights | None = None,
    validation_loss: Callable[[], float] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    after_epoch: Callable[[int, nn.Module], None] | None = None,
) -> TrainingResult:
    """Train `model` in place with the gradients that `make_gradients` gives.

    Args:
        model, train, config, schedule, stop, proximal, anchor, correction, on_epoch, after_epoch: as `train_model`.
        seed: of dropout and augmentation.
        make_gradients: called once, when the model's frozen parameters are frozen.
        clip_norm: largest norm of a step's gradient, with the proximal term; default: no limit.
        validation_loss: for early stopping (`config.patience`), called after each epoch; default: none.

    Raises:
        SiteError, ConfigError: as `train_model`.
    """
    if len(train.y) == 0:
        raise SiteError("no training examples at this site")
    schedule = schedule or Schedule(0, config.epochs)
    device = choose_device(config.device)
    model.to(device).train()
    models.freeze_parameters(model, config.freeze)
    augmentation = torch.Generator().manual_seed(seed_for(seed, "augment"))
    dropout = torch.Generator().manual_seed(seed_for(seed, "dropout"))
    for module in model.modules():
        if isinstance(module, RandomLayer):
            module.generator = dropout
    gradients = make_gradients(model, make_row_loader(train, device, config.augment, augmentation), device)
    optimizer = make_optimizer(model, config)
    weights = list(model.parameters())  # walking the modules anew costs a step 3% of its time
    anchors = pair_by_name(model, anchor, device) if proximal else []
    corrections = pair_by_name(model, correction, device) if correction is not None else []
    losses: list[float] = []
    checks: list[float] = []
    best: tuple[float, dict[str, Tensor], float] | None = None
    steps, stopped_early, rate_sum = 0, False, 0.0
    for epoch in range(config.epochs):
        gradients.start_epoch()
        for step in range(gradients.steps_per_epoch):
            if stop is not None and stop.is_set():
                raise TrainingStopped("stopped before the end")
            if config.schedule == "cosine":
                epochs_done = schedule.done + epoch + step / gradients.steps_per_epoch
                rate = compute_cosine_rate(config.lr, epochs_done / max(schedule.total, 1))
                for group in optimizer.param_groups:
                    group["lr"] = rate
            for weight in weights:
                weight.grad = None
            gradients.compute(step)
            for parameter, origin in anchors:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach() - origin, alpha=proximal)
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(weights, clip_norm, foreach=True)
            for parameter, added in corrections:
                if parameter.grad is not None:
                    parameter.grad.add_(added)
            optimizer.step()
            rate_sum += float(optimizer.param_groups[0]["lr"])
            steps += 1
        mean = gradients.finish_epoch()
        finite = (mean is None or math.isfinite(mean)) and all(bool(weight.isfinite().all()) for weight in weights)
        if not finite:
            raise NotFiniteError("the training loss or a weight is not a finite number: lower training.lr")
        if mean is not None:
            losses.append(mean)
            if on_epoch:
                on_epoch(epoch, mean)
        if after_epoch:
            after_epoch(epoch, model)
            model.train()
        if validation_loss is not None:
            checks.append(validation_loss())
            model.train()
            if best is None or checks[-1] < best[0]:
                state = {key: value.detach().clone() for key, value in model.state_dict().items()}
                best = checks[-1], state, rate_sum
            elif len(checks) - 1 - int(np.argmin(checks)) >= config.patience:
                stopped_early = True
                break
    if best is not None:
        model.load_state_dict(best[1])
        rate_sum = best[2]
    for weight in weights:
        weight.grad = None
    return TrainingResult(len(train.y), steps, tuple(losses), tuple(checks), stopped_early, rate_sum)


def compute_cosine_rate(lr: float, done: float) -> float:
    """Return the learning rate when a share `done` of the run is over: it falls to 1% of `lr`.

    Half a cosine, without restarts (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5).

    >>> [round(compute_cosine_rate(1.0, done), 3) for done in (0.0, 0.5, 1.0)]
    [1.0, 0.505, 0.01]
    """
    return lr * (0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def pair_by_name(model: nn.Module, arrays: Weights | None, device: torch.device) -> list[tuple[nn.Parameter, Tensor]]:
    """Pair each parameter with the array of its name (default: a copy of its current value)."""
    if arrays is None:
        return [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    return [(parameter, torch.tensor(arrays[name], device=device)) for name, parameter in model.named_parameters()]


def _mean_validation_loss(model: nn.Module, cohort: Cohort, mean_loss: Loss, device: torch.device) -> float:
    with torch.inference_mode():
        summed = sum(float(mean_loss(*batch)) * len(batch[-1]) for batch in iterate_outputs(model, cohort, device))
    return summed / len(cohort.y)
