"""fit() and predict(): the only training loop, of federated, pooled and single-hospital training alike.

Batches are rows of a tensor, taken by index: no loader, no per-sample collation.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client.training.batches import augment_signals, choose_device, iterate_outputs, load_tensors
from client.training.losses import Loss, build_example_loss, build_mean_loss
from common import models
from common.errors import SiteError
from common.models._layers import RandomLayer
from common.sections.training import TrainingConfig
from common.seeds import seed_for
from sites.cohort import Cohort


class TrainingStopped(SiteError):
    """Training was asked to stop; what was done so far is lost to this call alone."""


@dataclass(frozen=True)
class Schedule:
    """Where in the whole run this call to fit() stands: epochs done before, and epochs in all."""

    done: int
    total: int


@dataclass(frozen=True)
class TrainingResult:
    """What fit() did.

    `loss`: mean training loss of each epoch, without a proximal term; `validation`: loss after each, or none;
    `rates`: the sum of the learning rates of the steps that led to the weights.
    """

    examples: int
    steps: int
    loss: tuple[float, ...]
    validation: tuple[float, ...]
    stopped_early: bool
    rates: float = 0.0


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return AdamW or SGD of what trains; weight decay spares biases and norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1]
    spared = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
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
    anchor: Mapping[str, Any] | None = None,
    correction: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Train `model` in place on `train`.

    Args:
        model: logits, or what it reconstructs, from `(batch, channels, samples)` and `(batch, features)`.
        train: at least one example.
        config: epochs, batch size, optimiser, loss, early stopping, and which parameters rest (`freeze`).
        seed: of shuffling, dropout and augmentation; the same seed gives the same weights on one device.
        counts: class counts that weight the loss (merged over the federation).
        total: the number of examples behind `counts`; none: this site's.
        schedule: for the cosine learning rate; none: this call is the whole run.
        validation: patients for early stopping (`patience` > 0): the best epoch's weights are kept.
        stop: when set, the loop raises Stopped between steps.
        on_epoch: called with the epoch and its mean loss.
        after_epoch: called with the epoch and the model.
        proximal: mu of mu/2 ||w - anchor||^2, whose gradient mu (w - anchor) is added to each step's (FedProx).
        anchor: arrays by name; none: the weights that the model has now.
        correction: arrays by name, added to each step's gradient after clipping (SCAFFOLD: c - c_i).

    Raises:
        SiteError: there is nothing to train on, the loss or a weight is not finite, or `stop` was set.
        ConfigError: cuda was asked for and there is none, or `freeze` fits no parameter, or all.
    """
    if len(train.y) == 0:
        raise SiteError("no training examples at this site")
    schedule = schedule or Schedule(0, config.epochs)
    device = choose_device(config.device)
    model.to(device).train()
    models.freeze_parameters(model, config.freeze)
    cut, features, y = load_tensors(train, device)
    generator = torch.Generator().manual_seed(seed_for(seed, "shuffle"))
    noise = torch.Generator().manual_seed(seed_for(seed, "augment"))
    drop = torch.Generator().manual_seed(seed_for(seed, "dropout"))
    for module in model.modules():
        if isinstance(module, RandomLayer):
            module.generator = drop
    optimizer = make_optimizer(model, config)
    weights = list(model.parameters())  # walking the modules anew costs a step 3% of its time
    if train.task.anomaly:
        each = build_example_loss(train.task)
        loss_of: Loss = lambda *held: each(*held).mean()  # noqa: E731
    else:
        many = train.task.kind == "multilabel"
        loss_of = build_mean_loss(config, counts, device, (total or len(train.y)) if many else None)
    homes = pair_by_name(model, anchor, device) if proximal else []
    drifts = pair_by_name(model, correction, device) if correction is not None else []
    size, n = config.batch_size, len(y)
    per_epoch = math.ceil(n / size)
    losses: list[float] = []
    checks: list[float] = []
    best: tuple[float, dict[str, Tensor], float] | None = None
    steps, stopped, rates = 0, False, 0.0
    for epoch in range(config.epochs):
        order = torch.randperm(n, generator=generator).to(device)
        summed = torch.zeros((), device=device)
        for batch, start in enumerate(range(0, n, size)):
            if stop is not None and stop.is_set():
                raise TrainingStopped("stopped before the end")
            if config.schedule == "cosine":
                share = (schedule.done + epoch + batch / per_epoch) / max(schedule.total, 1)
                rate = config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * min(share, 1.0))) / 2)
                for group in optimizer.param_groups:
                    group["lr"] = rate
            rows = order[start : start + size]
            inputs = cut(rows)
            if config.augment:
                inputs = augment_signals(inputs, config.augment, noise)
            for weight in weights:
                weight.grad = None
            beside_them = features[rows]
            loss = loss_of(model(inputs, beside_them), inputs, beside_them, y[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter, home in homes:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach() - home, alpha=proximal)
            nn.utils.clip_grad_norm_(weights, config.clip_norm, foreach=True)
            for parameter, drift in drifts:
                if parameter.grad is not None:
                    parameter.grad.add_(drift)
            optimizer.step()
            rates += float(optimizer.param_groups[0]["lr"])
            summed.add_(loss.detach(), alpha=len(rows))
            steps += 1
        mean = float(summed) / n
        if not math.isfinite(mean) or not all(bool(p.isfinite().all()) for p in weights):
            raise SiteError("the training loss or a weight is not a finite number: lower training.lr")
        losses.append(mean)
        if on_epoch:
            on_epoch(epoch, mean)
        if after_epoch:
            after_epoch(epoch, model)
            model.train()
        if config.patience and validation is not None and len(validation.y):
            checks.append(_mean_loss(model, validation, loss_of, device))
            model.train()
            if best is None or checks[-1] < best[0]:
                best = checks[-1], {key: value.detach().clone() for key, value in model.state_dict().items()}, rates
            elif len(checks) - 1 - int(np.argmin(checks)) >= config.patience:
                stopped = True
                break
    if best is not None:
        model.load_state_dict(best[1])
        rates = best[2]
    return TrainingResult(n, steps, tuple(losses), tuple(checks), stopped, rates)


def pair_by_name(
    model: nn.Module, arrays: Mapping[str, Any] | None, device: torch.device
) -> list[tuple[nn.Parameter, Tensor]]:
    """Return each parameter with the array of its name, or with a copy of itself as it is now."""
    if arrays is None:
        return [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    return [(parameter, torch.tensor(arrays[name], device=device)) for name, parameter in model.named_parameters()]


def _mean_loss(model: nn.Module, cohort: Cohort, loss_of: Loss, device: torch.device) -> float:
    with torch.inference_mode():
        summed = sum(float(loss_of(*held)) * len(held[-1]) for held in iterate_outputs(model, cohort, device))
    return summed / len(cohort.y)
