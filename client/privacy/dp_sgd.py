"""Private training: DP-SGD (Abadi et al. 2016, arXiv:1607.00133) as gradients for the one training loop."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client.privacy.budget import DpSgdPlan
from client.privacy.unit_gradients import UnitClipper, UnitGradients, UnitRows
from client.privacy.units import group_rows_by_unit
from client.training.batches import RowLoader
from client.training.loop import Schedule, TrainingResult, run_training_loop
from client.training.losses import Loss, build_example_loss
from common import noise
from common.arrays import Weights
from common.sections.training import TrainingConfig
from common.seeds import seed_for
from sites.cohort import Cohort


def train_privately(
    model: nn.Module,
    train: Cohort,
    config: TrainingConfig,
    plan: DpSgdPlan,
    seed: int,
    *,
    schedule: Schedule | None = None,
    stop: threading.Event | None = None,
    proximal: float = 0.0,
    anchor: Weights | None = None,
    source: noise.RandomSource | None = None,
    replaced: float = 0.0,
    gradients: Callable[[nn.Module, Loss], UnitClipper] = UnitGradients,
) -> TrainingResult:
    """Train `model` in place on `train` by DP-SGD, with any optimiser on the noisy gradients.

    Nothing that depends on the data leaves but the weights: the result holds no loss, and the planned number of units.

    Args:
        model, train, config, schedule, stop, proximal, anchor: as client.training.loop.train_model.
        plan: the steps that were charged, as many in each epoch.
        seed: used in tests only; where the noise is private, every draw has a secret seed.
        source: of noise and sampling; default: as the plan says.
        replaced: probability with which each label of `train` was replaced by another one.
        gradients: builds, from a model and its loss, what clips and sums the units' gradients.

    Raises:
        SiteError: there is nothing to train on, a weight is not finite, or `stop` was set.
        ValueError: the plan's steps are not whole epochs.
    """
    if source is None:
        source = noise.SecureSource() if plan.private else noise.SeededSource(seed_for(seed, "private"))

    def make_gradients(model: nn.Module, load_rows: RowLoader, device: torch.device) -> NoisyGradients:
        clipper = gradients(model, build_example_loss(train.task, replaced))
        units = group_rows_by_unit(train, plan.level)
        return NoisyGradients(clipper, load_rows, device, units=units, plan=plan, source=source, epochs=config.epochs)

    # a known dropout mask would reveal how many units were drawn before it: its seed is as secret as the noise
    hidden = secrets.randbits(31) if source.private else seed
    result = run_training_loop(
        model, train, config, hidden, make_gradients, schedule=schedule, stop=stop, proximal=proximal, anchor=anchor
    )
    return replace(result, examples=plan.units or result.examples)


class NoisyGradients:
    """Gradients of Poisson-sampled units, clipped one by one, summed, and noised.

    A step's gradient is (sum of clipped gradients of the drawn units + noise) / (q * number of units). A step that
    draws nobody consists of noise alone, and is charged like any other.

    Args:
        clipper: clips and sums the units' gradients.
        load_rows: returns rows of the training data.
        device: where the parameters are.
        units: the rows of each unit.
        plan: sampling rate, clipping norm, noise and steps.
        source: random source of noise and sampling.
        epochs: number of epochs, over which the steps are spread evenly.

    Raises:
        ValueError: the plan's steps are not whole epochs.
    """

    def __init__(
        self,
        clipper: UnitClipper,
        load_rows: RowLoader,
        device: torch.device,
        *,
        units: UnitRows,
        plan: DpSgdPlan,
        source: noise.RandomSource,
        epochs: int,
    ) -> None:
        if plan.steps % epochs:
            raise ValueError(f"{plan.steps} private steps cannot be spread evenly over {epochs} epochs")
        self.steps_per_epoch = plan.steps // epochs
        self._clipper, self._load_rows, self._device = clipper, load_rows, device
        self._units, self._plan, self._source = units, plan, source
        self._trained = list(clipper.trained.values())
        margin = noise.clip_margin(clipper.size, plan.sigma) if math.isfinite(plan.clip) else 1.0
        self._limit = plan.clip * margin

    def start_epoch(self) -> None:
        """Do nothing: each step draws its units anew."""

    def compute(self, step: int) -> None:
        """Draw units, and set `grad` of every parameter to their clipped and noisy gradient."""
        plan, source = self._plan, self._source
        drawn = noise.draw_units(source, len(self._units), plan.q)
        rows = [_sample_rows(self._units[i], plan.examples, source) for i in drawn]
        total = self._clipper.clipped_sum(rows, self._load_rows, self._limit)
        if plan.sigma:
            total = noise.add_noise(total, plan.sigma * plan.clip, source)
        mean = torch.from_numpy(total / (plan.q * (plan.units or len(self._units)))).float().to(self._device)
        parts = torch.split(mean, [parameter.numel() for parameter in self._trained])
        for parameter, part in zip(self._trained, parts, strict=True):
            parameter.grad = part.view(parameter.shape).contiguous(memory_format=_get_layout(parameter))

    def finish_epoch(self) -> None:
        """Return None: the loss would reveal information about the patients."""


def _sample_rows(unit: npt.NDArray[np.int64], limit: int, source: noise.RandomSource) -> npt.NDArray[np.int64]:
    """Return at most `limit` rows of a unit, drawn without replacement."""
    if len(unit) <= limit:
        return unit
    return np.sort(unit[np.argsort(source.uniform(len(unit)), kind="stable")[:limit]])


def _get_layout(parameter: nn.Parameter) -> torch.memory_format:
    """Return the memory layout of a parameter: fused optimisers need the gradient's to be the same."""
    last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not parameter.is_contiguous() else torch.contiguous_format
