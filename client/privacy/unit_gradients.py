"""Gradients of single units (a person's examples, or one example), clipped one by one and summed.

Three ways give the same gradients; the first is the fastest, where it can be had:
- `ghost`: one backward pass to the outputs of the layers, for many units (client/privacy/ghost_norms.py), where all
trained layers
  are linear, convolutions or norms;
- `vmap`: torch.func's vmap of grad, over padded rows: other layers, and units of few examples;
- `loop`: an ordinary backward pass each: recurrent kernels, and units of many examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from client.privacy.ghost_norms import GradientPass, ParameterGradients, UnitGroup, find_trained_layers
from client.training.batches import RowLoader
from client.training.losses import Loss

UnitRows = Sequence[npt.NDArray[np.int64]]
"""The rows of each unit, at least one."""
GradientMethod = Literal["ghost", "vmap", "loop"]
MAX_VMAP_EXAMPLES = 8
"""Units of up to so many examples are mapped over together (vmap); larger ones go one after another."""
MAX_GRADIENT_BYTES = 32 * 2**20
"""Largest size of the gradients that exist at once, in bytes."""
FIRST_ROWS, MAX_LIVE_NUMBERS = 64, 2**22
"""Examples that go through the network at once: so many at first, then as hold so many numbers in its layers."""


class UnitClipper(Protocol):
    """What clips the gradients of units and sums them; `trained`: by name; `size`: how many numbers these are."""

    trained: dict[str, nn.Parameter]
    size: int

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum over units `(parameters,)`, each clipped to a norm."""


class UnitGradients:
    """Of one model's trained parameters; a unit's is the gradient of its mean loss.

    Args:
        model: outputs from signals and features.
        loss: of each example.
        way: of getting them; none: the fastest that the layers allow.

    Raises:
        ValueError: the layers do not allow `way`.
    """

    def __init__(self, model: nn.Module, loss: Loss, way: GradientMethod | None = None) -> None:
        self._model, self._loss = model, loss
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.size = sum(parameter.numel() for parameter in self.trained.values())
        layers = find_trained_layers(model, self.trained)
        mapping = not any(isinstance(module, nn.RNNBase) for module in model.modules())
        self.way: GradientMethod = way or ("ghost" if layers is not None else "vmap" if mapping else "loop")
        if (self.way == "ghost" and layers is None) or (self.way == "vmap" and not mapping):
            raise ValueError(f"{type(model).__name__} has layers that way={self.way} does not know")
        self._any = way is None
        self._layers = layers or {}
        self._rows = FIRST_ROWS

        def of_unit(trained: dict[str, Tensor], x: Tensor, features: Tensor, y: Tensor, there: Tensor) -> Tensor:
            each = loss(functional_call(model, trained, (x, features)), x, features, y)
            return torch.where(there, each, 0.0).sum() / there.sum()

        self._mapped: Callable[..., dict[str, Tensor]] = vmap(
            grad(of_unit), in_dims=(None, 0, 0, 0, 0), randomness="different"
        )

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum over units `(parameters,)`, each clipped to a norm; one that is not finite adds nothing."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self._device)
        if self.way == "ghost":
            for some in _groups(units, self._rows, max(1, MAX_GRADIENT_BYTES // (4 * self._made(units)))):
                total += self._ghost(some, rows, limit)
            return total.cpu().numpy()
        for parts in self._parts(units, rows):
            norms = [torch.linalg.vector_norm(raw.flatten(1), dim=1) for raw, _ in parts.values()]
            norm = torch.stack(norms).norm(dim=0)
            usable = norm.isfinite()
            share = torch.where(norm > limit, limit / norm, 1.0)[usable]
            found = [(share @ raw[usable].flatten(1)) for raw, _ in parts.values()]
            total += torch.cat(found).double()
        return total.cpu().numpy()

    def each(self, units: UnitRows, rows: RowLoader) -> Tensor:
        """Return the gradients `(units, parameters)`."""
        found = [
            torch.cat([parts[name][0].permute(parts[name][1]).flatten(1) for name in self.trained], dim=1)
            for parts in self._parts(units, rows)
        ]
        return torch.cat(found)

    def _ghost(self, units: UnitRows, rows: RowLoader, limit: float) -> Tensor:
        way, run = self._pass(units, rows)
        found = way.clipped(run, limit)
        self._rows = max(1, MAX_LIVE_NUMBERS * sum(map(len, units)) // max(way.held, 1))
        if isinstance(found, Tensor):  # again without those that are not finite: they would spoil the products
            rest = [unit for unit, fine in zip(units, found.tolist(), strict=True) if fine]
            return self._ghost(rest, rows, limit) if rest else torch.zeros(self.size, device=self._device)
        return torch.cat([found[name].flatten() for name in self.trained]).double()

    def _pass(self, units: UnitRows, rows: RowLoader) -> tuple[GradientPass, Callable[[], Tensor]]:
        group = UnitGroup(np.asarray([len(unit) for unit in units]), self._device)
        x, features, y = rows(torch.from_numpy(np.concatenate(units)))

        def run() -> Tensor:
            return (self._loss(self._model(x, features), x, features, y) * group.weight).sum()

        return GradientPass(self._layers, self.trained, group), run

    def _parts(self, units: UnitRows, rows: RowLoader) -> Iterator[dict[str, ParameterGradients]]:
        """Yield the gradients of some units at a time, in their order, by parameter."""
        longest = max((len(unit) for unit in units), default=0)
        at_once = max(1, MAX_GRADIENT_BYTES // (4 * self.size))
        if self.way == "ghost":
            at_once = max(1, min(at_once, self._rows // max(longest, 1)))
        groups = [units[start : start + at_once] for start in range(0, len(units), at_once)]
        if self.way == "ghost":
            for some in groups:
                way, run = self._pass(some, rows)
                yield way.gradients(run)
        elif self.way == "vmap" and (longest <= MAX_VMAP_EXAMPLES or not self._any):
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

    def _made(self, units: UnitRows) -> int:
        """Return the size of the largest weight of which gradients may be made, one layer at a time."""
        single = max(map(len, units), default=1) == 1  # then those of linear layers are made only where they are small
        made = [p.numel() for p in self.trained.values() if p.ndim > 2 or not single]
        return max(made, default=1)

    @property
    def _device(self) -> torch.device:
        return next(iter(self.trained.values())).device


def _groups(units: UnitRows, rows: int, most: int) -> list[UnitRows]:
    """Return units of like length together, in groups of up to so many rows and units, all about as large."""
    whole = sum(map(len, units))
    if whole <= rows and len(units) <= most:
        return [units] if units else []
    order = sorted(units, key=len)
    found: list[UnitRows] = []
    each = whole / -(-whole // rows)
    held = 0
    some: list[npt.NDArray[np.int64]] = []
    for unit in order:
        if some and (held + len(unit) > rows or held + len(unit) / 2 >= each or len(some) == most):
            found.append(some)
            some, held = [], 0
        some.append(unit)
        held += len(unit)
    return [*found, some] if some else found


def _plain(found: dict[str, Tensor]) -> dict[str, ParameterGradients]:
    return {name: (raw, tuple(range(raw.ndim))) for name, raw in found.items()}
