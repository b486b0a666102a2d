"""Differences between the data of two hospitals, from aggregates that add up over sites: no row leaves a site.

Every site sends aggregates of its columns (variables of health records, or hand-crafted features of an ECG), scaled by
the hospitals' merged means and standard deviations: histograms over common bins, sums of random Fourier features, and
first and second moments. From the aggregates of two sites, or of two groups of sites, follow label shift, PSI and KS of
each column, the maximum mean discrepancy, and the AUROC of a linear discriminant between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from common.seeds import rng_for

Floats = npt.NDArray[np.float64]

ASINH_SCALE, MAX_DEVIATIONS, HISTOGRAM_BINS = 3.0, 10.0, 40
"""Bins of a histogram: evenly spaced in asinh(ASINH_SCALE z), z in standard deviations, up to MAX_DEVIATIONS."""
PSI_GROUPS = 10
"""Groups of bins of a population stability index, the usual number."""
SUPPRESSED = -1.0
"""The count of a bin that its site suppressed."""
N_FOURIER_FEATURES = 512
"""Random Fourier features; the error of their kernel is about N_FOURIER_FEATURES ** -0.5."""
BLOCK = 1 << 13
"""Rows whose features are computed at a time."""
MISSING_BIN = HISTOGRAM_BINS
"""Index of the bin that counts missing values, after the others."""


@dataclass(frozen=True)
class ColumnSummary:
    """Aggregates of the columns of a site, or of several sites together; in sums, missing values are 0.

    Attributes:
        cells: examples in each bin, `(columns, HISTOGRAM_BINS + 1)`, the last for missing values; SUPPRESSED where the
            site withholds a count.
        rows: number of examples behind the sums.
        embedding: sum of random Fourier features, `(N_FOURIER_FEATURES,)`.
        first: sums, `(columns,)`.
        second: sums of products, `(columns, columns)`.
    """

    cells: Floats
    rows: float
    embedding: Floats
    first: Floats
    second: Floats

    def __add__(self, other: ColumnSummary) -> ColumnSummary:
        """Return the summary of both sites together; a bin that one of them suppressed stays suppressed."""
        hidden = (self.cells == SUPPRESSED) | (other.cells == SUPPRESSED)
        return ColumnSummary(
            np.where(hidden, SUPPRESSED, self.cells + other.cells),
            self.rows + other.rows,
            self.embedding + other.embedding,
            self.first + other.first,
            self.second + other.second,
        )

    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the arrays that cross the wire, by name."""
        rest = {"embedding": self.embedding, "first": self.first, "second": self.second}
        return {"cells": self.cells, "rows": np.asarray(self.rows, np.float64), **rest}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float64]], columns: int) -> ColumnSummary:
        """Return the summary of received arrays.

        Args:
            arrays: as `arrays` returns them.
            columns: number of columns.

        Raises:
            ValueError: an array is missing, has another shape, or holds impossible values.
        """
        shapes = {
            "cells": (columns, HISTOGRAM_BINS + 1), "rows": (), "embedding": (N_FOURIER_FEATURES,), "first": (columns,),
            "second": (columns, columns),
        }  # fmt: skip
        if {name: value.shape for name, value in arrays.items()} != shapes:
            raise ValueError("its aggregates do not fit the columns")
        if not all(np.isfinite(value).all() for value in arrays.values()) or arrays["cells"].min() < SUPPRESSED:
            raise ValueError("its aggregates hold impossible numbers")
        return cls(arrays["cells"], float(arrays["rows"]), *(arrays[name] for name in ("embedding", "first", "second")))


def summarise_columns(z: Floats, people: npt.NDArray[np.int64], minimum: int, seed: int) -> ColumnSummary:
    """Return a site's summary.

    Args:
        z: scaled columns `(examples, columns)`; NaN: missing.
        people: `(examples,)`, the person of each example.
        minimum: bins with fewer people are suppressed, and another one where a column has only one such bin.
        seed: seed of the random features, the same at all sites.
    """
    rows, width = z.shape
    bins = histogram_bins(z)
    persons = np.unique(people, return_inverse=True)[1]
    cells = np.zeros((width, HISTOGRAM_BINS + 1))
    for column in range(width):
        cells[column] = np.bincount(bins[:, column], minlength=HISTOGRAM_BINS + 1)
        if minimum > 1:
            pairs = np.unique(persons * (HISTOGRAM_BINS + 1) + bins[:, column]) % (HISTOGRAM_BINS + 1)
            cells[column, bins_to_suppress(np.bincount(pairs, minlength=HISTOGRAM_BINS + 1), minimum)] = SUPPRESSED
    embedding, first, second = np.zeros(N_FOURIER_FEATURES), np.zeros(width), np.zeros((width, width))
    directions, phases = draw_fourier_directions(width, seed)
    for start in range(0, rows, BLOCK):
        part = np.clip(np.nan_to_num(z[start : start + BLOCK], nan=0.0), -MAX_DEVIATIONS, MAX_DEVIATIONS)
        embedding += fourier_features(part, directions, phases).sum(0)
        first += part.sum(0)
        second += part.T @ part
    return ColumnSummary(cells, float(rows), embedding, first, second)


