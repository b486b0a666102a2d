"""fit() and predict(): the only training loop, of federated, pooled and single-hospital training alike.

Batches are rows of a tensor, taken by index: no loader, no per-sample collation.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from client.gradients import Loss, each_loss
from common import models
from common.config import TrainingConfig
from common.errors import ConfigError, SiteError
from common.models._layers import Drawing
from common.seeds import seed_for
from sites.cohort import Cohort, Windows


class Stopped(SiteError):
    """Training was asked to stop; what was done so far is lost to this call alone."""


@dataclass(frozen=True)
class Schedule:
    """Where in the whole run this call to fit() stands: epochs done before, and epochs in all."""

    done: int
    total: int


@dataclass(frozen=True)
class FitResult:
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


def choose_device(wanted: str) -> torch.device:
    """Return the device for cpu, cuda or auto.

    Raises:
        ConfigError: cuda was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device=cuda: no CUDA device here; use auto or cpu")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")


def class_weights(counts: Sequence[int], power: float) -> Tensor:
    """Return weights share**-power, scaled so that their mean over the examples is 1; absent classes get 0.

    >>> [round(weight, 3) for weight in class_weights([90, 10], 0.5).tolist()]
    [0.833, 2.5]
    """
    total = np.asarray(counts, dtype=np.float64)
    share = total / max(total.sum(), 1)
    weight = np.where(share > 0, np.maximum(share, 1e-12) ** -power, 0.0)
    return torch.tensor(weight / max(float((weight * share).sum()), 1e-12), dtype=torch.float32)


def label_weights(counts: Sequence[int], total: int, power: float) -> Tensor:
    """Return the weight of each label's presence, (examples without it / examples with it)**power; absent: 1.

    >>> label_weights([10, 0], 100, 0.5).tolist()
    [3.0, 1.0]
    """
    have = np.asarray(counts, dtype=np.float64)
    odds = np.where(have > 0, (total - have) / np.maximum(have, 1), 1.0)
    return torch.tensor(np.maximum(odds, 1e-12) ** power, dtype=torch.float32)


def loss_function(
    config: TrainingConfig, counts: Sequence[int], device: torch.device, total: int | None = None
) -> Loss:
    """Return the mean loss of (logits, signals, features, labels); `counts`: the federation's merged class counts.

    Labels `(batch, classes)` of 0 and 1 are each on its own (binary cross-entropy, summed over the classes), with
    `total` the federation's number of examples. Focal loss: Lin et al. 2017, eq. 5, with the same class weights
    as alpha.
    """
    plain = config.loss == "cross_entropy"
    gamma = config.focal_gamma if config.loss == "focal" else 0.0
    if total is not None:
        present = None if plain else label_weights(counts, total, config.weight_power).to(device)

        def labels_loss(logits: Tensor, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
            truth = labels.to(logits.dtype)
            each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=present)
            if gamma:
                p = torch.sigmoid(logits)
                each = each * (truth * (1 - p) + (1 - truth) * p) ** gamma
            return each.sum(1).mean()

        return labels_loss
    weight = None if plain else class_weights(counts, config.weight_power).to(device)
    if config.loss == "focal":

        def focal(logits: Tensor, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
            log_p = functional.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)
            assert weight is not None
            return -(weight[labels] * (1 - log_p.exp()) ** gamma * log_p).mean()

        return focal

    def weighted(logits: Tensor, x: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        each = functional.cross_entropy(logits, labels, reduction="none")
        return (each if weight is None else each * weight[labels]).mean()

    return weighted


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


def fit(
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
) -> FitResult:
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
    models.frozen(model, config.freeze)
    cut, features, y = tensors(train, device)
    generator = torch.Generator().manual_seed(seed_for(seed, "shuffle"))
    noise = torch.Generator().manual_seed(seed_for(seed, "augment"))
    drop = torch.Generator().manual_seed(seed_for(seed, "dropout"))
    for module in model.modules():
        if isinstance(module, Drawing):
            module.generator = drop
    optimizer = make_optimizer(model, config)
    weights = list(model.parameters())  # walking the modules anew costs a step 3% of its time
    if train.task.anomaly:
        each = each_loss(train.task)
        loss_of: Loss = lambda *held: each(*held).mean()  # noqa: E731
    else:
        many = train.task.kind == "multilabel"
        loss_of = loss_function(config, counts, device, (total or len(train.y)) if many else None)
    homes = beside(model, anchor, device) if proximal else []
    drifts = beside(model, correction, device) if correction is not None else []
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
                raise Stopped("stopped before the end")
            if config.schedule == "cosine":
                share = (schedule.done + epoch + batch / per_epoch) / max(schedule.total, 1)
                rate = config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * min(share, 1.0))) / 2)
                for group in optimizer.param_groups:
                    group["lr"] = rate
            rows = order[start : start + size]
            inputs = cut(rows)
            if config.augment:
                inputs = augmented(inputs, config.augment, noise)
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
    return FitResult(n, steps, tuple(losses), tuple(checks), stopped, rates)


