"""Gradients of single units (a person's examples, or one example), clipped one by one and summed.

Three methods give the same gradients; the first that the layers allow is the fastest:
- `ghost`: one backward pass to the layers' outputs for many units at once (client/privacy/ghost_norms.py), if all
  trained layers are linear layers, convolutions or norms;
- `vmap`: torch.func's vmap of grad over padded rows, for other layers and units of few examples;
- `loop`: an ordinary backward pass for each unit, for recurrent kernels and units of many examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from client.privacy.convolution_gradients import ParameterGradients
from client.privacy.ghost_norms import GradientPass, find_trained_layers
from client.privacy.unit_group import UnitGroup
from client.privacy.unit_norms import GradientMemory
from client.training.batches import RowLoader
from client.training.losses import Loss

UnitRows = Sequence[npt.NDArray[np.int64]]
"""The rows of each unit, at least one."""
GradientMethod = Literal["ghost", "vmap", "loop"]
MAX_VMAP_EXAMPLES = 8
"""Units of up to this many examples are mapped over together (vmap); larger ones are computed one by one."""
MAX_GRADIENT_BYTES = 32 * 2**20
"""Largest size of the unit gradients that exist at once, in bytes."""
FIRST_ROWS, MAX_LIVE_NUMBERS = 64, 2**22
"""Examples in one pass: FIRST_ROWS at first, then as many as hold MAX_LIVE_NUMBERS numbers in the layers."""


class UnitClipper(Protocol):
    """Clips the gradients of units and sums them.

    Attributes:
        trained: the trained parameters by name.
        size: how many numbers they have together.
    """

    trained: dict[str, nn.Parameter]
    size: int

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum over units `(size,)`, each clipped to norm `limit`."""


