"""Gradients of single units in convolutions, and the products that give their norms (client/privacy/ghost_norms.py)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    module: nn.Conv1d | nn.Conv2d, into: Tensor, slope: Tensor, units: int, spread: Spread | None
) -> ParameterGradients:
    """Return each unit's gradients of the weight; `spread` is given where a unit has several rows."""
    wide, step, apart = module.kernel_size[-1], module.stride[-1], module.dilation[-1]
    windows = _pad_signal(module, into).unfold(1, (wide - 1) * apart + 1, step)[..., ::apart].transpose(2, 3)
    # (rows, steps, kernel * channels), made contiguous: overlapping rows would be copied one by one
    flat = windows.reshape(len(into), windows.shape[1], -1).contiguous()
    out = (slope.squeeze(2) if isinstance(module, nn.Conv2d) else slope).transpose(1, 2).contiguous()
    if spread is not None:
        flat, out = spread(flat).flatten(1, 2), spread(out).flatten(1, 2)
    weight = torch.bmm(out.transpose(1, 2), flat).view(units, slope.shape[1], wide, -1)
    if isinstance(module, nn.Conv2d):
        return weight[:, :, None], (0, 1, 4, 2, 3)
    return weight, (0, 1, 3, 2)


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
