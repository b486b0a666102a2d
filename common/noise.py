"""Randomness for privacy: which units take part in a step, and the Gaussian noise on its sum.

Secure: the key stream of ChaCha20 (RFC 8439) under a key from the operating system (os.urandom), new for each round at
each site, from the `cryptography` library; the states of torch's and NumPy's generators can be computed from their
output, and torchcsprng is no longer maintained. Seeded: for tests only. Whoever knows the seed can remove the noise, so
that such a run is NOT PRIVATE and says so everywhere.

Floating point: noise that is drawn as a float and added to a float leaks through the gaps between floats (Mironov
2012, doi:10.1145/2382196.2382264). Against that:
- the sum of contributions and the noise are each rounded to whole multiples of one grain, a power of two of at most
  2**-30 of the noise's deviation, in float64, where adding such multiples is exact. The result has the same possible
  values whatever the data, and rounding the noise before or after adding a whole multiple is the same: the release is
  a rounding of the Gaussian mechanism on the rounded sum. That rounding adds at most grain * sqrt(coordinates) to
  the sensitivity; `clip_margin` leaves room for it, and for the rounding of gradients themselves.
- each value is the sum of two Box-Muller values (1958), each from two uniform numbers of 53 bits (as Holohan
  and Braghin 2021, arXiv:2107.10138, sum several): within 8 deviations no gap between values is wider than the grain,
  and the four uniform numbers behind a pair of values cannot be computed from it.
- contributions are clipped to 0.1% less than is accounted for: float32 kernels may round one unit's gradient
  differently (by some 1e-7 of it) depending on the units drawn with it.
What remains: the noise is Gaussian to the precision of float64, with no tail beyond 12.2 deviations, not exactly
(Canonne, Kamath and Steinke 2020, arXiv:2004.00010, would be); dropout and augmentation come from torch's generator,
whose secret seed has 31 bits; how long a step takes is not hidden.
"""

from __future__ import annotations

import math
import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
GRAIN = 2.0**-30
"""Grain in standard deviations of the noise, which are rounded down to a power of two."""
BLOCK = 1 << 20
"""Uniform numbers that are drawn at a time."""
PAIRS = 4096
"""Pairs of normal numbers that are computed at a time."""


class RandomSource(Protocol):
    """A stream of independent uniform numbers.

    Attributes:
        private: true if nobody can reproduce the stream.
    """

    private: bool

    def uniform(self, count: int) -> Floats:
        """Return uniform numbers `(count,)` above 0 and below 1, of 53 bits."""


class SecureSource:
    """ChaCha20 under a random key that is not stored; not for use by several threads."""

    private = True

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

        # 64 random bits of nonce, with the block counter from 0: 2**70 bytes before the stream repeats
        nonce = bytes(8) + os.urandom(8)
        self._stream = Cipher(algorithms.ChaCha20(os.urandom(32), nonce), mode=None).encryptor()

    def uniform(self, count: int) -> Floats:
        """Return uniform numbers `(count,)` above 0 and below 1, of 53 bits."""
        sizes = [min(BLOCK, count - start) for start in range(0, count, BLOCK)]
        parts = [np.frombuffer(self._stream.update(bytes(8 * size)), np.uint64) for size in sizes]
        return _uniform(parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint64), *parts]))


class SeededSource:
    """NumPy's PCG64, for tests: NOT PRIVATE."""

    private = False

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def uniform(self, count: int) -> Floats:
        """Return uniform numbers `(count,)` above 0 and below 1, of 53 bits."""
        return _uniform(np.asarray(self._bits.random_raw(count), np.uint64))


def _uniform(bits: npt.NDArray[np.uint64]) -> Floats:
    numbers = (bits >> np.uint64(11)).astype(np.float64)
    numbers += 0.5
    numbers *= 2.0**-53
    return numbers


def draw_units(source: RandomSource, units: int, q: float) -> npt.NDArray[np.int64]:
    """Return the indices of the units that take part in a step, each independently with probability q."""
    return np.flatnonzero(source.uniform(units) < q)


def draw_normal(source: RandomSource, count: int) -> Floats:
    """Return standard normal numbers `(count,)`, each the sum of two Box-Muller values of variance 1/2.

    In each block of PAIRS pairs the cosines come first, then the sines.
    """
    import torch  # several times as fast as NumPy in logarithms and cosines

    numbers = np.empty(count)
    for start in range(0, count, 2 * PAIRS):  # a block fits into the processor's cache
        pairs = min(PAIRS, (count - start + 1) // 2)
        uniform = torch.from_numpy(source.uniform(4 * pairs)).view(4, pairs)
        length = uniform[:2].log_().neg_().sqrt_()  # with deviation 1 / sqrt(2), because two are added
        angle = uniform[2:].mul_(2 * math.pi)
        cosines, sines = angle.cos().mul_(length), angle.sin_().mul_(length)
        both = torch.cat([cosines[0].add_(cosines[1]), sines[0].add_(sines[1])])
        numbers[start : start + 2 * pairs] = both[: count - start].numpy()
    return numbers


def add_noise(total: Floats, deviation: float, source: RandomSource) -> Floats:
    """Return a sum with Gaussian noise, both rounded to whole grains.

    Args:
        total: the sum, `(coordinates,)`.
        deviation: standard deviation of the noise.
        source: random numbers.

    Raises:
        ValueError: the deviation is not above 0, or the sum is so large that float64 cannot hold whole grains.
    """
    if not 0 < deviation < math.inf:
        raise ValueError(f"noise needs a standard deviation above 0, got {deviation}")
    grain = compute_grain(deviation)
    whole = total * (1 / grain)  # exact, like a division by a power of two
    np.rint(whole, out=whole)
    if not max(whole.max(initial=0.0), -whole.min(initial=0.0)) <= 2.0**51:  # also refuses NaN
        raise ValueError("the sum is too large for its noise")
    added = draw_normal(source, len(total))
    added *= deviation / grain
    whole += np.rint(added, out=added)
    whole *= grain
    return np.asarray(whole)


def compute_grain(deviation: float) -> float:
    """Return the grain for a standard deviation of the noise: the power of two that sums and noise are multiples of.

    >>> compute_grain(3.0) == 2.0 * GRAIN
    True
    """
    return 2.0 ** math.floor(math.log2(deviation)) * GRAIN


def clip_margin(coordinates: int, sigma: float) -> float:
    """Return the share of the clipping norm to which contributions are clipped, so that rounding stays within it.

    The rest covers the rounding to whole grains and of float32 gradients.

    >>> round(clip_margin(54_000, 1.0), 4)
    0.999
    """
    return 1 - 1e-3 - GRAIN * sigma * math.sqrt(coordinates)
