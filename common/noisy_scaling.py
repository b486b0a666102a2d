"""Scaling from noisy sums, for federations whose training is private.

Every input has a public range [low, high]; u is the position of a value in it, from -1 to 1 (values outside are moved
to the edge). Each unit (a person, or an example) contributes, for every input, the mean of its u, the mean of its u^2,
and whether it was measured. The whole vector is clipped to one norm, and a site sends the noisy sum over its units
(client/privacy/noisy_sums.py). Mean and variance are then those of units weighted by the clipping.

Inputs of the range [0, 1] (yes or no, a share) have no unit that scaling must remove: they are not summed, which leaves
less noise for the others, and are mapped to -1 to 1. Where the noise is as large as the sum, as for rarely measured
inputs, a prior from the range dominates: it counts as PRIOR_WEIGHT standard deviations of the noise in further units.
A variance is increased by what one standard deviation of the noise may have taken from it, so that noise does not
magnify an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.scaling import Arrays, Scaling

Floats = npt.NDArray[np.float64]

PRIOR_WEIGHT = 2.0
"""Weight of the prior, in standard deviations of the noise."""
PRIOR_SECOND_MOMENT = 1 / 9
"""Mean of u^2 of the prior: three standard deviations reach to either end of the range."""
MIN_SPREAD = 0.05
"""Lower bound of a standard deviation, in halves of the range."""


def inputs_with_units(low: Floats, high: Floats) -> npt.NDArray[np.bool_]:
    """Return which inputs have units and so are summed: those whose range is not [0, 1]."""
    return np.asarray((low != 0) | (high != 1))


@dataclass(frozen=True)
class NoisyMoments:
    """One site's noisy sums over its units.

    Attributes:
        measured: number of units that have the input, `(summed,)`; `(1,)` where all units have all inputs.
        first: sum of the units' means of u, `(summed,)`.
        second: sum of the units' means of u^2, `(summed,)`.
        low: lower ends of the public ranges, `(inputs,)`.
        high: upper ends of the public ranges, `(inputs,)`.
        deviation: standard deviation of the noise on `first` and `second`.
    """

    measured: Floats
    first: Floats
    second: Floats
    low: Floats
    high: Floats
    deviation: float

    def arrays(self) -> Arrays:
        """Return the arrays that cross the wire, by name."""
        return {name: getattr(self, name) for name in ("measured", "first", "second", "low", "high")}

    @classmethod
    def from_arrays(cls, arrays: Arrays, deviation: float) -> NoisyMoments:
        """Return the sums of received arrays.

        Args:
            arrays: as `arrays` returns them.
            deviation: standard deviation of the noise.

        Raises:
            ValueError: the arrays do not fit together or hold impossible values.
        """
        if set(arrays) != {"measured", "first", "second", "low", "high"}:
            raise ValueError("not the sums of a private federation")
        width = arrays["low"].shape
        if len(width) != 1 or arrays["high"].shape != width:
            raise ValueError("its ranges do not fit the task's inputs")
        held = (int(inputs_with_units(arrays["low"], arrays["high"]).sum()),)
        if any(arrays[name].shape != held for name in ("first", "second")) or arrays["measured"].shape not in (
            held,
            (1,),
        ):
            raise ValueError("its sums do not fit the task's inputs")
        usable = all(np.isfinite(value).all() for value in arrays.values()) and 0 <= deviation < np.inf
        if not usable or not (arrays["low"] < arrays["high"]).all():
            raise ValueError("its sums hold impossible numbers")
        return cls(**{name: value.astype(np.float64) for name, value in arrays.items()}, deviation=float(deviation))


def fit_noisy_scaling(parts: Sequence[NoisyMoments]) -> Scaling:
    """Return the scaling to approximately mean 0 and standard deviation 1.

    Args:
        parts: the sites' sums.

    Raises:
        ValueError: there are no parts, or their ranges differ.
    """
    if not parts:
        raise ValueError("no sums to scale by")
    first = parts[0]
    if any(not (np.array_equal(first.low, one.low) and np.array_equal(first.high, one.high)) for one in parts):
        raise ValueError("the sites state different ranges of their inputs: give them the same version and options")
    deviation = float(np.sqrt(sum(one.deviation**2 for one in parts)))
    prior = PRIOR_WEIGHT * deviation
    measured = np.maximum(np.sum([one.measured for one in parts], axis=0), 0.0) + prior
    known = measured > 0  # without units and noise only the range is known
    divisor = np.where(known, measured, 1.0)
    mean = np.where(known, np.sum([one.first for one in parts], axis=0) / divisor, 0.0)
    mean = np.clip(mean, -1.0, 1.0)
    second = np.where(
        known,
        (np.sum([one.second for one in parts], axis=0) + prior * PRIOR_SECOND_MOMENT) / divisor,
        PRIOR_SECOND_MOMENT,
    )
    doubt = np.where(known, (1 + 2 * abs(mean)) * deviation / divisor, 0.0)
    spread = np.sqrt(np.clip(second - mean**2 + doubt, MIN_SPREAD**2, 1.0))
    middle, half = (first.low + first.high) / 2, (first.high - first.low) / 2
    centre, deviations, summed = middle.copy(), half.copy(), inputs_with_units(first.low, first.high)
    centre[summed] += mean * half[summed]
    deviations[summed] *= spread
    return Scaling(centre, deviations)