def histogram_bins(z: Floats) -> npt.NDArray[np.int64]:
    """Return the histogram bin of each scaled value, in the shape of `z`; MISSING_BIN for NaN."""
    scaled = (np.arcsinh(ASINH_SCALE * np.nan_to_num(z)) / np.arcsinh(ASINH_SCALE * MAX_DEVIATIONS) + 1) * (
        HISTOGRAM_BINS / 2
    )
    return np.where(np.isnan(z), MISSING_BIN, np.clip(scaled, 0, HISTOGRAM_BINS - 1)).astype(np.int64)


def histogram_edges() -> Floats:
    """Return the edges of a histogram's bins in standard deviations, `(HISTOGRAM_BINS + 1,)`; the outermost are open.

    >>> bool(np.all(histogram_bins(histogram_edges()[1:-1] + 1e-9) == np.arange(1, HISTOGRAM_BINS)))
    True
    """
    even = np.linspace(-1.0, 1.0, HISTOGRAM_BINS + 1) * np.arcsinh(ASINH_SCALE * MAX_DEVIATIONS)
    return np.asarray(np.sinh(even) / ASINH_SCALE, np.float64)


def bins_to_suppress(people: npt.NDArray[np.int64], minimum: int) -> npt.NDArray[np.bool_]:
    """Return which bins of a column to suppress, given the number of people in each.

    A single suppressed bin could be computed from the sum, so the bin with the next fewest people is suppressed too.

    >>> bins_to_suppress(np.array([0, 3, 20, 9]), 5).tolist()
    [False, True, False, True]
    """
    hidden = (people > 0) & (people < minimum)
    others = np.flatnonzero((people > 0) & ~hidden)
    if hidden.sum() == 1 and len(others):
        hidden[others[people[others].argmin()]] = True
    return hidden


def draw_fourier_directions(width: int, seed: int) -> tuple[Floats, Floats]:
    """Return directions `(width, N_FOURIER_FEATURES)` and phases `(N_FOURIER_FEATURES,)` of random Fourier features.

    Rahimi and Recht 2007, NIPS. The kernel is exp(-|x - y|^2 / (2 width)); for two standardised, independent rows
    |x - y|^2 is 2 width on average.
    """
    rng = rng_for(seed, "domain shift", width)
    return rng.normal(size=(width, N_FOURIER_FEATURES)) / np.sqrt(width), rng.uniform(0, 2 * np.pi, N_FOURIER_FEATURES)


def fourier_features(z: Floats, directions: Floats, phases: Floats) -> Floats:
    """Return random Fourier features `(rows, N_FOURIER_FEATURES)`; their inner products approximate the kernel."""
    return np.asarray(np.sqrt(2 / N_FOURIER_FEATURES) * np.cos(z @ directions + phases), dtype=np.float64)


