"""Norms and clipped sums of single units' gradients, layer by layer, mostly without computing the gradients.

One backward pass to the layers' outputs gives each layer's inputs (A) and the gradients of its outputs (B). A unit's
gradient of a weight is B^T A over the unit's rows and steps. Therefore
- its squared norm is the sum over pairs of steps of (A A^T) (B B^T), which needs no gradient ("ghost norm": Goodfellow
  2015, arXiv:1510.01799; Li et al. 2022, arXiv:2110.05679). The cost grows with the square of the number of steps: if
  it exceeds the gradient's size, the gradient is computed instead ("mixed": Bu, Mao and Xu 2022, arXiv:2205.10683);
- the sum of clipped gradients is (factor B)^T A over all units in one product of the same A and B, without a second
  backward pass ("book-keeping": Bu, Wang, Zha and Karypis 2023, arXiv:2210.00038).

If output gradients cancel over time, a ghost norm is a small difference of large terms. A bound on its rounding error
is added to it, so that no contribution exceeds the clipping norm; usually this changes a norm by less than 0.1%.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight

from client.privacy.convolution_gradients import ParameterGradients, compute_conv_gradients, compute_conv_pairs
from client.privacy.unit_group import UnitGroup
from client.privacy.unit_norms import (
    GradientMemory,
    compute_norms,
    compute_squared_norms,
    scale_to_one,
    sum_squares,
)

SUPPORTED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
MAX_STORED_BYTES = 32 * 2**20
"""Computed gradients are kept from norm to sum, up to this many bytes; the others are computed again."""
ROUNDING = 2.0**-22
"""Bound on a ghost norm's rounding error, relative to the product of the norms of A and B: 4 units of float32."""
SMALL_WEIGHT = 2**14
"""Gradients of weights of up to this many numbers cost less than ghost norms of several steps, as measured on a CPU."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer in a pass.

    Attributes:
        name: the layer's name in the model.
        module: the layer.
        into: its input, `(rows, ...)`.
        slope: the loss's gradient with respect to its output, `(rows, ...)`.
        group: the units that the rows belong to.
        moments: of a GroupNorm, mean and 1 / deviation of each group of its input, `(rows, groups)`, if known.
    """

    name: str
    module: nn.Module
    into: Tensor
    slope: Tensor
    group: UnitGroup
    moments: tuple[Tensor, Tensor] | None = None

    def prefers_ghost_norm(self) -> bool:
        """Whether ghost norms of the weight cost less than its gradients: 16 steps**2 < size, as measured on a CPU."""
        if isinstance(self.module, nn.Linear):
            steps = self.group.longest * (self.into[0].numel() // self.into.shape[-1])
        elif isinstance(self.module, nn.Conv1d | nn.Conv2d) and self.group.longest == 1:
            steps = self.into.shape[-1] + 2 * int(self.module.padding[-1])
        else:
            return False
        return max(16 * steps**2, SMALL_WEIGHT if steps > 1 else 0) < self.module.weight.numel()

    def ghost_norms_squared(self) -> Tensor:
        """Return the squared norms `(units,)` of the weight's gradients, with a bound on the rounding error added.

        In float64, or from inputs and slopes brought to size 1 by powers of two (client/privacy/unit_norms.py).
        """
        if isinstance(self.module, nn.Linear):
            into, slope = self._steps(self.into), self._steps(self.slope)
            if into.shape[1] == 1:
                return compute_squared_norms(into[:, 0]) * compute_squared_norms(slope[:, 0]) * (1 + ROUNDING)
            (into, first), (slope, second) = scale_to_one(into), scale_to_one(slope)
            pairs = torch.bmm(into, into.transpose(1, 2)), torch.bmm(slope, slope.transpose(1, 2))
        else:
            assert isinstance(self.module, nn.Conv1d | nn.Conv2d)
            (into, first), (slope, second) = scale_to_one(self.into), scale_to_one(self.slope)
            pairs = compute_conv_pairs(self.module, into, slope)
        traces = [held.diagonal(dim1=1, dim2=2).sum(1) for held in pairs]
        squares = (pairs[0] * pairs[1]).sum((1, 2)).clamp(min=0) + ROUNDING * traces[0] * traces[1]
        return squares.double() * (first * second).square()

    def weight_gradients(self, memory: GradientMemory | None = None) -> ParameterGradients | None:
        """Return each unit's gradients of the weight of a linear layer or a convolution; None for other layers.

        Args:
            memory: where they are stored; default: in memory of their own.
        """
        memory = memory or GradientMemory(self.into.device)
        if isinstance(self.module, nn.Linear):
            into, slope = self._steps(self.into), self._steps(self.slope)
            room = memory.take(self.group.units, *self.module.weight.shape)
            return torch.bmm(slope.transpose(1, 2), into, out=room), (0, 1, 2)
        if isinstance(self.module, nn.Conv1d | nn.Conv2d):
            return compute_conv_gradients(
                self.module,
                self.into,
                self.slope,
                self.group.units,
                self.group.spread if self.group.longest > 1 else None,
                memory,
            )
        return None

    def small_gradients(self) -> dict[str, Tensor]:
        """Return each unit's gradients of the bias, or of the parameters of a norm layer, by parameter."""
        module, into, slope, group = self.module, self.into, self.slope, self.group
        if isinstance(module, nn.Linear):
            return {"bias": group.summed(slope if slope.ndim == 2 else slope.flatten(1, -2).sum(1))}
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return {} if module.bias is None else {"bias": group.summed(slope.flatten(2).sum(2))}
        if isinstance(module, nn.GroupNorm):
            weight, bias = self._group_norm_gradients(module)
        else:
            assert isinstance(module, nn.LayerNorm)
            normed = functional.layer_norm(into, module.normalized_shape, eps=module.eps)
            axes = tuple(range(1, into.ndim - len(module.normalized_shape)))
            weight, bias = (part.sum(axes) if axes else part for part in (slope * normed, slope))
        return {"weight": group.summed(weight), "bias": group.summed(bias)}

    def _group_norm_gradients(self, module: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """Return each row's gradients of weight and bias `(rows, channels)`, as the backward pass of torch has them."""
        steps = tuple(range(2, self.slope.ndim))
        bias, products = self.slope.sum(steps), (self.slope * self.into).sum(steps)
        mean, inverse = (held[..., None] for held in self.moments or _compute_moments(module, self.into))
        grouped = [held.view(len(held), module.num_groups, -1) for held in (bias, products)]
        return ((grouped[1] - mean * grouped[0]) * inverse).flatten(1), bias

    def weighted_sum(self, factor: Tensor) -> Tensor:
        """Return the sum over units of the weight's gradients times `factor` `(units,)`, in the weight's shape."""
        module = self.module
        slope = self.slope * factor[self.group.owner].view(-1, *(1,) * (self.slope.ndim - 1))
        if isinstance(module, nn.Linear):
            return slope.flatten(0, -2).T @ self.into.flatten(0, -2)
        assert isinstance(module, nn.Conv1d | nn.Conv2d)
        compute_weight = conv1d_weight if isinstance(module, nn.Conv1d) else conv2d_weight
        total: Tensor = compute_weight(  # type: ignore[no-untyped-call]
            self.into, module.weight.shape, slope, module.stride, module.padding, module.dilation
        )
        return total

    def _steps(self, held: Tensor) -> Tensor:
        """Return a linear layer's inputs or output gradients as `(units, rows * steps, width)`."""
        if held.ndim == 2 and self.group.longest == 1:
            return held[:, None]
        return self.group.spread(held).flatten(1, -2)


class GradientPass:
    """One pass of a group of units through a network, and back to the outputs of its layers.

    A layer's norms are computed when the backward pass reaches it, so that its output gradients are kept only if the
    sum needs them.

    Args:
        layers: the layers with trained parameters, by name.
        wanted: names of the trained parameters.
        group: the units.
        memory: where gradients are stored until the sum is computed.

    Attributes:
        held: number of values stored for the layers' inputs and outputs.
    """

    def __init__(
        self,
        layers: dict[str, nn.Module],
        wanted: Iterable[str],
        group: UnitGroup,
        memory: GradientMemory | None = None,
    ) -> None:
        self._layers, self._wanted, self._group = layers, frozenset(wanted), group
        self._memory = memory or GradientMemory(group.weight.device)
        self.held = 0
        self._room = MAX_STORED_BYTES
        self._squares: list[Tensor] = []
        self._narrow: list[tuple[str, Tensor]] = []
        self._norms: list[tuple[Tensor, Tensor]] = []
        self._stored: list[tuple[str, ParameterGradients]] = []
        self._recomputed: list[LayerCall] = []

    def compute_gradients(self, run: Callable[[], Tensor]) -> dict[str, ParameterGradients]:
        """Return the units' gradients by parameter; `run` computes the loss, summed over the rows."""
        parts: dict[str, ParameterGradients] = {}

        def measure(call: LayerCall) -> None:
            for which, raw in call.small_gradients().items():
                parts[f"{call.name}.{which}"] = raw, tuple(range(raw.ndim))
            if (large := call.weight_gradients()) is not None:
                parts[f"{call.name}.weight"] = large

        self._run_backward(run, measure)
        return {name: part for name, part in parts.items() if name in self._wanted}

    def sum_clipped_gradients(self, run: Callable[[], Tensor], limit: float) -> dict[str, Tensor] | Tensor:
        """Return the sum of the units' gradients, each clipped to norm `limit`, by parameter.

        If any unit's gradient is not finite, return instead a mask `(units,)` of the units whose gradients are finite.

        Args:
            run: computes the loss, summed over the rows.
            limit: largest norm of a unit's gradient.
        """
        self._memory.start_pass()
        self._run_backward(run, self._measure)
        with torch.no_grad():
            none = self._group.weight.new_zeros(self._group.units, 0)
            narrow = torch.cat([none, *(raw.flatten(1) for _, raw in self._narrow)], dim=1)
            self._add_norm(narrow)
            norm = torch.stack(self._squares + ([sum_squares(self._norms)] if self._norms else [])).sum(0).sqrt()
            usable = norm.isfinite()
            if not bool(usable.all()):
                return usable
            factor = torch.where(norm > limit, limit / norm, 1.0).float()
            total = {name: (factor @ raw.flatten(1)).view(1, *raw.shape[1:]).permute(order)[0]
                     for name, (raw, order) in self._stored}  # fmt: skip
            shapes = [raw.shape[1:] for _, raw in self._narrow]
            sums = torch.split(factor @ narrow, [shape.numel() for shape in shapes])
            total |= {name: sums[i].view(shapes[i]) for i, (name, _) in enumerate(self._narrow)}
            total |= {f"{call.name}.weight": call.weighted_sum(factor) for call in self._recomputed}
        return total

    def _measure(self, call: LayerCall) -> None:
        self._narrow += [
            (name, raw)
            for parameter, raw in call.small_gradients().items()
            if (name := f"{call.name}.{parameter}") in self._wanted
        ]
        weight = f"{call.name}.weight"
        if weight not in self._wanted or isinstance(call.module, nn.GroupNorm | nn.LayerNorm):
            return
        if call.prefers_ghost_norm():
            self._squares.append(call.ghost_norms_squared())
            self._recomputed.append(call)
            return
        size = 4 * call.group.units * call.module.get_parameter("weight").numel()
        large = call.weight_gradients(self._memory if size <= self._room else None)
        assert large is not None
        if size > self._room:
            self._squares.append(compute_squared_norms(large[0].flatten(1)))
            self._recomputed.append(call)
        else:
            self._add_norm(large[0].flatten(1))
            self._room -= size
            self._stored.append((weight, large))

    def _add_norm(self, raw: Tensor) -> None:
        """Add the norms of gradients `(units, size)` that are stored."""
        norm = compute_norms(raw)
        if norm is None:
            self._squares.append(compute_squared_norms(raw))
        else:
            self._norms.append((raw, norm))

    def _run_backward(self, run: Callable[[], Tensor], measure: Callable[[LayerCall], None]) -> None:
        calls: dict[str, int] = {}
        waiting: dict[str, list[LayerCall]] = {}
        entries: list[Tensor] = []

        def reached(call: LayerCall) -> None:
            several = waiting.setdefault(call.name, [])
            several.append(call)
            if len(several) == calls[call.name]:
                measure(_join_calls(waiting.pop(call.name)))

        def make_hook(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
            def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
                calls[name] = calls.get(name, 0) + 1
                if not inputs[0].requires_grad:
                    entries.append(output)
                into = inputs[0].detach()
                self.held += into.numel() + output.numel()
                moments = _get_moments(output) if isinstance(module, nn.GroupNorm) else None
                output.register_hook(  # type: ignore[no-untyped-call]
                    lambda slope: reached(LayerCall(name, module, into, slope, self._group, moments))
                )

            return hook

        hooks = [module.register_forward_hook(make_hook(name)) for name, module in self._layers.items()]
        try:
            loss = run()
        finally:
            for hook in hooks:
                hook.remove()
        torch.autograd.grad(loss, entries)


def find_trained_layers(model: nn.Module, trained: dict[str, nn.Parameter]) -> dict[str, nn.Module] | None:
    """Return the layers with trained parameters by name, or None if one of them is not supported."""
    holders = {name.rpartition(".")[0] for name in trained}
    layers = {name: module for name, module in model.named_modules() if name in holders}
    return layers if all(name and is_supported_layer(module) for name, module in layers.items()) else None


def is_supported_layer(module: nn.Module) -> bool:
    """Return whether the gradients of single units of a layer can be computed here."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        row = (module.kernel_size[0], module.stride[0], module.padding[0]) == (1, 1, 0)
        flat = type(module) is nn.Conv1d or (type(module) is nn.Conv2d and row)
        return flat and module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) in SUPPORTED_LAYERS


def _get_moments(output: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return what `_compute_moments` returns as the GroupNorm's forward pass stored it, if it did."""
    node: Any = output.grad_fn
    if not hasattr(node, "_saved_result2"):
        return None
    return node._saved_result1.detach(), node._saved_result2.detach()


def _compute_moments(norm: nn.GroupNorm, into: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / deviation of each group of a GroupNorm's input, `(rows, groups)`."""
    variance, mean = torch.var_mean(into.reshape(len(into), norm.num_groups, -1), dim=2, correction=0)
    return mean, (variance + norm.eps).rsqrt()


def _join_calls(calls: Sequence[LayerCall]) -> LayerCall:
    """Return several calls of one layer as one call, in which each unit has the rows of all."""
    first = calls[0]
    if len(calls) == 1:
        return first
    group = first.group

    def join(several: Sequence[Tensor]) -> Tensor:
        return torch.cat([group.spread(held) for held in several], dim=1).flatten(0, 1)

    into, slope = join([call.into for call in calls]), join([call.slope for call in calls])
    known = [call.moments for call in calls if call.moments is not None]
    moments = (join([mean for mean, _ in known]), join([inverse for _, inverse in known])) if known else None
    whole = UnitGroup(np.full(group.units, group.longest * len(calls)), into.device)
    return LayerCall(first.name, first.module, into, slope, whole, moments)