class UnitGradients:
    """Gradients of units with respect to a model's trained parameters; a unit's loss is the mean over its examples.

    Args:
        model: the network, which takes signals and features.
        loss: function that returns the loss of each example.
        method: how to compute them; default: the fastest that the layers allow.

    Raises:
        ValueError: the layers do not allow `method`.
    """

    def __init__(self, model: nn.Module, loss: Loss, method: GradientMethod | None = None) -> None:
        self._model, self._loss = model, loss
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.size = sum(parameter.numel() for parameter in self.trained.values())
        layers = find_trained_layers(model, self.trained)
        mapping = not any(isinstance(module, nn.RNNBase) for module in model.modules())
        self.method: GradientMethod = method or ("ghost" if layers is not None else "vmap" if mapping else "loop")
        if (self.method == "ghost" and layers is None) or (self.method == "vmap" and not mapping):
            raise ValueError(f"{type(model).__name__} has layers that method={self.method} does not know")
        self._choose_freely = method is None
        self._layers = layers or {}
        self._rows, self._memory = FIRST_ROWS, GradientMemory(self._device)

        def unit_loss(trained: dict[str, Tensor], x: Tensor, features: Tensor, y: Tensor, present: Tensor) -> Tensor:
            each = loss(functional_call(model, trained, (x, features)), x, features, y)
            return torch.where(present, each, 0.0).sum() / present.sum()

        self._mapped: Callable[..., dict[str, Tensor]] = vmap(
            grad(unit_loss), in_dims=(None, 0, 0, 0, 0), randomness="different"
        )

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum over units `(size,)`, each clipped to norm `limit`; those that are not finite add nothing."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self._device)
        if self.method == "ghost":
            for some in _groups(units, self._rows, max(1, MAX_GRADIENT_BYTES // (4 * self._largest_weight(units)))):
                total += self._ghost(some, rows, limit)
            return total.cpu().numpy()
        for parts in self._parts(units, rows):
            # in float64: a square in float32 is 0 below 1e-23, and a norm of 0 would not be clipped
            norms = [torch.linalg.vector_norm(raw.flatten(1), dim=1, dtype=torch.float64) for raw, _ in parts.values()]
            norm = torch.stack(norms).norm(dim=0)
            usable = norm.isfinite()
            share = torch.where(norm > limit, limit / norm, 1.0)[usable].float()
            sums = [(share @ raw[usable].flatten(1)) for raw, _ in parts.values()]
            total += torch.cat(sums).double()
        return total.cpu().numpy()

    def each(self, units: UnitRows, rows: RowLoader) -> Tensor:
        """Return the gradients of all units, `(units, size)`."""
        gradients = [
            torch.cat([parts[name][0].permute(parts[name][1]).flatten(1) for name in self.trained], dim=1)
            for parts in self._parts(units, rows)
        ]
        return torch.cat(gradients)

    def _ghost(self, units: UnitRows, rows: RowLoader, limit: float) -> Tensor:
        one_pass, run = self._prepare_pass(units, rows)
        result = one_pass.sum_clipped_gradients(run, limit)
        self._rows = max(1, MAX_LIVE_NUMBERS * sum(map(len, units)) // max(one_pass.held, 1))
        if isinstance(result, Tensor):  # again without the units that are not finite: they would spoil the products
            rest = [unit for unit, fine in zip(units, result.tolist(), strict=True) if fine]
            return self._ghost(rest, rows, limit) if rest else torch.zeros(self.size, device=self._device)
        return torch.cat([result[name].flatten() for name in self.trained]).double()

    def _prepare_pass(self, units: UnitRows, rows: RowLoader) -> tuple[GradientPass, Callable[[], Tensor]]:
        group = UnitGroup(np.asarray([len(unit) for unit in units]), self._device)
        x, features, y = rows(torch.from_numpy(np.concatenate(units)))

        def run() -> Tensor:
            return (self._loss(self._model(x, features), x, features, y) * group.weight).sum()

        return GradientPass(self._layers, self.trained, group, self._memory), run

    def _parts(self, units: UnitRows, rows: RowLoader) -> Iterator[dict[str, ParameterGradients]]:
        """Yield the gradients of some units at a time, in the units' order, by parameter name."""
        longest = max((len(unit) for unit in units), default=0)
        at_once = max(1, MAX_GRADIENT_BYTES // (4 * self.size))
        if self.method == "ghost":
            at_once = max(1, min(at_once, self._rows // max(longest, 1)))
        groups = [units[start : start + at_once] for start in range(0, len(units), at_once)]
        if self.method == "ghost":
            for some in groups:
                one_pass, run = self._prepare_pass(some, rows)
                yield one_pass.compute_gradients(run)
        elif self.method == "vmap" and (longest <= MAX_VMAP_EXAMPLES or not self._choose_freely):
            frozen = {name: parameter.detach() for name, parameter in self.trained.items()}
            for some in groups:
                count = torch.tensor([len(unit) for unit in some])
                index = torch.from_numpy(np.stack([np.resize(unit, longest) for unit in some]))
                present = torch.arange(longest) < count[:, None]
                held = [part.reshape(*index.shape, *part.shape[1:]) for part in rows(index.flatten())]
                yield _keep_axes(self._mapped(frozen, *held, present.to(held[0].device)))
        else:
            for unit in units:
                x, features, y = rows(torch.from_numpy(unit))
                loss = self._loss(self._model(x, features), x, features, y).mean()
                gradients = torch.autograd.grad(loss, list(self.trained.values()))
                yield _keep_axes({name: part[None] for name, part in zip(self.trained, gradients, strict=True)})

    def _largest_weight(self, units: UnitRows) -> int:
        """Return the size of the largest weight whose unit gradients may be computed explicitly."""
        single = max(map(len, units), default=1) == 1  # then large linear layers never are
        sizes = [p.numel() for p in self.trained.values() if p.ndim > 2 or not single]
        return max(sizes, default=1)

    @property
    def _device(self) -> torch.device:
        return next(iter(self.trained.values())).device


def _groups(units: UnitRows, rows: int, most: int) -> list[UnitRows]:
    """Return the units, sorted by length, in groups of about equal size: at most `rows` rows and `most` units each."""
    whole = sum(map(len, units))
    if whole <= rows and len(units) <= most:
        return [units] if units else []
    order = sorted(units, key=len)
    groups: list[UnitRows] = []
    each = whole / -(-whole // rows)
    held = 0
    some: list[npt.NDArray[np.int64]] = []
    for unit in order:
        if some and (held + len(unit) > rows or held + len(unit) / 2 >= each or len(some) == most):
            groups.append(some)
            some, held = [], 0
        some.append(unit)
        held += len(unit)
    return [*groups, some] if some else groups


def _keep_axes(gradients: dict[str, Tensor]) -> dict[str, ParameterGradients]:
    return {name: (raw, tuple(range(raw.ndim))) for name, raw in gradients.items()}
