"""The order of a stream's packets: lost samples become gaps, double ones are dropped, late ones are waited for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from experiments.monitor.protocol import Packet

WAIT_SECONDS = 0.5
"""Seconds of signal for which a missing packet is waited for."""
MAX_GAP_SECONDS = 10.0
"""A longer gap starts the stream anew: the filters would only see a flat line."""
MAX_COUNTED_SECONDS = 3600.0
"""The samples of a longer gap are not counted as lost: the device has started to count anew."""


@dataclass
class Losses:
    """Samples and packets that arrived, and did not arrive, in order.

    Attributes:
        taken: samples that came and were passed on.
        lost: samples that never came.
        double: samples that came again.
        late: packets that came after their gap had been closed.
        restarts: starts of the stream anew.
    """

    taken: int = 0
    lost: int = 0
    double: int = 0
    late: int = 0
    restarts: int = 0


@dataclass
class Sequencer:
    """Puts one stream's packets in order.

    Attributes:
        rate: sampling rate, Hz.
        leads: names of the leads.
        losses: what was lost so far.
    """

    rate: float
    leads: tuple[str, ...]
    losses: Losses = field(default_factory=Losses)
    _next: int | None = None
    _waiting: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    def push(self, packet: Packet) -> tuple[npt.NDArray[np.float32], bool]:
        """Return the samples `(samples, leads)` that follow, NaN for lost ones, and whether the stream starts anew."""
        restart = False
        first = packet.first if packet.first is not None else self._next or 0
        if self._next is None:
            self._next = first
        jump = first - self._next
        if jump > MAX_GAP_SECONDS * self.rate or jump < -MAX_GAP_SECONDS * self.rate:
            self.losses.restarts += 1
            counted = 0 < jump <= MAX_COUNTED_SECONDS * self.rate
            self.losses.lost += jump if counted else sum(len(samples) for samples in self._waiting.values())
            self._waiting.clear()
            self._next, restart = first, True
        if first + len(packet.samples) <= self._next:
            self.losses.double += len(packet.samples)
            self.losses.late += 1
            return packet.samples[:0], restart
        known = self._waiting.get(first)
        if known is None or len(known) < len(packet.samples):
            self._waiting[first] = packet.samples
        else:
            self.losses.double += len(packet.samples)
        return self._release(), restart

    def _release(self) -> npt.NDArray[np.float32]:
        """Return what follows, up to the first gap that may still be closed."""
        assert self._next is not None
        parts: list[npt.NDArray[np.float32]] = []
        newest = max(first + len(samples) for first, samples in self._waiting.items())
        for first in sorted(self._waiting):
            if (gap := first - self._next) > 0:
                if newest - self._next < WAIT_SECONDS * self.rate:
                    break
                parts.append(np.full((gap, len(self.leads)), np.nan, dtype=np.float32))
                self.losses.lost += gap
                self._next = first
            samples = self._waiting.pop(first)
            overlap = self._next - first
            self.losses.double += min(overlap, len(samples))
            parts.append(samples[overlap:])
            self.losses.taken += len(parts[-1])
            self._next += len(parts[-1])
        return np.concatenate(parts) if parts else np.zeros((0, len(self.leads)), np.float32)
