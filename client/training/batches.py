"""Batches of a cohort as tensors, and a model's outputs for them.

Batches are rows of a tensor, taken by index: no loader, no per-sample collation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.errors import ConfigError
from common.models._reconstruct import ModelOutput, as_logits
from sites.cohort import Cohort, Windows

RowLoader = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""From row numbers to the rows' signals, features and labels."""


def choose_device(wanted: str) -> torch.device:
    """Return the device for `cpu`, `cuda` or `auto` (cuda if there is one).

    Raises:
        ConfigError: `cuda` was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device=cuda: no CUDA device here; use auto or cpu")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")


def predict_logits(
    model: nn.Module, cohort: Cohort, device: torch.device, batch: int = 2048
) -> npt.NDArray[np.float32]:
    """Return a classifier's logits `(examples, classes)`."""
    outputs = (output for output, *_ in iterate_outputs(model, cohort, device, batch))
    parts = [as_logits(output).float().cpu().numpy() for output in outputs]
    return np.concatenate(parts) if parts else np.zeros((0, len(cohort.task.classes)), np.float32)


def iterate_outputs(
    model: nn.Module, cohort: Cohort, device: torch.device, batch: int = 2048
) -> Iterator[tuple[ModelOutput, Tensor, Tensor, Tensor]]:
    """Yield each batch's outputs, with its signals, features and labels, in the order of the rows.

    The outputs are the model's own: logits, or a Reconstruction.
    """
    model.to(device).eval()
    for start in range(0, len(cohort.y), batch):
        rows = slice(start, start + batch)
        signal = cohort.x[rows]
        x = torch.from_numpy(signal.dense() if isinstance(signal, Windows) else signal).to(device)
        features, y = (torch.from_numpy(part[rows]).to(device) for part in (cohort.features, cohort.y))
        with torch.inference_mode():
            output = model(x, features)
        yield output, x, features, y


def load_tensors(cohort: Cohort, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """Return a function from row numbers to signals `(rows, channels, samples)`, all features, and all labels."""
    features, y = torch.from_numpy(cohort.features).to(device), torch.from_numpy(cohort.y).to(device)
    if not isinstance(cohort.x, Windows):
        x = torch.from_numpy(cohort.x).to(device)
        return lambda rows: x[rows], features, y
    table, pad = torch.from_numpy(cohort.x.rows).to(device), torch.from_numpy(cohort.x.padding).to(device)
    end, first = torch.from_numpy(cohort.x.end).to(device), torch.from_numpy(cohort.x.first).to(device)
    steps = torch.arange(1 - cohort.x.samples, 1, device=device)

    def cut(rows: Tensor) -> Tensor:
        index = end[rows][:, None] + steps
        values = table[index.clamp(min=0)]
        before = index < first[rows][:, None]
        return torch.where(before[:, :, None], pad, values).transpose(1, 2).contiguous()

    return cut, features, y


def make_row_loader(cohort: Cohort, device: torch.device, augmentation: float, generator: torch.Generator) -> RowLoader:
    """Return a function from row numbers to those rows, their signals augmented with some strength (0: not at all)."""
    signals, features, y = load_tensors(cohort, device)

    def load_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = rows.to(device)
        x = signals(rows)
        return (augment_signals(x, augmentation, generator) if augmentation else x), features[rows], y[rows]

    return load_rows


def augment_signals(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return signals `(batch, channels, samples)` with random scale, time shift and noise.

    Args:
        x: the signals.
        strength: at 1, channels are scaled by up to 20%, shifted by up to 4 samples, and get noise of deviation 0.05.
        generator: of the random numbers, on the CPU.
    """
    batch, channels, samples = x.shape
    scale = 1 + 0.2 * strength * (2 * torch.rand(batch, channels, 1, generator=generator) - 1)
    shift = torch.randint(-4, 5, (batch, 1), generator=generator) * strength
    index = (torch.arange(samples) + shift.round().long()).clamp(0, samples - 1)
    noise = 0.05 * strength * torch.rand(batch, 1, 1, generator=generator)
    noise = noise * torch.randn(x.shape, generator=generator)
    moved = x.gather(2, index.to(x.device)[:, None, :].expand(-1, channels, -1))
    return moved * scale.to(x.device) + noise.to(x.device)
