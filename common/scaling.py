"""Federated scaling: inputs are scaled alike at every hospital, and no row leaves one.

Two ways. `standard`: each site sends, of every feature and channel, how many values it has, how many are
missing, their sum and their sum of squares; the server adds, and everyone uses the same mean and standard
deviation. `quantile`: after that, each site sends histograms over bins that this mean and deviation place, the
server adds, and a value becomes its rank in the merged histogram. Rank r becomes (r - 1/2) * sqrt(12): mean 0
and variance 1, like a standardised value, but no outlier goes far. What was not measured becomes 0, the mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.float64]]

RANK_BINS = 1024
"""Histogram bins of a feature: evenly spaced in asinh, so that they are finest about the mean."""
ASINH_SCALE, MAX_DEVIATIONS = 20.0, 1000.0
"""Spacing of the bins: linear within 1/FINEST standard deviations, the outermost at WIDEST deviations."""
BLOCK = 1 << 16


@dataclass(frozen=True)
class Scaling:
    """How inputs are scaled: features first, then channels, `width` in all.

    `centre`, `spread`: `(width,)`; `ranks`: `(width, CELLS)`, the scaled value of each bin, or no rows
    (standard).
    """

    centre: Floats
    spread: Floats
    ranks: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, RANK_BINS), np.float32))

    def apply(
        self, values: npt.NDArray[np.float32], first: int = 0, *, keep_missing: bool = False
    ) -> npt.NDArray[np.float32]:
        """Return `(rows, columns)` scaled; its columns are those of the scaling from `first` on."""
        columns = slice(first, first + values.shape[1])
        out = np.empty(values.shape, dtype=np.float32)
        for start in range(0, len(values), BLOCK):
            rows = slice(start, start + BLOCK)
            if len(self.ranks):
                place = rank_bins(values[rows], self.centre[columns], self.spread[columns])
                found = np.take_along_axis(self.ranks[columns].T, place, axis=0)
            else:
                found = ((values[rows] - self.centre[columns]) / self.spread[columns]).astype(np.float32)
            found[np.isnan(values[rows])] = np.nan if keep_missing else 0.0
            out[rows] = found
        return out

    def to_bytes(self) -> bytes:
        """Return the form that crosses the wire and lies in the run's folder."""
        from safetensors.numpy import save

        return save({"centre": self.centre, "spread": self.spread, "ranks": self.ranks})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Scaling:
        """Read what `to_bytes` gave.

        Raises:
            ValueError: it is something else.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found = load(raw)
            return cls(found["centre"], found["spread"], found["ranks"])
        except (SafetensorError, KeyError):
            raise ValueError("the scaling that came cannot be read") from None


def compute_column_moments(values: npt.NDArray[np.float32]) -> Arrays:
    """Return what a site sends of `(rows, columns)`: count, missing, total and square, each `(columns,)`."""
    width = values.shape[1]
    count, total, square = np.zeros(width), np.zeros(width), np.zeros(width)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK].astype(np.float64)
        here = ~np.isnan(block)
        block = np.where(here, block, 0.0)
        count += here.sum(0)
        total += block.sum(0)
        square += (block * block).sum(0)
    return {"count": count, "missing": len(values) - count, "total": total, "square": square}


def rank_bins(values: npt.NDArray[np.float32], centre: Floats, spread: Floats) -> npt.NDArray[np.int64]:
    """Return each value's bin, of the shape of `values`; a missing one's is 0 and means nothing."""
    z = np.nan_to_num((values - centre) / spread, nan=-MAX_DEVIATIONS)
    place = (np.arcsinh(ASINH_SCALE * z) / np.arcsinh(ASINH_SCALE * MAX_DEVIATIONS) + 1) * (RANK_BINS / 2)
    return np.asarray(np.clip(place, 0, RANK_BINS - 1), dtype=np.int64)


def count_rank_bins(values: npt.NDArray[np.float32], centre: Floats, spread: Floats) -> Floats:
    """Return what a site sends for ranks: counts `(columns, CELLS)` of the values that are not missing."""
    width = values.shape[1]
    found = np.zeros(width * RANK_BINS)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        index = rank_bins(block, centre, spread) + np.arange(width) * RANK_BINS
        found += np.bincount(index[~np.isnan(block)], minlength=width * RANK_BINS)
    return found.reshape(width, RANK_BINS)


def add_statistics(parts: Iterable[Arrays]) -> Arrays:
    """Return the sum of several sites' moments or histograms."""
    found: Arrays = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found[name] + value if name in found else value.astype(np.float64)
    return found


def fit_standard_scaling(merged: Arrays) -> Scaling:
    """Return the scaling to mean 0 and standard deviation 1; a feature that never varies keeps its scale."""
    count = np.maximum(merged["count"], 1)
    centre = merged["total"] / count
    variance = merged["square"] / count - centre**2
    tiny = 1e-9 * np.maximum(merged["square"] / count, 1e-12)  # what rounding leaves of a constant's variance
    spread = np.sqrt(np.where(variance > tiny, variance, 1.0))
    return Scaling(centre, spread)


def fit_quantile_scaling(base: Scaling, counts: Floats) -> Scaling:
    """Return the scaling to ranks; `counts`: merged histograms `(width, CELLS)` over the bins of `base`.

    Equal values share the middle of their ranks.
    """
    total = counts.sum(1, keepdims=True)
    below = np.cumsum(counts, axis=1) - counts
    rank = (below + counts / 2) / np.maximum(total, 1)
    scaled = np.where(total > 0, (rank - 0.5) * np.sqrt(12.0), 0.0)
    return Scaling(base.centre, base.spread, scaled.astype(np.float32))
