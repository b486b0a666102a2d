"""The last samples of one lead, in memory of a fixed size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class SampleRing:
    """Keeps the last samples of a lead; its memory is taken once, and does not grow."""

    def __init__(self, size: int) -> None:
        """Take memory for `size` samples."""
        self._values: Floats = np.full(size, np.nan, dtype=np.float32)
        self._next = self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, samples: npt.NDArray[np.floating]) -> None:
        """Add samples `(samples,)`; the oldest give way."""
        size = len(self._values)
        latest = samples[-size:]
        first = min(len(latest), size - self._next)
        self._values[self._next : self._next + first] = latest[:first]
        self._values[: len(latest) - first] = latest[first:]
        self._next = (self._next + len(latest)) % size
        self._count = min(size, self._count + len(latest))

    def clear(self) -> None:
        """Forget all samples."""
        self._next = self._count = 0

    def read(self) -> Floats:
        """Return a copy of the samples, the oldest first."""
        return np.roll(self._values, -self._next)[len(self._values) - self._count :]
