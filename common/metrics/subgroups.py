"""Groups of patients: their names, and comparisons of a metric between them.

`GroupComparison` follows fairlearn's MetricFrame (Bird et al. 2020, MSR-TR-2020-32): a metric of every group and of all
patients, and the difference and ratio between the extreme groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.metrics.figures import Figure
from common.metrics.intervals import make_figure

UNKNOWN = "unknown"
SEXES = ("female", "male", UNKNOWN)


def name_bands(edges: Sequence[float]) -> tuple[str, ...]:
    """Return the names of the bands between increasing edges, and last the name for unknown values.

    >>> name_bands((40, 65.5))
    ('under 40', '40 to under 65.5', '65.5 and over', 'unknown')
    """
    middle = [f"{low:g} to under {high:g}" for low, high in itertools.pairwise(edges)]
    return (f"under {edges[0]:g}", *middle, f"{edges[-1]:g} and over", UNKNOWN)


def band_indices(values: npt.ArrayLike, edges: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return the index of each value's band among `name_bands(edges)`; NaN is unknown."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(numbers), len(edges) + 1, np.searchsorted(edges, numbers, side="right")).astype(np.int64)


@dataclass(frozen=True)
class GroupComparison:
    """A metric of each group and of all patients; groups without a value (NaN) are left out of comparisons.

    Attributes:
        by_group: value by group.
        overall: value of all patients.
        drawn: values of each group in resamples of the patients, which are drawn together.
        patients: number of patients.
    """

    by_group: Mapping[str, float]
    overall: float
    drawn: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    patients: int = 0

    def _known(self) -> dict[str, float]:
        return {name: value for name, value in self.by_group.items() if np.isfinite(value)}

    def group_min(self) -> tuple[str, float] | None:
        """Return the group with the lowest value, and the value; None: no group has one."""
        known = self._known()
        return min(known.items(), key=lambda item: (item[1], item[0])) if known else None

    def group_max(self) -> tuple[str, float] | None:
        """Return the group with the highest value, and the value; None: no group has one."""
        known = self._known()
        return max(known.items(), key=lambda item: (item[1], item[0])) if known else None

    def difference(self) -> Figure:
        """Return the highest minus the lowest value, as fairlearn's `difference(method="between_groups")`.

        The extreme groups are determined anew in each resample, so that the interval lies above 0 even for groups that
        do not differ.
        """
        return self._compare(lambda values: values.max(0) - values.min(0))

    def ratio(self) -> Figure:
        """Return the lowest divided by the highest value, as fairlearn's `ratio()`; for metrics of at least 0."""

        def divide(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            highest = values.max(0)
            return np.asarray(values.min(0) / np.where(highest > 0, highest, np.nan))

        return self._compare(divide)

    def _compare(self, compare: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Figure:
        """Return a comparison of groups, which takes values `(groups, resamples)` and returns `(resamples,)`."""
        known = self._known()
        if len(known) < 2:
            return Figure(value=None)
        value = float(compare(np.asarray(list(known.values()))[:, None])[0])
        sample = compare(np.stack([self.drawn[name] for name in known])) if set(known) <= set(self.drawn) else None
        return make_figure(value, sample, self.patients)
