"""Training of several sites' small models in one step: their weights are rows of a matrix, their products batched.

A site's rows, shuffling, dropout and optimiser are those of `client.training.loop.train_model`; only the order in which
products are summed differs, so after a step the weights agree with its own to about seven digits. AdamW turns a
gradient of nearly zero into a whole step, so that single weights may differ more after several. Sites of unequal size
are padded with rows of weight 0, and one with fewer steps ends earlier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from client.training.batches import choose_device
from client.training.loop import TrainingResult, TrainingStopped, compute_cosine_rate
from client.training.losses import compute_class_weights
from client.training.training_call import TrainingCall
from common.errors import NotFiniteError
from common.models._layers import Dropout
from common.models.logreg import LogisticRegression
from common.models.mlp import MLP
from common.seeds import seed_for
from sites.cohort import Windows

MAX_WEIGHTS = 50_000
"""Weights of the largest model that is trained so; larger ones fill a core's time by themselves."""
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""AdamW's defaults in torch, which `make_optimizer` uses."""


def is_stackable(call: TrainingCall) -> bool:
    """Return whether a site's training can be a part of a stacked step; else it trains alone."""
    config, task = call.config, call.train.task
    return (
        type(call.model) in (LogisticRegression, MLP)
        and sum(parameter.numel() for parameter in call.model.parameters()) <= MAX_WEIGHTS
        and task.kind == "multiclass"
        and not task.anomaly
        and config.loss in ("cross_entropy", "weighted")
        and not (config.freeze or config.augment or config.patience or call.replaced)
        and call.anchor is None
        and call.correction is None
        and not isinstance(call.train.x, Windows)
        and len(call.train.y) > 0
        and choose_device(config.device).type == "cpu"
    )


def train_stacked(calls: Sequence[TrainingCall]) -> list[TrainingResult | Exception]:
    """Train each site's model in place; return each one's result, or why it has none.

    The calls are of one round: they have the same settings, and models of one shape that may start from different
    weights. Sites whose batches differ in size by more than a factor of two are not padded to one size.

    Args:
        calls: those for which `is_stackable` is true.
    """
    results: dict[int, TrainingResult | Exception] = {}

    def sort_key(number: int) -> tuple[int, int]:
        rows, size = len(calls[number].train.y), calls[number].config.batch_size
        return min(rows, size).bit_length(), -math.ceil(rows / size)

    order = sorted(range(len(calls)), key=sort_key)  # of those of one size, the ones with most steps come first
    for _, numbers in groupby(order, key=lambda number: sort_key(number)[0]):
        chosen = list(numbers)
        trained = _Stack([calls[number] for number in chosen]).train()
        results |= dict(zip(chosen, trained, strict=True))
    return [results[number] for number in range(len(calls))]


@dataclass
class _Rows:
    """The rows of all sites, padded to the longest: `(sites, rows, inputs)` and `(sites, rows)`."""

    inputs: Tensor
    labels: Tensor
    counts: np.ndarray


