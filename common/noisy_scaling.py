"""Scaling from noisy sums: what sites send of their inputs when their training is private.

Every input has a public range [low, high]; u is a value's place in it, -1 to 1 (beyond it: the edge). Each unit
(a person, or an example) gives of every input the mean of its u, the mean of its u^2, and whether it was measured; the
whole vector is clipped to one norm, and a site sends the noisy sum over its units (client/privacy/noisy_sums.py). Of
the
clipped sums, mean and variance are those of units weighted by how much was left of each.

Inputs of the range [0, 1] (yes or no, a share) have no unit that a scaling must take away: they are not summed, which
leaves the others less noise, and become -1 to 1. Where the noise is as large as the sum, as for what is seldom
measured, the answer leans on the range alone: `LEAN` deviations of the noise count as so many more units, of which
nothing is known but that the range is theirs. A variance is taken larger by what one deviation of the noise may have
taken from it, so that noise does not blow an input up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.scaling import Arrays, Scaling

Floats = npt.NDArray[np.float64]

PRIOR_WEIGHT = 2.0
PRIOR_SECOND_MOMENT = 1 / 9
"""Mean of u^2 of units of which only the range is known: three standard deviations to either end."""
MIN_SPREAD = 0.05
"""Least standard deviation, in halves of the range."""


def inputs_with_units(low: Floats, high: Floats) -> npt.NDArray[np.bool_]:
    """Return which inputs are summed: those whose range is not [0, 1]."""
    return np.asarray((low != 0) | (high != 1))


@dataclass(frozen=True)
class NoisyMoments:
    """One site's noisy sums.

    `seen`: units that have the input, `(summed,)`, or `(1,)` where all have all; `first`, `second`: sums of the units'
    means of u and u^2, `(summed,)`; `low`, `high`: the public ranges, `(inputs,)`; `deviation`: of the noise on first
    and second.
    """

    seen: Floats
    first: Floats
    second: Floats
    low: Floats
    high: Floats
    deviation: float

    def arrays(self) -> Arrays:
        """Return what crosses the wire as arrays."""
        return {name: getattr(self, name) for name in ("seen", "first", "second", "low", "high")}

    @classmethod
    def of(cls, arrays: Arrays, deviation: float) -> NoisyMoments:
        """Read what `arrays` gave.

        Raises:
            ValueError: they are no such sums.
        """
        if set(arrays) != {"seen", "first", "second", "low", "high"}:
            raise ValueError("not the sums of a private federation")
        width = arrays["low"].shape
        if len(width) != 1 or arrays["high"].shape != width:
            raise ValueError("its ranges do not fit the task's inputs")
        held = (int(inputs_with_units(arrays["low"], arrays["high"]).sum()),)
        if any(arrays[name].shape != held for name in ("first", "second")) or arrays["seen"].shape not in (held, (1,)):
            raise ValueError("its sums do not fit the task's inputs")
        usable = all(np.isfinite(value).all() for value in arrays.values()) and 0 <= deviation < np.inf
        if not usable or not (arrays["low"] < arrays["high"]).all():
            raise ValueError("its sums are not numbers that can be")
        return cls(**{name: value.astype(np.float64) for name, value in arrays.items()}, deviation=float(deviation))


def fit_noisy_scaling(parts: Sequence[NoisyMoments]) -> Scaling:
    """Return the scaling to about mean 0 and standard deviation 1.

    Raises:
        ValueError: there are no parts, or their ranges differ.
    """
    if not parts:
        raise ValueError("no sums to scale by")
    first = parts[0]
    if any(not (np.array_equal(first.low, one.low) and np.array_equal(first.high, one.high)) for one in parts):
        raise ValueError("the sites state different ranges of their inputs: give them the same version and options")
    deviation = float(np.sqrt(sum(one.deviation**2 for one in parts)))
    lean = PRIOR_WEIGHT * deviation
    seen = np.maximum(np.sum([one.seen for one in parts], axis=0), 0.0) + lean
    known = seen > 0  # without units and without noise only the range is known
    over = np.where(known, seen, 1.0)
    mean = np.where(known, np.sum([one.first for one in parts], axis=0) / over, 0.0)
    mean = np.clip(mean, -1.0, 1.0)
    second = np.where(
        known, (np.sum([one.second for one in parts], axis=0) + lean * PRIOR_SECOND_MOMENT) / over, PRIOR_SECOND_MOMENT
    )
    doubt = np.where(known, (1 + 2 * abs(mean)) * deviation / over, 0.0)
    spread = np.sqrt(np.clip(second - mean**2 + doubt, MIN_SPREAD**2, 1.0))
    middle, half = (first.low + first.high) / 2, (first.high - first.low) / 2
    centre, wide, chosen = middle.copy(), half.copy(), inputs_with_units(first.low, first.high)
    centre[chosen] += mean * half[chosen]
    wide[chosen] *= spread
    return Scaling(centre, wide)
