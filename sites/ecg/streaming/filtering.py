"""Resampling and band-pass of a signal as it arrives, with a fixed delay and a result that no packet size changes.

The gain is that of `sites/ecg/filtering.py`: `1 / (1 + (low/f)^4) / (1 + (f/high)^4)`, cut off at both Nyquist limits.
Its impulse response is symmetric, so that no wave moves; it is tapered to `half` seconds on either side, which is the
delay. The response of every output sample is corrected to sum to 0, so that an offset of the signal disappears.

Output samples are computed in blocks of a fixed number, each by one matrix product of a fixed shape: the result is the
same to the last bit however the signal was divided.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BLOCK = 12
"""Smallest number of output samples of a block."""
FREQUENCIES = 2501
"""Points of the integral from 0 to the Nyquist limit that gives the impulse response."""


@dataclass(frozen=True)
class BlockFilter:
    """A filter from one sampling rate to another, as the matrix that computes one block of output samples.

    Attributes:
        matrix: `(block, span)`.
        half: input samples before the first input of a block that the block needs.
        step: input samples from one block to the next.
        rate: sampling rate of the input, Hz.
        target: sampling rate of the output, Hz.
    """

    matrix: Floats
    half: int
    step: int
    rate: float
    target: float

    @property
    def block(self) -> int:
        """Output samples of a block."""
        return len(self.matrix)

    @property
    def span(self) -> int:
        """Input samples that a block needs."""
        return int(self.matrix.shape[1])


@lru_cache(maxsize=128)
def design_filter(rate: float, target: float, band: tuple[float, float], half: float) -> BlockFilter:
    """Return the filter.

    Args:
        rate: sampling rate of the input, Hz.
        target: sampling rate of the output, Hz.
        band: low and high edge, Hz.
        half: seconds of the impulse response on either side.
    """
    ratio = Fraction(target / rate).limit_denominator(1000)
    up, down = ratio.numerator, ratio.denominator
    block = up * -(-BLOCK // up)
    width = int(np.ceil(half * rate))
    span = (block - 1) * down // up + 2 * width + 2
    frequency = np.linspace(0, min(rate, target) / 2, FREQUENCIES)
    gain = 1 / (1 + (band[0] / np.maximum(frequency, 1e-6)) ** 4) / (1 + (frequency / band[1]) ** 4)
    gain[[0, -1]] /= 2  # trapezoidal rule
    # All times are multiples of 1 / (rate * up), and the response is symmetric: each of its values is computed once.
    ticks = np.arange(int(half * rate * up) + 1)
    table = np.concatenate(
        [np.cos(2 * np.pi * np.outer(part / (rate * up), frequency)) @ gain for part in np.array_split(ticks, 64)]
    )
    matrix = np.zeros((block, span))
    for output in range(block):
        tick = np.abs((np.arange(span) - width) * up - output * down)
        share = tick / (rate * up * half)
        taper = np.where(share > 0.5, np.cos(np.pi * (np.minimum(share, 1) - 0.5)) ** 2, 1.0)
        taper[tick >= len(table)] = 0.0
        response = table[np.minimum(tick, len(table) - 1)] * taper * 2 * frequency[1] / rate
        matrix[output] = response - taper * response.sum() / taper.sum()
    return BlockFilter(matrix, width, block * down // up, rate, target)


class StreamingFilter:
    """Filters the samples of some leads as they arrive; the first sample is taken to have been there before."""

    def __init__(self, design: BlockFilter) -> None:
        self.design = design
        self._held: Floats | None = None

    def push(self, samples: npt.NDArray[np.floating]) -> Floats:
        """Take input samples `(samples, leads)`, finite, and return the output samples that are now complete."""
        design = self.design
        samples = np.asarray(samples, dtype=np.float64)
        if self._held is None:
            if not len(samples):
                return np.zeros((0, samples.shape[1]))
            self._held = np.repeat(samples[:1], design.half, axis=0)
        held = np.concatenate([self._held, samples])
        count = max(0, (len(held) - design.span) // design.step + 1)
        out = np.empty((count * design.block, held.shape[1]))
        for number in range(count):
            start = number * design.step
            part = np.ascontiguousarray(held[start : start + design.span])
            out[number * design.block : (number + 1) * design.block] = design.matrix @ part
        self._held = held[count * design.step :]
        return out

    def finish(self) -> Floats:
        """Return the output samples up to the last input sample, as if that one went on."""
        if self._held is None:
            return np.zeros((0, 0))
        rest = len(self._held) - self.design.half
        wanted = int(np.ceil(rest * self.design.target / self.design.rate))
        return self.push(np.repeat(self._held[-1:], self.design.span, axis=0))[:wanted]


def filter_signal(signal: npt.NDArray[np.floating], design: BlockFilter) -> Floats:
    """Return a whole signal `(samples, leads)` filtered, with all blocks in one product."""
    wanted = int(np.ceil(len(signal) * design.target / design.rate))
    count = -(-wanted // design.block)
    padding = ((design.half, design.span), (0, 0))
    padded = np.pad(np.asarray(signal, dtype=np.float64), padding, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, design.span, axis=0)[:: design.step][:count]
    out: Floats = np.einsum("nls,bs->nbl", windows, design.matrix, optimize=True)
    return out.reshape(-1, signal.shape[1])[:wanted]


def hold_gaps(
    samples: npt.NDArray[np.floating], before: npt.NDArray[np.floating] | None = None
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
    """Return samples `(samples, leads)` with the last value in place of missing ones, and where any is missing.

    Args:
        samples: not finite where missing.
        before: the last values of each lead before them; default: 0.
    """
    missing = ~np.isfinite(samples)
    if not missing.any():
        return samples, np.zeros(len(samples), dtype=np.bool_)
    start = np.zeros(samples.shape[1]) if before is None else np.asarray(before)
    padded = np.concatenate([start[None], samples])
    index = np.where(np.concatenate([np.zeros((1, samples.shape[1]), np.bool_), missing]), 0, 1)
    index = np.maximum.accumulate(index * np.arange(len(padded))[:, None], axis=0)
    return np.take_along_axis(padded, index, axis=0)[1:], missing.any(axis=1)
