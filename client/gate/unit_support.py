"""On how many people the update of each unit of a layer rests, and noise of the size of one of them.

The gradient of a unit's weights is a sum over people of their inputs, each times what reaches the unit from the loss. A
crafted model can make that nearly zero for all people but one (a trap weight, arXiv:2112.02918); then the update of the
unit, divided by its bias', is that one person's input; and the difference of two units that have one person between
them is that person's too. So a hospital measures while it trains, for each unit of each linear or convolutional layer,
how much of what reached it came from each person, and

- sends no update of a unit whose effective number of people, (sum of parts)^2 / (sum of squared parts), is too small;
- adds noise to every unit's update whose length is a multiple of the largest single person's part of it, so that no
  difference of units shows one person. With n people that part is about 1/n of the update: learning loses little.

This is no differential privacy: a server that repeats a crafted model over many rounds averages the noise away. Layers
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
    """The parts of each person in what reached each unit, summed over the steps of a round.

    A part is the size of what reached the unit from the loss, times the length of the layer's input.

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
        """Say which examples the next step is taken on."""
        self._rows = rows

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure whatever is trained inside."""
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
        """Return the effective number of people of each unit, by layer; 0 where nothing reached a unit."""
        found = {}
        for name, part in self._parts.items():
            squares = (part**2).sum(0)
            found[name] = torch.where(squares > 0, part.sum(0) ** 2 / squares.clamp(min=1e-300), 0.0).numpy()
        return found

    def find_largest_parts(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the largest single person's share of what reached each unit, by layer; 0 where nothing did."""
        found = {}
        for name, part in self._parts.items():
            total = part.sum(0)
            found[name] = torch.where(total > 0, part.max(0).values / total.clamp(min=1e-300), 0.0).numpy()
        return found

    def protect(self, sent: Weights, floor: int, noise: float, rng: np.random.Generator) -> int:
        """Change the trained model so that its update may leave; return how many units were withheld.

        Args:
            sent: the weights that the round started from.
            floor: people that a unit's update needs; other units get the weights that were sent.
            noise: length of the noise on a unit's update, in lengths of the largest single person's part of it.
            rng: gives the noise; a hospital's comes from the operating system.
        """
        now = {name: value.detach().cpu().numpy() for name, value in self._model.state_dict().items()}
        kept, count = self.withhold(sent, now, floor)
        kept = self.add_noise(sent, kept, noise, rng)
        with torch.no_grad():
            for name, value in self._model.state_dict().items():
                value.copy_(torch.from_numpy(np.array(kept[name])))
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
        """Return an update in which units that rest on fewer than `floor` people are as they were sent, and how many.

        A unit that nothing reached rests on nobody: only weight decay changed it, and it stays as it was sent too.
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
