"""Gradients of single units in convolutions, and the products that give their norms (client/privacy/ghost_norms.py)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from client.privacy.unit_norms import GradientMemory

ParameterGradients = tuple[Tensor, tuple[int, ...]]
"""Gradients of one parameter `(units, ...)`, and the permutation of axes that makes them `(units, *shape)`."""
Spread = Callable[[Tensor], Tensor]
"""From `(rows, ...)` to `(units, longest, ...)`, padded with zeros where a unit has fewer rows."""


def _pad_signal(module: nn.Conv1d | nn.Conv2d, into: Tensor) -> Tensor:
    """Return `(rows, channels, [1,] samples)` as `(rows, samples, channels)`, padded as the layer pads."""
    if isinstance(module, nn.Conv2d):  # 1 x k kernels: signals are one row high
        into = into.squeeze(2)
    pad = int(module.padding[-1])
    return functional.pad(into.transpose(1, 2), (0, 0, pad, pad))


def compute_conv_gradients(
    module: nn.Conv1d | nn.Conv2d,
    into: Tensor,
    slope: Tensor,
    units: int,
    spread: Spread | None,
    memory: GradientMemory,
) -> ParameterGradients:
    """Return each unit's gradients of the weight, in `memory`; `spread` is given where units have several rows."""
    wide, step, apart = module.kernel_size[-1], module.stride[-1], module.dilation[-1]
    line = _pad_signal(module, into).contiguous()
    _, length, channels = line.shape
    if apart == 1:  # the windows lie one after another in memory, though they overlap
        steps = (length - wide) // step + 1
        windows = line.as_strided((len(line), steps, wide * channels), (length * channels, step * channels, 1))
    else:
        windows = line.unfold(1, (wide - 1) * apart + 1, step)[..., ::apart].transpose(2, 3).flatten(2)
    # (rows, steps, kernel * channels), made contiguous: overlapping rows would be copied one by one
    flat = memory.take_scratch(*windows.shape).copy_(windows)
    out = (slope.squeeze(2) if isinstance(module, nn.Conv2d) else slope).transpose(1, 2).contiguous()
    if spread is not None:
        flat, out = spread(flat).flatten(1, 2), spread(out).flatten(1, 2)
    room = memory.take(units, wide * channels, out.shape[2])
    weight = torch.bmm(flat.transpose(1, 2), out, out=room).view(units, wide, channels, -1)
    if isinstance(module, nn.Conv2d):
        return weight[:, None], (0, 4, 3, 1, 2)
    return weight, (0, 3, 2, 1)


def compute_conv_pairs(module: nn.Conv1d | nn.Conv2d, into: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the products of all pairs of windows, and of all pairs of slopes, `(rows, steps, steps)` both.

    A product of two windows is the sum over the kernel of products of samples, each one diagonal further.
    """
    wide, step, apart = module.kernel_size[-1], module.stride[-1], module.dilation[-1]
    out = (slope.squeeze(2) if isinstance(module, nn.Conv2d) else slope).transpose(1, 2)
    line = _pad_signal(module, into)
    samples = torch.bmm(line, line.transpose(1, 2))
    reach = (out.shape[1] - 1) * step + 1
    windows = samples[:, :reach:step, :reach:step]
    for k in range(apart, wide * apart, apart):
        windows = windows + samples[:, k : k + reach : step, k : k + reach : step]
    return windows, torch.bmm(out, out.transpose(1, 2))