def mmd(one: ColumnSummary, other: ColumnSummary) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sites (Gretton et al. 2012, JMLR 13:723-773).

    A row's product with itself, 1, is left out of the mean of a site's products. Two samples of one distribution
    therefore give 0 on average, and sometimes less. NaN with fewer than two rows at a site.
    """

    def norm(item: ColumnSummary) -> float:
        square = float(item.embedding @ item.embedding)
        return (square - item.rows) / (item.rows * (item.rows - 1))

    if min(one.rows, other.rows) < 2:
        return float("nan")
    cross = float(one.embedding @ other.embedding) / (one.rows * other.rows)
    return norm(one) + norm(other) - 2 * cross


def psi(one: Floats, other: Floats, floor: float = 1e-4) -> Floats:
    """Return each column's population stability index `(columns,)` from the histograms of two sites `(columns, bins)`.

    The index is the sum over groups of bins of (p - q) ln(p / q). Here p and q are the shares of the two sites' values
    in a group; shares below `floor` count as `floor`. Bins are joined into about PSI_GROUPS groups of equal size in
    both histograms together, and missing values are one more group. Bins that either site suppressed are left out of
    both. The index is NaN where a site has no examples.
    """
    p, q = (_sum_groups(part, assign_psi_groups(one, other)) for part in _shares(one, other))
    value = ((np.maximum(p, floor) - np.maximum(q, floor)) * np.log(np.maximum(p, floor) / np.maximum(q, floor))).sum(1)
    return np.where(np.isnan(p + q).any(1), np.nan, value)


def psi_null_quantile(n: float, m: float) -> float:
    """Return the 95% point of the PSI of two samples of one distribution, with `n` and `m` independent rows.

    (1 / n + 1 / m) times the 95% point of the chi-square distribution with PSI_GROUPS degrees of freedom (Yurdakul and
    Naranjo 2020, Journal of Risk Model Validation 14(4)).
    """
    return float((1 / n + 1 / m) * special.chdtri(PSI_GROUPS, 0.05)) if min(n, m) > 0 else float("nan")


def assign_psi_groups(one: Floats, other: Floats) -> npt.NDArray[np.int64]:
    """Return the group of each bin, `(columns, bins)`: by the middle of its rank in both histograms together."""
    known = (one != SUPPRESSED) & (other != SUPPRESSED)
    both = np.where(known, one + other, 0.0)[:, :HISTOGRAM_BINS]
    middle = (np.cumsum(both, 1) - both / 2) / np.maximum(both.sum(1, keepdims=True), 1)
    group = np.minimum(middle * PSI_GROUPS, PSI_GROUPS - 1).astype(np.int64)
    return np.concatenate([group, np.full((len(one), 1), PSI_GROUPS)], axis=1)


def _sum_groups(shares: Floats, group: npt.NDArray[np.int64]) -> Floats:
    width = len(shares)
    index = group + np.arange(width)[:, None] * (PSI_GROUPS + 1)
    sums = np.bincount(index.ravel(), weights=shares.ravel(), minlength=width * (PSI_GROUPS + 1))
    return sums.reshape(width, PSI_GROUPS + 1).astype(np.float64)


def ks(one: Floats, other: Floats) -> Floats:
    """Return the largest distance between the two distribution functions of each column, `(columns,)`.

    Of measured values, at the edges of the bins: the Kolmogorov-Smirnov statistic up to differences within a bin.
    """
    p, q = _shares(one[:, :HISTOGRAM_BINS], other[:, :HISTOGRAM_BINS])
    return np.asarray(np.abs(np.cumsum(p, 1) - np.cumsum(q, 1)).max(1), dtype=np.float64)


def _shares(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    known = (one != SUPPRESSED) & (other != SUPPRESSED)
    p, q = np.where(known, one, 0.0), np.where(known, other, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)


def lda_auroc(one: ColumnSummary, other: ColumnSummary) -> float:
    """Return the AUROC of a linear discriminant between the rows of two sites, from first and second moments.

    Phi(D / sqrt(2)), where D is the Mahalanobis distance of the means by the pooled covariance, corrected for its bias
    in small samples (McLachlan 1992, Discriminant Analysis, sec. 9.4). Rows count as if independent.
    """
    n, m = one.rows, other.rows
    width = len(one.first)
    if min(n, m) < 2 or n + m <= width + 3:
        return float("nan")
    gap = one.first / n - other.first / m
    scatter = sum(item.second - np.outer(item.first, item.first) / item.rows for item in (one, other))
    covariance = np.asarray(scatter) / (n + m - 2)
    values, vectors = np.linalg.eigh(covariance)
    independent = values > 1e-6 * max(float(values.max()), 1e-12)  # without columns that are linear combinations
    rank = int(independent.sum())
    along = (vectors[:, independent].T @ gap) ** 2 / values[independent]
    distance = (n + m - rank - 3) / (n + m - 2) * float(along.sum()) - rank * (n + m) / (n * m)
    return float(special.ndtr(np.sqrt(max(distance, 0.0) / 2)))


def label_shift(one: Sequence[int], other: Sequence[int]) -> tuple[float, float]:
    """Return two distances between the class counts of two sites: Jensen-Shannon distance (base 2), and Cramer's V.

    Both are 0 for equal shares and 1 where no class occurs at both. NaN where a site has no example.
    """
    table = np.array([one, other], dtype=np.float64)
    table = table[:, table.sum(0) > 0]
    if (table.sum(1) == 0).any():
        return float("nan"), float("nan")
    if table.shape[1] < 2:
        return 0.0, 0.0
    from scipy.spatial.distance import jensenshannon  # with scipy.stats, 60 MB that most processes do not need
    from scipy.stats.contingency import association

    shares = table / table.sum(1, keepdims=True)
    return float(jensenshannon(shares[0], shares[1], base=2)), float(
        association(table.astype(np.int64), method="cramer")
    )
