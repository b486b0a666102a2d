"""Groups of patients: how they are named, and how figures of groups are compared.

`Frame` has the shape of fairlearn's MetricFrame (Bird et al. 2020, MSR-TR-2020-32): one figure of every group, the
overall one, and what lies between the best and the worst off.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.metrics.figures import Figure
from common.metrics.intervals import make_figure

UNKNOWN = "unknown"
SEXES = ("female", "male", UNKNOWN)


def name_bands(edges: Sequence[float]) -> tuple[str, ...]:
    """Return the names of the bands between rising edges, the last for what is not known.

    >>> name_bands((40, 65.5))
    ('under 40', '40 to under 65.5', '65.5 and over', 'unknown')
    """
    middle = [f"{low:g} to under {high:g}" for low, high in itertools.pairwise(edges)]
    return (f"under {edges[0]:g}", *middle, f"{edges[-1]:g} and over", UNKNOWN)


def band_indices(values: npt.ArrayLike, edges: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return the index of each value's band among `bands(edges)`; NaN is not known."""
    found = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(found), len(edges) + 1, np.searchsorted(edges, found, side="right")).astype(np.int64)


@dataclass(frozen=True)
class GroupComparison:
    """One figure of each group and over all; groups that have none (NaN) are passed over in comparisons.

    `drawn`: of each group its values in resamples of the patients, drawn together; `patients`: how many in all.
    """

    by_group: Mapping[str, float]
    overall: float
    drawn: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    patients: int = 0

    def _known(self) -> dict[str, float]:
        return {name: value for name, value in self.by_group.items() if np.isfinite(value)}

    def group_min(self) -> tuple[str, float] | None:
        """Return the group with the least value, None if there is none."""
        known = self._known()
        return min(known.items(), key=lambda item: (item[1], item[0])) if known else None

    def group_max(self) -> tuple[str, float] | None:
        """Return the group with the greatest value."""
        known = self._known()
        return max(known.items(), key=lambda item: (item[1], item[0])) if known else None

    def difference(self) -> Figure:
        """Return the greatest less the least value, fairlearn's `difference(method="between_groups")`.

        The interval is read off resamples, in each of which the greatest and least groups are sought anew: between
        groups that do not differ at all the gap is above 0 all the same.
        """
        return self._between(lambda values: values.max(0) - values.min(0))

    def ratio(self) -> Figure:
        """Return the least over the greatest value, fairlearn's `ratio()`; of figures that are not below 0."""

        def share(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            top = values.max(0)
            return np.asarray(values.min(0) / np.where(top > 0, top, np.nan))

        return self._between(share)

    def _between(self, of: object) -> Figure:
        known = self._known()
        if len(known) < 2 or not callable(of):
            return Figure(value=None)
        value = float(of(np.asarray(list(known.values()))[:, None])[0])
        sample = of(np.stack([self.drawn[name] for name in known])) if set(known) <= set(self.drawn) else None
        return make_figure(value, sample, self.patients)
