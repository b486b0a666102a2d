"""Gradients of single units (a person's examples, or one example), clipped one by one and summed.

Three ways give the same gradients; which is fastest depends on the units:
- units of one example: one backward pass to the outputs of the layers, from which each example's gradients follow
  (as in Opacus's hooks; Goodfellow 2015, arXiv:1510.01799), where all trained layers are among LAYERS;
- units of few examples, or other layers: torch.func's vmap of grad, over padded rows;
- units of many examples, or recurrent kernels: an ordinary backward pass each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from common.models import _reconstruct
from common.task import Task

Rows = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""From row numbers to inputs, features and labels."""
Units = Sequence[npt.NDArray[np.int64]]
"""The rows of each unit, at least one."""
Loss = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""From a model's outputs, and the signals, features and labels of the same examples, to their losses or their mean."""
Part = tuple[Tensor, tuple[int, ...]]
"""One parameter's gradients `(units, ...)`, and the order of axes that makes them `(units, *its shape)`."""
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
SMALL = 8
"""Units of up to so many examples are mapped over together (vmap); larger ones go one after another."""
AT_ONCE = 32 * 2**20
"""Largest size of the gradients that exist at once, in bytes."""


def each_loss(task: Task) -> Loss:
    """Return the loss of each example, `(examples,)`: cross entropy of the logits, summed over many labels.

    Of a model that reconstructs: the reconstruction error, and what the model adds to it.
    """
    if task.anomaly:
        error = _reconstruct.error(task)
        return lambda outputs, x, features, labels: error(outputs) + outputs.penalty
    if task.kind == "multilabel":
        return lambda logits, x, features, labels: functional.binary_cross_entropy_with_logits(
            logits, labels.to(logits.dtype), reduction="none"
        ).sum(1)
    return lambda logits, x, features, labels: functional.cross_entropy(logits, labels, reduction="none")


