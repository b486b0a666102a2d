"""Protection of people against crafted models: the effective number of people behind each unit's update, and noise.

The gradient of a unit's weights is a sum over people: each person's input times the gradient of the loss at the unit's
output. A crafted model can make that output gradient nearly zero for all people but one (a trap weight,
arXiv:2112.02918). The update of the unit's weights, divided by that of its bias, is then that person's input. If two
units differ by one person, the difference of their updates reveals that person's input in the same way. A hospital
therefore measures during training how much each person contributes to each unit of each linear or convolutional layer,
and

- sends no update of a unit whose effective number of people, (sum of parts)^2 / (sum of squared parts), is too small;
- adds noise to every unit's update, in proportion to the largest single person's part of it, so that a difference of
  units does not reveal one person. With n people that part is about 1/n of the update, so training suffers little.

This is not differential privacy: a server that repeats a crafted model over many rounds averages the noise away. Layers
of other kinds (recurrent, attention, norms) are not measured; their noise follows the largest part in any layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.arrays import Weights
from sites.cohort import Cohort

MEASURED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class UnitSupport:
    """Measures each person's part of the gradient of each unit, summed over the steps of a round.

    A part is the absolute gradient at the unit's output times the norm of the layer's input.

    Args:
        model: the model that trains.
        cohort: its training examples, in the order of the rows that `set_rows` names.
    """

    def __init__(self, model: nn.Module, cohort: Cohort) -> None:
        self._model = model
        person = np.asarray(cohort.persons, dtype=object)[cohort.patient]
        self._person = torch.from_numpy(np.unique(person, return_inverse=True)[1].astype(np.int64))
        self._people = int(self._person.max()) + 1 if len(person) else 0
        self._layers = {name: part for name, part in model.named_modules() if isinstance(part, MEASURED_LAYERS)}
        self._parts: dict[str, Tensor] = {}
        self._rows: Tensor | None = None

    def set_rows(self, rows: Tensor) -> None:
        """Set the rows of the examples that the next step trains on."""
        self._rows = rows

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Return a context manager that measures all training steps inside it."""
        hooks = [
            part.register_forward_hook(lambda _, given, output, name=name: self._watch(name, given[0], output))
            for name, part in self._layers.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _watch(self, name: str, given: Tensor, output: Tensor) -> None:
        rows = self._rows
        if rows is None or not output.requires_grad:
            return
        person = self._person[rows.cpu()]
        length = (given.detach().flatten(1).double().square().sum(1) + 1).sqrt().cpu()  # the 1 is the bias' input
        axis = 1 if isinstance(self._layers[name], nn.Conv1d | nn.Conv2d) else output.ndim - 1

        def add(gradient: Tensor) -> None:
            if len(gradient) != len(person):
                return
            others = [i for i in range(1, gradient.ndim) if i != axis]
            size = gradient.detach().abs()
            part = (size.sum(others) if others else size).double().cpu() * length[:, None]
            if name not in self._parts:
                self._parts[name] = torch.zeros(self._people, part.shape[1], dtype=torch.float64)
            self._parts[name].index_add_(0, person, part)

        output.register_hook(add)  # type: ignore[no-untyped-call]

    def count_people(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the effective number of people of each unit, by layer; 0 for a unit without gradient."""
        effective = {}
        for name, part in self._parts.items():
            squares = (part**2).sum(0)
            effective[name] = torch.where(squares > 0, part.sum(0) ** 2 / squares.clamp(min=1e-300), 0.0).numpy()
        return effective

    def find_largest_parts(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the largest single person's share of each unit's gradient, by layer; 0 for a unit without gradient."""
        largest = {}
        for name, part in self._parts.items():
            total = part.sum(0)
            largest[name] = torch.where(total > 0, part.max(0).values / total.clamp(min=1e-300), 0.0).numpy()
        return largest

    def protect(self, sent: Weights, floor: int, noise: float, rng: np.random.Generator) -> int:
        """Withhold units with few people, add noise to the others, and return the number of units withheld.

        The trained model's weights are changed in place.

        Args:
            sent: the weights that the round started from.
            floor: minimum effective number of people of a unit; units below it keep the weights that were sent.
            noise: norm of the noise on a unit's update, as a multiple of the largest single person's part of it.
            rng: generator of the noise; a hospital seeds it from the operating system.
        """
        now = {name: value.detach().cpu().numpy() for name, value in self._model.state_dict().items()}
        update, count = self.withhold(sent, now, floor)
        update = self.add_noise(sent, update, noise, rng)
        with torch.no_grad():
            for name, value in self._model.state_dict().items():
                value.copy_(torch.from_numpy(np.array(update[name])))
        return count

    def add_noise(self, sent: Weights, update: Weights, noise: float, rng: np.random.Generator) -> Weights:
        """Return an update with noise on every unit that changed."""
        shares = self.find_largest_parts()
        most = max((float(share.max(initial=0.0)) for share in shares.values()), default=1.0)
        changed = dict(update)
        for name, value in update.items():
            if name not in sent or not np.issubdtype(value.dtype, np.floating):
                continue
            layer = name.rpartition(".")[0]
            step = value.astype(np.float64) - sent[name]
            rows = step.reshape(len(step), -1) if step.ndim else step.reshape(1, 1)
            share = shares.get(layer, np.zeros(0))
            share = share if len(share) == len(rows) else np.full(len(rows), most)
            # a part can outweigh the sum where parts cancel: the length of the whole layer's mean step bounds it below
            length = np.maximum(np.linalg.norm(rows, axis=1), np.linalg.norm(rows) / np.sqrt(len(rows)))
            scale = noise * share * length / np.sqrt(rows.shape[1])
            scale = np.where((rows != 0).any(1), scale, 0.0)
            drawn = rng.normal(size=rows.shape) * scale[:, None]
            changed[name] = (value + drawn.reshape(value.shape)).astype(value.dtype)
        return changed

    def withhold(self, sent: Weights, update: Weights, floor: int) -> tuple[Weights, int]:
        """Return an update without the units that rest on fewer than `floor` people, and the number of these units.

        They keep the weights that were sent. So does a unit without gradient: only weight decay changed it.
        """
        changed = dict(update)
        count = 0
        for name, people in self.count_people().items():
            few = people < floor
            if not few.any():
                continue
            count += int(few.sum())
            for part in ("weight", "bias"):
                key = f"{name}.{part}"
                if key in changed and key in sent and len(changed[key]) == len(few):
                    mask = few.reshape(-1, *[1] * (changed[key].ndim - 1))
                    changed[key] = np.where(mask, sent[key], changed[key]).astype(changed[key].dtype)
        return changed, count
