"""Norms and weighted sums of single units' gradients, layer by layer, mostly without the gradients themselves.

One backward pass to the outputs of the layers gives, of each, what went in (A) and the slopes of what came out (B).
A unit's gradient of a weight is B^T A over the unit's rows and steps, so that
- its squared norm is the sum over pairs of steps of (A A^T) (B B^T), which needs no gradient ("ghost norm": Goodfellow
  2015, arXiv:1510.01799; Li et al. 2022, arXiv:2110.05679). It costs the square of the number of steps: where that is
  more than the gradient's size, the gradient is made and measured ("mixed": Bu, Mao and Xu 2022, arXiv:2205.10683);
- the sum of clipped gradients is (share B)^T A over all units in one product, from the same A and B: no second backward
  pass ("book-keeping": Bu, Wang, Zha and Karypis 2023, arXiv:2210.00038).

Ghost norms are differences of large terms where slopes cancel over time. What rounding can hide is added to them, so
that no contribution is clipped to more than it may have: a unit counts as longer than it is, by less than 0.1% usually.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight

ParameterGradients = tuple[Tensor, tuple[int, ...]]
"""One parameter's gradients `(units, ...)`, and the order of axes that makes them `(units, *its shape)`."""
SUPPORTED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
MAX_KEPT_BYTES = 32 * 2**20
"""Gradients that were made are kept from norm to sum, up to this many bytes; others are summed anew."""
ROUNDING = 2.0**-22
"""Four units in the last place of float32, of the product of the norms of A and B."""


class UnitGroup:
    """Some units that go through the network together, row after row.

    Args:
        count: rows of each unit, at least one.
        device: where the rows will be.
    """

    def __init__(self, count: npt.NDArray[np.int64], device: torch.device) -> None:
        self.units, self.longest = len(count), int(count.max())
        owner = np.repeat(np.arange(self.units), count)
        self.owner = torch.from_numpy(owner).to(device)
        self.weight = torch.from_numpy((1 / count[owner]).astype(np.float32)).to(device)
        self._place: Tensor | None = None
        if count.min() < self.longest:
            within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
            self._place = torch.from_numpy(owner * self.longest + within).to(device)

    def spread(self, held: Tensor) -> Tensor:
        """Return `(rows, ...)` as `(units, longest, ...)`, with zeros where a unit has fewer rows."""
        if self._place is None:
            return held.view(self.units, self.longest, *held.shape[1:])
        found = held.new_zeros(self.units * self.longest, *held.shape[1:])
        found[self._place] = held
        return found.view(self.units, self.longest, *held.shape[1:])

    def summed(self, held: Tensor) -> Tensor:
        """Return the sum of `(rows, ...)` over each unit's rows, `(units, ...)`."""
        return held if self.longest == 1 else self.spread(held).sum(1)