class _Stack:
    """The weights of several sites as `(sites, weights)`; sites are sorted by falling number of steps."""

    def __init__(self, calls: Sequence[TrainingCall]) -> None:
        self._calls, self._config = calls, calls[0].config
        self._layers = _list_layers(calls[0].model)
        parameters = list(calls[0].model.parameters())
        self._shapes = [tuple(parameter.shape) for parameter in parameters]
        self._sizes = [parameter.numel() for parameter in parameters]
        self._flat = torch.stack([nn.utils.parameters_to_vector(call.model.parameters()).detach() for call in calls])
        decays = [float(len(shape) > 1) * self._config.weight_decay for shape in self._shapes]
        self._decay = torch.cat([torch.full((size,), value) for size, value in zip(self._sizes, decays, strict=True)])
        self._rows = _pad_rows(calls)
        self._steps = [math.ceil(len(call.train.y) / self._config.batch_size) for call in calls]
        self._taken = torch.zeros(len(calls), 1, dtype=torch.float64)
        self._moments = torch.zeros_like(self._flat), torch.zeros_like(self._flat)
        plain = self._config.loss == "cross_entropy"
        weights = None if plain else compute_class_weights(calls[0].counts, self._config.weight_power)
        self._class_weights = weights
        self._shuffling = [_make_generator(call.seed, "shuffle") for call in calls]
        self._dropping = [_make_generator(call.seed, "dropout") for call in calls]

    def train(self) -> list[TrainingResult | Exception]:
        """Train all epochs, write the weights into the models, and return the results."""
        start = self._flat.clone()
        count, config = len(self._calls), self._config
        rate_sums, finite = np.zeros(count), torch.ones(count, dtype=torch.bool)
        losses: list[Tensor] = []
        for epoch in range(config.epochs):
            order = torch.zeros(count, int(self._rows.counts.max()), dtype=torch.int64)
            for site, (rows, shuffling) in enumerate(zip(self._rows.counts.tolist(), self._shuffling, strict=True)):
                order[site, :rows] = torch.randperm(rows, generator=shuffling)
            loss_sum = torch.zeros(count)
            for step in range(self._steps[0]):
                stop = self._calls[0].stop
                if stop is not None and stop.is_set():
                    return [TrainingStopped("stopped before the end") for _ in self._calls]
                active = sum(step < steps for steps in self._steps)
                rates = self._find_rates(epoch, step, active)
                loss_sum[:active] += self._take_step(order, step, rates, start)
                rate_sums[:active] += rates
            losses.append(loss_sum / torch.from_numpy(self._rows.counts))
            finite &= losses[-1].isfinite() & self._flat.isfinite().all(dim=1)
        means = torch.stack(losses, dim=1).tolist()
        results: list[TrainingResult | Exception] = []
        for site, call in enumerate(self._calls):
            if not finite[site]:
                results.append(
                    NotFiniteError("the training loss or a weight is not a finite number: lower training.lr")
                )
                continue
            with torch.no_grad():
                for parameter, values in zip(
                    call.model.parameters(), torch.split(self._flat[site], self._sizes), strict=True
                ):
                    parameter.copy_(values.view(parameter.shape))
                    parameter.grad = None
            steps = self._steps[site] * config.epochs
            results.append(TrainingResult(len(call.train.y), steps, tuple(means[site]), (), False, rate_sums[site]))
        return results

    def _find_rates(self, epoch: int, step: int, active: int) -> np.ndarray:
        """Return each site's learning rate at a step."""
        config, schedule = self._config, self._calls[0].schedule
        if config.schedule != "cosine" or schedule is None:
            return np.full(active, config.lr)
        done = [(schedule.done + epoch + step / steps) / max(schedule.total, 1) for steps in self._steps[:active]]
        return np.array([compute_cosine_rate(config.lr, share) for share in done])

    def _take_step(self, order: Tensor, step: int, rates: np.ndarray, start: Tensor) -> Tensor:
        """Take one step of the first sites, as many as there are rates; return each one's summed loss of its batch."""
        active, size, calls = len(rates), self._config.batch_size, self._calls
        counts = np.minimum(self._rows.counts[:active] - step * size, size)
        longest = int(counts.max())
        chosen = order[:active, step * size : step * size + longest]
        sites = torch.arange(active)[:, None]
        labels = self._rows.labels[sites, chosen]
        given = torch.arange(longest)[None, :] < torch.from_numpy(counts)[:, None]
        flat = self._flat[:active].detach().requires_grad_()
        each = self._compute_losses(flat, self._rows.inputs[sites, chosen], labels, counts)
        sums = torch.where(given, each, 0.0).sum(dim=1)
        (sums / torch.from_numpy(counts)).sum().backward()  # type: ignore[no-untyped-call]
        gradient = flat.grad
        assert gradient is not None
        with torch.no_grad():
            if calls[0].proximal:
                gradient.add_(self._flat[:active] - start[:active], alpha=calls[0].proximal)
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient *= (self._config.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            self._update(gradient, torch.from_numpy(rates)[:, None].float())
        return sums.detach()

    def _compute_losses(self, flat: Tensor, x: Tensor, labels: Tensor, counts: np.ndarray) -> Tensor:
        """Return the loss of each row, `(sites, rows)`."""
        parts = iter(
            part.view(-1, *shape)
            for part, shape in zip(torch.split(flat, self._sizes, dim=1), self._shapes, strict=True)
        )
        for layer in self._layers:
            if isinstance(layer, nn.Linear):
                weight, bias = next(parts), next(parts)
                x = torch.baddbmm(bias[:, None, :], x, weight.transpose(1, 2))
            elif isinstance(layer, nn.LayerNorm):
                scale, shift = next(parts), next(parts)
                x = functional.layer_norm(x, layer.normalized_shape, eps=layer.eps) * scale[:, None] + shift[:, None]
            elif isinstance(layer, Dropout):
                x = x * self._draw_dropout(layer.rate, x.shape, counts) if layer.rate else x
            else:
                x = torch.relu(x)
        each = functional.cross_entropy(x.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
        return each if self._class_weights is None else each * self._class_weights[labels]

    def _draw_dropout(self, rate: float, shape: torch.Size, counts: np.ndarray) -> Tensor:
        """Return what dropout multiplies by: each site draws for its own rows, as it would alone."""
        mask = torch.zeros(shape)
        for site, rows in enumerate(counts.tolist()):
            mask[site, :rows] = torch.rand(rows, shape[2], generator=self._dropping[site]) >= rate
        return mask / (1 - rate)

    def _update(self, gradient: Tensor, rates: Tensor) -> None:
        """Change the weights of the first sites by their gradients, as torch's AdamW or SGD would."""
        active, config = len(gradient), self._config
        flat, first, second = (each[:active] for each in (self._flat, *self._moments))
        if config.optimizer == "sgd":
            gradient.addcmul_(flat, self._decay.expand_as(flat))
            first.mul_(config.momentum).add_(gradient)
            flat.sub_(rates * first)
            return
        self._taken[:active] += 1
        taken = self._taken[:active]
        flat.mul_(1 - rates * self._decay)
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        size = (rates / (1 - BETAS[0] ** taken)).float()
        root = second.sqrt().div_((1 - BETAS[1] ** taken).sqrt().float()).add_(EPSILON)
        flat.sub_(size * first / root)


def _list_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model after its inputs are flattened, in order."""
    assert isinstance(model, LogisticRegression | MLP)
    return [*(model.body if isinstance(model, MLP) else ()), model.out]


def _pad_rows(calls: Sequence[TrainingCall]) -> _Rows:
    """Return the training rows of all sites, padded with zeros."""
    counts = np.array([len(call.train.y) for call in calls])
    parts = []
    for call in calls:
        assert isinstance(call.model, LogisticRegression | MLP)
        signals, features = torch.from_numpy(np.asarray(call.train.x)), torch.from_numpy(call.train.features)
        parts.append(call.model.flatten(signals, features))
    inputs = torch.zeros(len(calls), int(counts.max()), parts[0].shape[1])
    labels = torch.zeros(len(calls), int(counts.max()), dtype=torch.int64)
    for site, (part, call) in enumerate(zip(parts, calls, strict=True)):
        inputs[site, : len(part)] = part
        labels[site, : len(part)] = torch.from_numpy(call.train.y)
    return _Rows(inputs, labels, counts)


def _make_generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(seed, purpose))
