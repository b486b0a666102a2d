"""Canaries in a hospital's training data, the model that separates their gradients, and the attacker."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.privacy.budget import DpSgdPlan
from sites.cohort import Cohort


class ProbedModel(nn.Module):
    """A model with an additional layer that only canaries change; patients' outputs and gradients stay the same.

    The last feature is 0 for patients and the number of a canary otherwise. A canary's outputs are 0 for any weights of
    the layer, so that its gradient keeps its length.
    """

    def __init__(self, inner: nn.Module, canaries: int, classes: int, length: float) -> None:
        super().__init__()
        self.inner, self.length = inner, length
        self.probe = nn.Linear(canaries, classes, bias=False)
        nn.init.zeros_(self.probe.weight)
        self.numbers: Tensor
        self.register_buffer("numbers", torch.arange(1.0, canaries + 1), persistent=False)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Return logits of `(batch, channels, samples)` and `(batch, features + 1)`."""
        number = features[:, -1:]
        mark: Tensor = self.probe((number == self.numbers).to(x.dtype) * self.length)
        patients: Tensor = self.inner(x, features[:, :-1]) * (number == 0)
        return patients + mark - mark.detach()


def add_canaries(train: Cohort, included: npt.NDArray[np.bool_], level: str) -> Cohort:
    """Return the patients with a last feature of 0, and the included canaries with their numbers as last feature."""
    recordings, each = (2, 2) if level == "patient" else (1, 1)
    numbers = np.flatnonzero(included) + 1
    rows = np.repeat(numbers, recordings * each)
    base = train.take(np.concatenate([np.arange(len(train.y)), np.zeros(len(rows), np.int64)]))
    owner = len(train.patients) + np.arange(len(rows)) // each
    names = [f"canary {number}" for number in numbers for _ in range(recordings)]
    ids = np.concatenate([np.zeros(len(train.y)), rows]).astype(np.float32)
    y = base.y.copy()
    y[len(train.y) :] = 0
    none = np.full(len(names), np.nan, np.float32)
    return replace(
        base,
        task=replace(train.task, features=(*train.task.features, "canary")),
        features=np.column_stack([base.features, ids]),
        y=y,
        patient=np.concatenate([train.patient, owner]),
        patients=(*train.patients, *(f"{name}, {i % recordings}" for i, name in enumerate(names))),
        persons=(*train.persons, *names),
        age=None if train.age is None else np.concatenate([train.age, none]),
        sex=None if train.sex is None else np.concatenate([train.sex, np.full(len(names), -1, train.sex.dtype)]),
    )


class Attacker:
    """Observes each step's noisy gradient and collects the evidence about each canary.

    Attributes:
        llr: `(canaries,)`, log likelihood ratio of the canary being included, if training is as planned.
        total: `(canaries,)`, sum of the steps' gradients along the canary's direction, in clipping norms.
        squares: `(canaries,)`, sum of their squares.
        steps: number of observed steps.
    """

    def __init__(self, probe: nn.Linear, plan: DpSgdPlan, units: int, multilabel: bool) -> None:
        canaries, classes = probe.in_features, probe.out_features
        slope = np.full(classes, 0.5 if multilabel else 1 / classes)  # of the loss at outputs of 0 and label 0
        if not multilabel:
            slope[0] -= 1
        self._direction = slope / np.linalg.norm(slope)
        self._probe, self._plan, self._units = probe, plan, units
        self.llr, self.total, self.squares = np.zeros(canaries), np.zeros(canaries), np.zeros(canaries)
        self.steps = 0

    def observe(self) -> None:
        """Add the gradient that is about to be applied."""
        assert self._probe.weight.grad is not None
        gradient = self._probe.weight.grad.detach().double().cpu().numpy()
        observed = self._direction @ gradient * (self._plan.q * self._units / self._plan.clip)
        self.total += observed
        self.squares += observed**2
        self.llr += np.logaddexp(
            math.log1p(-self._plan.q) if self._plan.q < 1 else -math.inf,
            math.log(self._plan.q) + (2 * observed - 1) / (2 * self._plan.sigma**2),
        )
        self.steps += 1


@contextmanager
def call_before_each_step(observe: Callable[[], None], layer: nn.Module) -> Iterator[None]:
    """Call a function before each step of any optimiser that has parameters of a layer."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if any(
            item is one for group in optimizer.param_groups for item in group["params"] for one in layer.parameters()
        ):
            observe()

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