@dataclass(frozen=True)
class LayerCall:
    """A layer in one pass: `into`: what went in; `slope`: the gradient of what came out, `(rows of the group, ...)`."""

    name: str
    module: nn.Module
    into: Tensor
    slope: Tensor
    group: UnitGroup

    def ghost(self) -> bool:
        """Whether the weight's norms cost less than its gradients: 4 steps**2 < its size, as measured on a CPU."""
        if isinstance(self.module, nn.Linear):
            steps = self.group.longest * (self.into[0].numel() // self.into.shape[-1])
        elif isinstance(self.module, nn.Conv1d | nn.Conv2d) and self.group.longest == 1:
            steps = self.into.shape[-1] + 2 * int(self.module.padding[-1])
        else:
            return False
        return 4 * steps**2 < self.module.weight.numel()

    def square(self) -> Tensor:
        """Return the squared norms `(units,)` of the weight's gradients, and what rounding may have taken from them."""
        if isinstance(self.module, nn.Linear):
            into, slope = self._steps(self.into), self._steps(self.slope)
            if into.shape[1] == 1:
                return into.square().sum((1, 2)) * slope.square().sum((1, 2)) * (1 + ROUNDING)
            pairs = torch.bmm(into, into.transpose(1, 2)), torch.bmm(slope, slope.transpose(1, 2))
        else:
            assert isinstance(self.module, nn.Conv1d | nn.Conv2d)
            pairs = _conv_pairs(self.module, self.into, self.slope)
        traces = [held.diagonal(dim1=1, dim2=2).sum(1) for held in pairs]
        return (pairs[0] * pairs[1]).sum((1, 2)).clamp(min=0) + ROUNDING * traces[0] * traces[1]

    def large(self) -> ParameterGradients | None:
        """Return each unit's gradients of the weight of a linear layer or a convolution."""
        if isinstance(self.module, nn.Linear):
            into, slope = self._steps(self.into), self._steps(self.slope)
            return torch.bmm(slope.transpose(1, 2), into), (0, 1, 2)
        if isinstance(self.module, nn.Conv1d | nn.Conv2d):
            return _conv_gradients(self.module, self.into, self.slope, self.group)
        return None

    def small(self) -> dict[str, Tensor]:
        """Return each unit's gradients of biases, and of the parameters of norms."""
        module, into, slope, group = self.module, self.into, self.slope, self.group
        if isinstance(module, nn.Linear):
            return {"bias": group.summed(slope if slope.ndim == 2 else slope.flatten(1, -2).sum(1))}
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return {} if module.bias is None else {"bias": group.summed(slope.flatten(2).sum(2))}
        if isinstance(module, nn.GroupNorm):
            normed = functional.group_norm(into, module.num_groups, eps=module.eps)
            found = (slope * normed).flatten(2).sum(2), slope.flatten(2).sum(2)
        else:
            assert isinstance(module, nn.LayerNorm)
            normed = functional.layer_norm(into, module.normalized_shape, eps=module.eps)
            axes = tuple(range(1, into.ndim - len(module.normalized_shape)))
            found = (slope * normed).sum(axes) if axes else slope * normed, slope.sum(axes) if axes else slope
        return {"weight": group.summed(found[0]), "bias": group.summed(found[1])}

    def weighted(self, share: Tensor) -> Tensor:
        """Return the sum over units of the weight's gradients times `share` `(units,)`, in the weight's shape."""
        module = self.module
        slope = self.slope * share[self.group.owner].view(-1, *(1,) * (self.slope.ndim - 1))
        if isinstance(module, nn.Linear):
            return slope.flatten(0, -2).T @ self.into.flatten(0, -2)
        assert isinstance(module, nn.Conv1d | nn.Conv2d)
        weight_of = conv1d_weight if isinstance(module, nn.Conv1d) else conv2d_weight
        found: Tensor = weight_of(  # type: ignore[no-untyped-call]
            self.into, module.weight.shape, slope, module.stride, module.padding, module.dilation
        )
        return found

    def _steps(self, held: Tensor) -> Tensor:
        """Return what goes into or comes out of a linear layer as `(units, rows * steps, width)`."""
        if held.ndim == 2 and self.group.longest == 1:
            return held[:, None]
        return self.group.spread(held).flatten(1, -2)


class GradientPass:
    """One pass of a group of units through a network and back to the outputs of its layers.

    A layer is measured when the backward pass comes to it, so that its slopes are kept only where the sum needs them.

    Args:
        layers: those that hold the trained parameters.
        wanted: names of the trained parameters.
        group: the units.

    `held`: numbers that went into the layers and came out of them.
    """

    def __init__(self, layers: dict[str, nn.Module], wanted: Iterable[str], group: UnitGroup) -> None:
        self._layers, self._wanted, self._group = layers, frozenset(wanted), group
        self.held = 0
        self._room = MAX_KEPT_BYTES
        self._squares: list[Tensor] = []
        self._narrow: list[tuple[str, Tensor]] = []
        self._kept: list[tuple[str, ParameterGradients]] = []
        self._anew: list[LayerCall] = []

    def gradients(self, run: Callable[[], Tensor]) -> dict[str, ParameterGradients]:
        """Return the units' gradients by parameter; `run` returns the loss, summed over the rows."""
        parts: dict[str, ParameterGradients] = {}

        def measure(one: LayerCall) -> None:
            for which, raw in one.small().items():
                parts[f"{one.name}.{which}"] = raw, tuple(range(raw.ndim))
            if (large := one.large()) is not None:
                parts[f"{one.name}.weight"] = large

        self._back(run, measure)
        return {name: part for name, part in parts.items() if name in self._wanted}

    def clipped(self, run: Callable[[], Tensor], limit: float) -> dict[str, Tensor] | Tensor:
        """Return the sum of the units' gradients, each clipped to a norm, by parameter; or which units are finite.

        Args:
            run: returns the loss, summed over the rows.
            limit: the norm.
        """
        self._back(run, self._measure)
        with torch.no_grad():
            none = self._group.weight.new_zeros(self._group.units, 0)
            narrow = torch.cat([none, *(raw.flatten(1) for _, raw in self._narrow)], dim=1)
            norm = torch.stack([_square(narrow), *self._squares]).sum(0).sqrt()
            usable = norm.isfinite()
            if not bool(usable.all()):
                return usable
            share = torch.where(norm > limit, limit / norm, 1.0)
            total = {name: (share @ raw.flatten(1)).view(1, *raw.shape[1:]).permute(order)[0]
                     for name, (raw, order) in self._kept}  # fmt: skip
            shapes = [raw.shape[1:] for _, raw in self._narrow]
            sums = torch.split(share @ narrow, [shape.numel() for shape in shapes])
            total |= {name: sums[i].view(shapes[i]) for i, (name, _) in enumerate(self._narrow)}
            total |= {f"{one.name}.weight": one.weighted(share) for one in self._anew}
        return total

    def _measure(self, one: LayerCall) -> None:
        self._narrow += [
            (full, raw) for which, raw in one.small().items() if (full := f"{one.name}.{which}") in self._wanted
        ]
        weight = f"{one.name}.weight"
        if weight not in self._wanted or isinstance(one.module, nn.GroupNorm | nn.LayerNorm):
            return
        if one.ghost():
            self._squares.append(one.square())
            self._anew.append(one)
            return
        large = one.large()
        assert large is not None
        self._squares.append(_square(large[0].flatten(1)))
        size = 4 * large[0].numel()
        if size > self._room:
            self._anew.append(one)
        else:
            self._room -= size
            self._kept.append((weight, large))

    def _back(self, run: Callable[[], Tensor], measure: Callable[[LayerCall], None]) -> None:
        calls: dict[str, int] = {}
        waiting: dict[str, list[LayerCall]] = {}
        entries: list[Tensor] = []

        def reached(one: LayerCall) -> None:
            several = waiting.setdefault(one.name, [])
            several.append(one)
            if len(several) == calls[one.name]:
                measure(_joined(waiting.pop(one.name)))

        def seen(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
            def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
                calls[name] = calls.get(name, 0) + 1
                if not inputs[0].requires_grad:
                    entries.append(output)
                into = inputs[0].detach()
                self.held += into.numel() + output.numel()
                output.register_hook(  # type: ignore[no-untyped-call]
                    lambda slope: reached(LayerCall(name, module, into, slope, self._group))
                )

            return hook

        hooks = [module.register_forward_hook(seen(name)) for name, module in self._layers.items()]
        try:
            loss = run()
        finally:
            for hook in hooks:
                hook.remove()
        torch.autograd.grad(loss, entries)


def find_trained_layers(model: nn.Module, trained: dict[str, nn.Parameter]) -> dict[str, nn.Module] | None:
    """Return the layers that hold all trained parameters, or None if one is of another kind."""
    holders = {name.rpartition(".")[0] for name in trained}
    found = {name: module for name, module in model.named_modules() if name in holders}
    return found if all(name and _known(module) for name, module in found.items()) else None


def _known(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        row = (module.kernel_size[0], module.stride[0], module.padding[0]) == (1, 1, 0)
        flat = type(module) is nn.Conv1d or (type(module) is nn.Conv2d and row)
        return flat and module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) in SUPPORTED_LAYERS


def _square(raw: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(raw, dim=1).square()
    return found


def _joined(calls: Sequence[LayerCall]) -> LayerCall:
    """Return several calls of one layer as one, in which each unit has the rows of all."""
    first = calls[0]
    if len(calls) == 1:
        return first
    group = first.group
    into, slope = (
        torch.cat([group.spread(held) for held in several], dim=1).flatten(0, 1)
        for several in ([one.into for one in calls], [one.slope for one in calls])
    )
    whole = UnitGroup(np.full(group.units, group.longest * len(calls)), into.device)
    return LayerCall(first.name, first.module, into, slope, whole)


def _line(module: nn.Conv1d | nn.Conv2d, into: Tensor) -> Tensor:
    """Return `(rows, channels, [1,] samples)` as `(rows, samples, channels)`, with the layer's zeros on both sides."""
    if isinstance(module, nn.Conv2d):  # 1 x k: what comes and goes is one row high
        into = into.squeeze(2)
    pad = int(module.padding[-1])
    return functional.pad(into.transpose(1, 2), (0, 0, pad, pad))


def _conv_gradients(module: nn.Conv1d | nn.Conv2d, into: Tensor, slope: Tensor, group: UnitGroup) -> ParameterGradients:
    wide, step, apart = module.kernel_size[-1], module.stride[-1], module.dilation[-1]
    windows = _line(module, into).unfold(1, (wide - 1) * apart + 1, step)[..., ::apart].transpose(2, 3)
    # (rows, steps, kernel * channels), laid out anew: overlapping rows would be copied one by one
    flat = windows.reshape(len(into), windows.shape[1], -1).contiguous()
    out = (slope.squeeze(2) if isinstance(module, nn.Conv2d) else slope).transpose(1, 2).contiguous()
    if group.longest > 1:
        flat, out = group.spread(flat).flatten(1, 2), group.spread(out).flatten(1, 2)
    weight = torch.bmm(out.transpose(1, 2), flat).view(group.units, slope.shape[1], wide, -1)
    if isinstance(module, nn.Conv2d):
        return weight[:, :, None], (0, 1, 4, 2, 3)
    return weight, (0, 1, 3, 2)


def _conv_pairs(module: nn.Conv1d | nn.Conv2d, into: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the products of all pairs of windows, and of all pairs of slopes, `(rows, steps, steps)` both.

    A product of windows is a sum over the kernel of products of samples, which are a diagonal apart.
    """
    wide, step, apart = module.kernel_size[-1], module.stride[-1], module.dilation[-1]
    out = (slope.squeeze(2) if isinstance(module, nn.Conv2d) else slope).transpose(1, 2)
    line = _line(module, into)
    samples = torch.bmm(line, line.transpose(1, 2))
    reach = (out.shape[1] - 1) * step + 1
    windows = samples[:, :reach:step, :reach:step]
    for k in range(apart, wide * apart, apart):
        windows = windows + samples[:, k : k + reach : step, k : k + reach : step]
    return windows, torch.bmm(out, out.transpose(1, 2))
