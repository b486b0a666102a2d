"""Squared norms of units' gradients that no rounding makes too small, and the memory that the gradients are in.

A square in float32 is 0 below 1e-23, and a gradient whose norm seems to be 0 would not be clipped, whatever the
clipping norm is. Norms are therefore computed in float64, or in float32 where all of them show that nothing was lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_SINGLE, SAFE_NORMS = 2**15, (1e-12, 1e18)
"""Norms of up to MAX_SINGLE numbers are computed in float32, if all of them lie within SAFE_NORMS. Rounding changes a
norm by at most 1.3e-4 of it (eight running sums of 2**12 squares; measured: 1e-6), and what squares lose below 1e-38 by
at most 1e-9 of it: a part of the 1e-3 to which clipping is tighter than is accounted for (common/noise.py)."""


class GradientMemory:
    """Memory for the gradients of one pass, used again in the next: new memory costs a page fault each 4 KiB.

    Args:
        device: where the gradients are.
    """

    def __init__(self, device: torch.device) -> None:
        self._whole, self._scratch = torch.empty(0, device=device), torch.empty(0, device=device)
        self._used = self._wanted = 0

    def start_pass(self) -> None:
        """Take back all tensors of `take`; the room grows to what the last pass wanted."""
        if self._wanted > len(self._whole):
            self._whole = self._whole.new_empty(self._wanted)
        self._used = self._wanted = 0

    def take(self, *shape: int) -> Tensor:
        """Return a tensor with arbitrary values that is valid until the next pass."""
        count = torch.Size(shape).numel()
        self._wanted += count
        if self._used + count > len(self._whole):
            return self._whole.new_empty(shape)
        self._used += count
        return self._whole[self._used - count : self._used].view(shape)

    def take_scratch(self, *shape: int) -> Tensor:
        """Return a tensor with arbitrary values that is valid until the next call."""
        count = torch.Size(shape).numel()
        if count > len(self._scratch):
            self._scratch = self._scratch.new_empty(count)
        return self._scratch[:count].view(shape)


def compute_norms(raw: Tensor) -> Tensor | None:
    """Return the norms `(units,)` of gradients `(units, size)` in float32, or None if they are too many numbers."""
    return torch.linalg.vector_norm(raw, dim=1) if raw.shape[1] <= MAX_SINGLE else None


def compute_squared_norms(raw: Tensor) -> Tensor:
    """Return the squared norms `(units,)` of gradients `(units, size)`, computed in float64."""
    squared: Tensor = torch.linalg.vector_norm(raw, dim=1, dtype=torch.float64).square()
    return squared


def sum_squares(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the squared norms `(units,)` of gradients in parts.

    Args:
        parts: gradients `(units, size)`, and their norms as `compute_norms` returns them.
    """
    norms = torch.stack([norm for _, norm in parts])
    low, high = torch.aminmax(norms)
    if SAFE_NORMS[0] < float(low) and float(high) < SAFE_NORMS[1]:  # false for NaN too
        return norms.double().square().sum(0)
    return torch.stack([compute_squared_norms(raw) for raw, _ in parts]).sum(0)


def scale_to_one(held: Tensor) -> tuple[Tensor, Tensor]:
    """Return each unit's `held` `(units, ...)` divided by a power of two near its largest number, and these powers."""
    largest = held.abs().amax(tuple(range(1, held.ndim)))
    exponent = torch.frexp(largest).exponent.clamp(-126, 126)  # 2**-exponent is then a number of float32
    power = torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponent), 1.0)
    return held * (1 / power).view(-1, *(1,) * (held.ndim - 1)), power.double()
