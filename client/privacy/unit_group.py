"""Units (people, or single examples) that go through a network together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class UnitGroup:
    """Units that go through the network together, as consecutive rows.

    Args:
        count: number of rows of each unit, at least one.
        device: where the rows will be.
    """

    def __init__(self, count: npt.NDArray[np.int64], device: torch.device) -> None:
        self.units, self.longest = len(count), int(count.max())
        owner = np.repeat(np.arange(self.units), count)
        self.owner = torch.from_numpy(owner).to(device)
        self.weight = torch.from_numpy((1 / count[owner]).astype(np.float32)).to(device)
        self._position: Tensor | None = None
        if count.min() < self.longest:
            within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
            self._position = torch.from_numpy(owner * self.longest + within).to(device)

    def spread(self, held: Tensor) -> Tensor:
        """Return `(rows, ...)` as `(units, longest, ...)`, padded with zeros where a unit has fewer rows."""
        if self._position is None:
            return held.view(self.units, self.longest, *held.shape[1:])
        padded = held.new_zeros(self.units * self.longest, *held.shape[1:])
        padded[self._position] = held
        return padded.view(self.units, self.longest, *held.shape[1:])

    def summed(self, held: Tensor) -> Tensor:
        """Return the sum of `(rows, ...)` over each unit's rows, `(units, ...)`."""
        return held if self.longest == 1 else self.spread(held).sum(1)