class Gradients:
    """Of one model's trained parameters; a unit's is the gradient of its mean loss."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        self._model, self._loss = model, loss
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.size = sum(parameter.numel() for parameter in self.trained.values())
        self._layers = _layers(model, self.trained)
        self._mapping = not any(isinstance(module, nn.RNNBase) for module in model.modules())

        def of_unit(trained: dict[str, Tensor], x: Tensor, features: Tensor, y: Tensor, there: Tensor) -> Tensor:
            each = loss(functional_call(model, trained, (x, features)), x, features, y)
            return torch.where(there, each, 0.0).sum() / there.sum()

        self._mapped: Callable[..., dict[str, Tensor]] = vmap(
            grad(of_unit), in_dims=(None, 0, 0, 0, 0), randomness="different"
        )

    def clipped_sum(self, units: Units, rows: Rows, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum over units `(parameters,)`, each clipped to a norm; one that is not finite adds nothing."""
        total = {name: torch.zeros(p.shape, dtype=torch.float64, device=p.device) for name, p in self.trained.items()}
        for parts in self.parts(units, rows):
            norms = [torch.linalg.vector_norm(raw.flatten(1), dim=1) for raw, _ in parts.values()]
            norm = torch.stack(norms).norm(dim=0)
            share = torch.where(norm > limit, limit / norm, 1.0)
            usable = norm.isfinite()
            if not bool(usable.all()):
                share = share[usable]
                parts = {name: (raw[usable], order) for name, (raw, order) in parts.items()}
            for name, (raw, order) in parts.items():
                found = (share @ raw.flatten(1)).view(1, *raw.shape[1:])
                total[name] += found.permute(order)[0].double()
        return torch.cat([part.flatten() for part in total.values()]).cpu().numpy()

    def each(self, units: Units, rows: Rows) -> Tensor:
        """Return the gradients `(units, parameters)`."""
        found = [
            torch.cat([parts[name][0].permute(parts[name][1]).flatten(1) for name in self.trained], dim=1)
            for parts in self.parts(units, rows)
        ]
        return torch.cat(found)

    def parts(self, units: Units, rows: Rows) -> Iterator[dict[str, Part]]:
        """Yield the gradients of some units at a time, by parameter."""
        longest = max((len(unit) for unit in units), default=0)
        at_once = max(1, AT_ONCE // (4 * self.size))
        groups = [units[start : start + at_once] for start in range(0, len(units), at_once)]
        if longest == 1 and self._layers is not None:
            for some in groups:
                yield self._of_examples(rows(torch.from_numpy(np.concatenate(some))))
        elif self._mapping and longest <= SMALL:
            frozen = {name: parameter.detach() for name, parameter in self.trained.items()}
            for some in groups:
                count = torch.tensor([len(unit) for unit in some])
                index = torch.from_numpy(np.stack([np.resize(unit, longest) for unit in some]))
                there = torch.arange(longest) < count[:, None]
                held = [part.reshape(*index.shape, *part.shape[1:]) for part in rows(index.flatten())]
                yield _plain(self._mapped(frozen, *held, there.to(held[0].device)))
        else:
            for unit in units:
                x, features, y = rows(torch.from_numpy(unit))
                loss = self._loss(self._model(x, features), x, features, y).mean()
                found = torch.autograd.grad(loss, list(self.trained.values()))
                yield _plain({name: part[None] for name, part in zip(self.trained, found, strict=True)})

    def _of_examples(self, held: tuple[Tensor, Tensor, Tensor]) -> dict[str, Part]:
        """Return the gradients of single examples from what goes into layers and the gradients of what comes out."""
        assert self._layers is not None
        calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []

        def seen(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
            return lambda module, inputs, output: calls.append((name, module, inputs[0].detach(), output))

        hooks = [module.register_forward_hook(seen(name)) for name, module in self._layers.items()]
        try:
            x, features, y = held
            loss = self._loss(self._model(x, features), x, features, y).sum()
        finally:
            for hook in hooks:
                hook.remove()
        slopes = torch.autograd.grad(loss, [output for *_, output in calls])
        parts: dict[str, Part] = {}
        with torch.no_grad():
            for (name, module, into, _), slope in zip(calls, slopes, strict=True):
                for which, (raw, order) in _of_layer(module, into, slope).items():
                    full = f"{name}.{which}"
                    if full in self.trained:  # a layer that is called several times has the sum
                        parts[full] = (parts[full][0] + raw if full in parts else raw), order
        return parts


def _plain(found: dict[str, Tensor]) -> dict[str, Part]:
    return {name: (raw, tuple(range(raw.ndim))) for name, raw in found.items()}


def _layers(model: nn.Module, trained: dict[str, nn.Parameter]) -> dict[str, nn.Module] | None:
    """Return the layers that hold all trained parameters, or None if one is of another kind."""
    holders = {name.rpartition(".")[0] for name in trained}
    found = {name: module for name, module in model.named_modules() if name in holders}
    return found if all(name and _known(module) for name, module in found.items()) else None


def _known(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        row = (module.kernel_size[0], module.stride[0], module.padding[0]) == (1, 1, 0)
        flat = isinstance(module, nn.Conv1d) or row
        return flat and module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) in LAYERS


def _of_layer(module: nn.Module, into: Tensor, slope: Tensor) -> dict[str, Part]:
    """Return each example's gradients of a layer's parameters.

    Args:
        module: one of LAYERS.
        into: its input, `(examples, ...)`.
        slope: the gradient of its output.
    """
    if isinstance(module, nn.Linear):
        if into.ndim == 2:
            weight = slope[:, :, None] * into[:, None, :]
        else:
            into, slope = into.flatten(1, -2), slope.flatten(1, -2)
            weight = torch.bmm(slope.transpose(1, 2), into)
        return {"weight": (weight, (0, 1, 2)), "bias": (slope if slope.ndim == 2 else slope.sum(1), (0, 1))}
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if isinstance(module, nn.Conv2d):  # 1 x k: what comes and goes is one row high
            into, slope = into.squeeze(2), slope.squeeze(2)
        wide, step, apart = module.kernel_size[-1], module.stride[-1], module.dilation[-1]
        pad = int(module.padding[-1])
        line = functional.pad(into.transpose(1, 2), (0, 0, pad, pad))  # (examples, samples, channels)
        windows = line.unfold(1, (wide - 1) * apart + 1, step)[..., ::apart].transpose(2, 3)
        # (examples, steps, kernel * channels), laid out anew: overlapping rows would be copied one by one
        flat = windows.reshape(len(into), windows.shape[1], -1).contiguous()
        weight = torch.bmm(slope.transpose(1, 2).contiguous().transpose(1, 2), flat).view(
            len(into), slope.shape[1], wide, -1
        )
        order: tuple[int, ...] = (0, 1, 3, 2)
        if isinstance(module, nn.Conv2d):
            weight, order = weight[:, :, None], (0, 1, 4, 2, 3)
        return {"weight": (weight, order), "bias": (slope.sum(2), (0, 1))}
    if isinstance(module, nn.GroupNorm):
        normed = functional.group_norm(into, module.num_groups, eps=module.eps)
        found = (slope * normed).flatten(2).sum(2), slope.flatten(2).sum(2)
    else:
        assert isinstance(module, nn.LayerNorm)
        normed = functional.layer_norm(into, module.normalized_shape, eps=module.eps)
        axes = tuple(range(1, into.ndim - len(module.normalized_shape)))
        found = (slope * normed), slope
        if axes:
            found = found[0].sum(axes), found[1].sum(axes)
    return {name: (raw, tuple(range(raw.ndim))) for name, raw in zip(("weight", "bias"), found, strict=True)}
