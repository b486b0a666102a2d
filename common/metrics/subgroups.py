"""Groups of patients: their names, and the comparison of a metric between groups.

`GroupComparison` has the shape of fairlearn's MetricFrame (Bird et al. 2020, MSR-TR-2020-32).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.metrics.early_warning import Floats
from common.metrics.figures import Figure
from common.metrics.intervals import make_figure

UNKNOWN = "unknown"
SEXES = ("female", "male", UNKNOWN)


def name_bands(edges: Sequence[float]) -> tuple[str, ...]:
    """Return the names of the bands between rising edges, the last one for unknown values.

    >>> name_bands((40, 65.5))
    ('under 40', '40 to under 65.5', '65.5 and over', 'unknown')
    """
    middle = [f"{low:g} to under {high:g}" for low, high in itertools.pairwise(edges)]
    return (f"under {edges[0]:g}", *middle, f"{edges[-1]:g} and over", UNKNOWN)


def band_indices(values: npt.ArrayLike, edges: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return the index of each value's band among `name_bands(edges)`; NaN belongs to the last, unknown."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(numbers), len(edges) + 1, np.searchsorted(edges, numbers, side="right")).astype(np.int64)


@dataclass(frozen=True)
class GroupComparison:
    """One metric of each group and over all; groups without a value (NaN) are not compared.

    The groups with the lowest and the highest value are named by the data, once; the interval is that of the signed
    difference between these two. (If the extremes were sought again in each resample, the difference would be positive
    in nearly all of them, and its interval would exclude 0 even if no groups differ.) Because the two are the extreme
    ones of `pairs` pairs, the difference tends to be too large; the interval does not account for this choice.

    Attributes:
        by_group: the metric of each group.
        overall: the metric over all patients.
        drawn: the metric of each group in resamples of the patients, drawn together.
        patients: number of patients of each group.
    """

    by_group: Mapping[str, float]
    overall: float
    drawn: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    patients: Mapping[str, int] = field(default_factory=dict)

    def _known(self) -> dict[str, float]:
        return {name: value for name, value in self.by_group.items() if np.isfinite(value)}

    @property
    def pairs(self) -> int:
        """Number of pairs of groups from which the pair with the greatest difference is chosen."""
        return math.comb(len(self._known()), 2)

    def group_min(self) -> tuple[str, float] | None:
        """Return the group with the lowest value and that value, None if there is none."""
        known = self._known()
        return min(known.items(), key=lambda item: (item[1], item[0])) if known else None

    def group_max(self) -> tuple[str, float] | None:
        """Return the group with the highest value and that value, None if there is none."""
        known = self._known()
        return max(known.items(), key=lambda item: (item[1], item[0])) if known else None

    def difference(self) -> Figure:
        """Return the highest minus the lowest value, fairlearn's `difference(method="between_groups")`."""
        return self._compare(lambda low, high: high - low)

    def ratio(self) -> Figure:
        """Return the lowest value divided by the highest, as fairlearn's `ratio()`; not for negative values."""
        return self._compare(lambda low, high: np.asarray(low / np.where(high > 0, high, np.nan)))

    def _compare(self, compute: Callable[[Floats, Floats], Floats]) -> Figure:
        low, high = self.group_min(), self.group_max()
        if low is None or high is None or len(self._known()) < 2:
            return Figure(value=None)
        names = (low[0], high[0])
        sample = compute(*(self.drawn[name] for name in names)) if set(names) <= set(self.drawn) else None
        value = float(compute(np.asarray(low[1]), np.asarray(high[1])))
        return make_figure(value, sample, sum(self.patients.get(name, 0) for name in names))