def beside(
    model: nn.Module, arrays: Mapping[str, Any] | None, device: torch.device
) -> list[tuple[nn.Parameter, Tensor]]:
    """Return each parameter with the array of its name, or with a copy of itself as it is now."""
    if arrays is None:
        return [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    return [(parameter, torch.tensor(arrays[name], device=device)) for name, parameter in model.named_parameters()]


def predict(model: nn.Module, cohort: Cohort, device: torch.device, batch: int = 2048) -> npt.NDArray[np.float32]:
    """Return logits `(examples, classes)`."""
    parts = [found.float().cpu().numpy() for found, *_ in outputs(model, cohort, device, batch)]
    return np.concatenate(parts) if parts else np.zeros((0, len(cohort.task.classes)), np.float32)


def outputs(
    model: nn.Module, cohort: Cohort, device: torch.device, batch: int = 2048
) -> Iterator[tuple[Any, Tensor, Tensor, Tensor]]:
    """Yield what a model makes of a batch, with the batch's signals, features and labels, in the order of the rows."""
    model.to(device).eval()
    for start in range(0, len(cohort.y), batch):
        rows = slice(start, start + batch)
        signal = cohort.x[rows]
        x = torch.from_numpy(signal.dense() if isinstance(signal, Windows) else signal).to(device)
        features, y = (torch.from_numpy(part[rows]).to(device) for part in (cohort.features, cohort.y))
        with torch.inference_mode():
            found = model(x, features)
        yield found, x, features, y


def _mean_loss(model: nn.Module, cohort: Cohort, loss_of: Loss, device: torch.device) -> float:
    with torch.inference_mode():
        summed = sum(float(loss_of(*held)) * len(held[-1]) for held in outputs(model, cohort, device))
    return summed / len(cohort.y)


def tensors(cohort: Cohort, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """Return what cuts a batch of signals by index, the features, the labels."""
    features, y = torch.from_numpy(cohort.features).to(device), torch.from_numpy(cohort.y).to(device)
    if not isinstance(cohort.x, Windows):
        x = torch.from_numpy(cohort.x).to(device)
        return lambda rows: x[rows], features, y
    table, pad = torch.from_numpy(cohort.x.rows).to(device), torch.from_numpy(cohort.x.padding).to(device)
    end, first = torch.from_numpy(cohort.x.end).to(device), torch.from_numpy(cohort.x.first).to(device)
    steps = torch.arange(1 - cohort.x.samples, 1, device=device)

    def cut(rows: Tensor) -> Tensor:
        index = end[rows][:, None] + steps
        found = table[index.clamp(min=0)]
        before = index < first[rows][:, None]
        return torch.where(before[:, :, None], pad, found).transpose(1, 2).contiguous()

    return cut, features, y


def augmented(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Scale channels (up to 20 %), shift in time (up to 4 samples), add noise (up to 0.05), by strength."""
    batch, channels, samples = x.shape
    scale = 1 + 0.2 * strength * (2 * torch.rand(batch, channels, 1, generator=generator) - 1)
    shift = torch.randint(-4, 5, (batch, 1), generator=generator) * strength
    index = (torch.arange(samples) + shift.round().long()).clamp(0, samples - 1)
    noise = 0.05 * strength * torch.rand(batch, 1, 1, generator=generator)
    noise = noise * torch.randn(x.shape, generator=generator)
    moved = x.gather(2, index.to(x.device)[:, None, :].expand(-1, channels, -1))
    return moved * scale.to(x.device) + noise.to(x.device)
