"""Training with clipped and noisy gradients of units (DP-SGD)."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.privacy.budget import DpSgdPlan
from client.privacy.unit_gradients import UnitClipper, UnitGradients
from client.privacy.units import group_rows_by_unit
from client.training.batches import augment_signals, choose_device, load_tensors
from client.training.loop import Schedule, TrainingResult, TrainingStopped, make_optimizer, pair_by_name
from client.training.losses import Loss, build_example_loss
from common import models, noise
from common.errors import SiteError
from common.models._layers import RandomLayer
from common.sections.training import TrainingConfig
from common.seeds import seed_for
from sites.cohort import Cohort

if TYPE_CHECKING:
    pass


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
    anchor: Mapping[str, Any] | None = None,
    source: noise.RandomSource | None = None,
    gradients: Callable[[nn.Module, Loss], UnitClipper] = UnitGradients,
) -> TrainingResult:
    """Train `model` in place on `train`, privately: DP-SGD, with any optimiser on the noisy gradients.

    A step's gradient is (sum of clipped gradients of the drawn units + noise) / (q * plan.units); a step that draws
    nobody is noise alone, and counts. Nothing that depends on the data but the weights leaves: no loss is told.

    Args:
        model, train, config, schedule, stop, proximal, anchor: as client.training.loop.fit.
        plan: what was charged.
        seed: in tests alone, of everything; else all is drawn anew.
        source: of noise and sampling; none: as the plan says.
        gradients: of a model and a loss: what clips and sums.

    Raises:
        SiteError: there is nothing to train on, a weight is not finite, or `stop` was set.
    """
    if len(train.y) == 0:
        raise SiteError("no training examples at this site")
    schedule = schedule or Schedule(0, config.epochs)
    device = choose_device(config.device)
    model.to(device).train()
    models.freeze_parameters(model, config.freeze)
    cut, features, y = load_tensors(train, device)
    if source is None:
        source = noise.SecureSource() if plan.private else noise.SeededSource(seed_for(seed, "private"))
    # whoever knew a unit's dropout could see by it how many units were drawn before: hence also of a secret seed
    hidden = secrets.randbits(31) if source.private else seed
    stir = torch.Generator().manual_seed(seed_for(hidden, "augment"))
    drop = torch.Generator().manual_seed(seed_for(hidden, "dropout"))
    for module in model.modules():
        if isinstance(module, RandomLayer):
            module.generator = drop

    def rows(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = index.to(device)
        x = cut(index)
        return (augment_signals(x, config.augment, stir) if config.augment else x), features[index], y[index]

    units = group_rows_by_unit(train, plan.level)
    way = gradients(model, build_example_loss(train.task))
    optimizer = make_optimizer(model, config)
    homes = pair_by_name(model, anchor, device) if proximal else []
    limit = plan.clip * noise.clip_margin(way.size, plan.sigma) if math.isfinite(plan.clip) else plan.clip
    rates = 0.0
    for step in range(plan.steps):
        if stop is not None and stop.is_set():
            raise TrainingStopped("stopped before the end")
        if config.schedule == "cosine":
            share = (schedule.done + step * config.epochs / plan.steps) / max(schedule.total, 1)
            rate = config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * min(share, 1.0))) / 2)
            for group in optimizer.param_groups:
                group["lr"] = rate
        drawn = [_some(units[i], plan.examples, source) for i in noise.draw_units(source, len(units), plan.q)]
        total = way.clipped_sum(drawn, rows, limit)
        if plan.sigma:
            total = noise.add_noise(total, plan.sigma * plan.clip, source)
        flat = torch.from_numpy(total / (plan.q * (plan.units or len(units)))).float().to(device)
        trained = list(way.trained.values())
        for parameter, part in zip(trained, torch.split(flat, [p.numel() for p in trained]), strict=True):
            parameter.grad = part.view(parameter.shape).contiguous(memory_format=_layout(parameter))
        for parameter, home in homes:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - home, alpha=proximal)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rates += float(optimizer.param_groups[0]["lr"])
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise SiteError("a weight is not a finite number: lower training.lr")
    return TrainingResult(plan.units or len(y), plan.steps, (), (), False, rates)


def _some(unit: npt.NDArray[np.int64], most: int, source: noise.RandomSource) -> npt.NDArray[np.int64]:
    """Return at most so many rows of a unit, drawn without replacement."""
    if len(unit) <= most:
        return unit
    return np.sort(unit[np.argsort(source.uniform(len(unit)), kind="stable")[:most]])


def _layout(parameter: nn.Parameter) -> torch.memory_format:
    """Return the layout of a parameter: fused optimisers want its gradient to lie as it does."""
    last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not parameter.is_contiguous() else torch.contiguous_format
