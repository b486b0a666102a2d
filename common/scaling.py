"""Federated scaling: inputs are scaled in the same way at every hospital, and no row leaves one.

`standard`: each site sends, for every feature and channel, the number of values, the number of missing values, their
sum and their sum of squares; the server adds them, and all sites use the same mean and standard deviation. `quantile`:
each site then sends histograms over bins placed by this mean and deviation; the server adds them, and a value is
replaced by its rank r in the merged histogram, as (r - 1/2) * sqrt(12), which has mean 0 and variance 1 but bounds
outliers. Missing values become 0, the mean. `bins`: as `quantile`, but missing values stay missing, for trees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.arrays import Weights, pack_arrays, unpack_arrays

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.float64]]

RANK_BINS = 1024
"""Histogram bins of a feature: evenly spaced in asinh(ASINH_SCALE z), so that they are finest near the mean."""
ASINH_SCALE, MAX_DEVIATIONS = 20.0, 1000.0
"""Bins are about equally wide within 1 / ASINH_SCALE standard deviations; the outermost is at MAX_DEVIATIONS."""
BLOCK = 1 << 16
"""Rows that are scaled at a time."""


@dataclass(frozen=True)
class Scaling:
    """How the `width` columns of the inputs are scaled: features first, then channels.

    Attributes:
        centre: mean of each column, `(width,)`, in its own units.
        spread: standard deviation of each column, `(width,)`.
        ranks: scaled value of each bin, `(width, RANK_BINS)`; no rows where scaling is standard.
        keeps_missing: whether missing values stay NaN.
    """

    centre: Floats
    spread: Floats
    ranks: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, RANK_BINS), np.float32))
    keeps_missing: bool = False

    def is_usable(self) -> bool:
        """Return whether centre, spread and ranks are finite, of one width, and every spread is above 0."""
        width = self.centre.shape
        fits = len(width) == 1 and self.spread.shape == width
        ranks = self.ranks.shape in ((0, RANK_BINS), (*width, RANK_BINS))
        finite = all(bool(np.isfinite(part).all()) for part in (self.centre, self.spread, self.ranks))
        return fits and ranks and finite and bool((self.spread > 0).all())

    def apply(
        self, values: npt.NDArray[np.float32], first: int = 0, *, keep_missing: bool = False
    ) -> npt.NDArray[np.float32]:
        """Return values `(rows, columns)` scaled, as float32.

        Args:
            values: rows of some columns.
            first: index, among the scaling's columns, of the first column of `values`.
            keep_missing: keep NaN in place of 0, as where `keeps_missing` is set.
        """
        columns = slice(first, first + values.shape[1])
        out = np.empty(values.shape, dtype=np.float32)
        for start in range(0, len(values), BLOCK):
            rows = slice(start, start + BLOCK)
            if len(self.ranks):
                bins = rank_bins(values[rows], self.centre[columns], self.spread[columns])
                scaled = np.take_along_axis(self.ranks[columns].T, bins, axis=0)
            else:
                scaled = ((values[rows] - self.centre[columns]) / self.spread[columns]).astype(np.float32)
            scaled[np.isnan(values[rows])] = np.nan if keep_missing or self.keeps_missing else 0.0
            out[rows] = scaled
        return out

    def to_bytes(self) -> bytes:
        """Return the scaling as it crosses the wire and is stored in the run's folder."""
        arrays: Weights = {"centre": self.centre, "spread": self.spread, "ranks": self.ranks}
        if self.keeps_missing:
            arrays["keeps_missing"] = np.ones(1, np.uint8)
        return pack_arrays(arrays)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Scaling:
        """Return the scaling that `to_bytes` wrote.

        Raises:
            ValueError: the content is something else.
        """
        arrays = unpack_arrays(raw, ("centre", "spread", "ranks"), "scaling")
        return cls(arrays["centre"], arrays["spread"], arrays["ranks"], "keeps_missing" in arrays)


def compute_column_moments(values: npt.NDArray[np.float32]) -> Arrays:
    """Return a site's sums over `(rows, columns)`: count, missing, total and square, each `(columns,)`."""
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
    """Return the bin of each value, in the shape of `values`; that of a missing value is 0 and has no meaning."""
    z = np.nan_to_num((values - centre) / spread, nan=-MAX_DEVIATIONS)
    bins = (np.arcsinh(ASINH_SCALE * z) / np.arcsinh(ASINH_SCALE * MAX_DEVIATIONS) + 1) * (RANK_BINS / 2)
    return np.asarray(np.clip(bins, 0, RANK_BINS - 1), dtype=np.int64)


def count_rank_bins(values: npt.NDArray[np.float32], centre: Floats, spread: Floats) -> Floats:
    """Return a site's histograms `(columns, RANK_BINS)` of the values that are not missing."""
    width = values.shape[1]
    counts = np.zeros(width * RANK_BINS)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        index = rank_bins(block, centre, spread) + np.arange(width) * RANK_BINS
        counts += np.bincount(index[~np.isnan(block)], minlength=width * RANK_BINS)
    return counts.reshape(width, RANK_BINS)


def add_statistics(parts: Iterable[Arrays]) -> Arrays:
    """Return the sums, by name, of several sites' statistics."""
    merged: Arrays = {}
    for part in parts:
        for name, value in part.items():
            merged[name] = merged[name] + value if name in merged else value.astype(np.float64)
    return merged


def fit_standard_scaling(merged: Arrays) -> Scaling:
    """Return the scaling to mean 0 and standard deviation 1; constant columns are only centred.

    Args:
        merged: the sites' sums, as `compute_column_moments` names them.
    """
    count = np.maximum(merged["count"], 1)
    centre = merged["total"] / count
    variance = merged["square"] / count - centre**2
    tiny = 1e-9 * np.maximum(merged["square"] / count, 1e-12)  # a constant's variance, up to rounding
    spread = np.sqrt(np.where(variance > tiny, variance, 1.0))
    return Scaling(centre, spread)


def fit_quantile_scaling(base: Scaling, counts: Floats) -> Scaling:
    """Return the scaling to ranks; values in one bin share the middle of their ranks.

    Args:
        base: standard scaling, which places the bins.
        counts: merged histograms `(width, RANK_BINS)`.
    """
    total = counts.sum(1, keepdims=True)
    below = np.cumsum(counts, axis=1) - counts
    rank = (below + counts / 2) / np.maximum(total, 1)
    scaled = np.where(total > 0, (rank - 0.5) * np.sqrt(12.0), 0.0)
    return Scaling(base.centre, base.spread, scaled.astype(np.float32))
