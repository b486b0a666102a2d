"""How far two hospitals' data lie apart, from aggregates that add up over sites: no row leaves one.

Every site sends, of its columns (EHR variables, or an ECG's hand-crafted features), scaled by the hospitals' merged
means and deviations: histograms over common cells, the mean of random Fourier features, the first and second moments.
From any two sites', or sums of sites', come label shift, PSI and KS of each column, the maximum mean discrepancy, and
the AUROC by which a linear discriminant tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.spatial.distance import jensenshannon
from scipy.stats.contingency import association

from common.seeds import rng_for

Floats = npt.NDArray[np.float64]

ASINH_SCALE, MAX_DEVIATIONS, HISTOGRAM_BINS = 3.0, 10.0, 40
"""Cells of a histogram: evenly spaced in asinh(INNER z), z in deviations, between -OUTER and OUTER."""
PSI_GROUPS = 10
"""Groups of cells of a stability index, as is customary."""
SUPPRESSED = -1.0
"""Stands for a cell that its site suppressed."""
N_FOURIER_FEATURES = 512
"""Random Fourier features; the error of their kernel is about FOURIER ** -0.5."""
BLOCK = 1 << 13
MISSING_BIN = HISTOGRAM_BINS
"""The place of the cell that counts missing values, behind the others."""


@dataclass(frozen=True)
class ColumnSummary:
    """What a site sends of its columns, or what several do together.

    `cells`: `(columns, CELLS + 1)`, examples, the last: missing; HIDDEN: suppressed. `rows`: how many examples
    `embedding` `(FOURIER,)`, `first` `(columns,)` and `second` `(columns, columns)` are sums over; missing is 0.
    """

    cells: Floats
    rows: float
    embedding: Floats
    first: Floats
    second: Floats

    def __add__(self, other: ColumnSummary) -> ColumnSummary:
        """Return the summary of both; a cell that one of them suppressed stays suppressed."""
        hidden = (self.cells == SUPPRESSED) | (other.cells == SUPPRESSED)
        return ColumnSummary(
            np.where(hidden, SUPPRESSED, self.cells + other.cells),
            self.rows + other.rows,
            self.embedding + other.embedding,
            self.first + other.first,
            self.second + other.second,
        )

    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the form that crosses the wire."""
        rest = {"embedding": self.embedding, "first": self.first, "second": self.second}
        return {"cells": self.cells, "rows": np.asarray(self.rows, np.float64), **rest}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.float64]], columns: int) -> ColumnSummary:
        """Read what `arrays` gave.

        Raises:
            ValueError: an array is missing, of another shape, or holds what cannot be.
        """
        shapes = {
            "cells": (columns, HISTOGRAM_BINS + 1), "rows": (), "embedding": (N_FOURIER_FEATURES,), "first": (columns,),
            "second": (columns, columns),
        }  # fmt: skip
        if {name: value.shape for name, value in arrays.items()} != shapes:
            raise ValueError("its aggregates do not fit the columns")
        if not all(np.isfinite(value).all() for value in arrays.values()) or arrays["cells"].min() < SUPPRESSED:
            raise ValueError("its aggregates are not numbers that can be")
        return cls(arrays["cells"], float(arrays["rows"]), *(arrays[name] for name in ("embedding", "first", "second")))


def summarise_columns(z: Floats, people: npt.NDArray[np.int64], least: int, seed: int) -> ColumnSummary:
    """Return a site's summary.

    Args:
        z: scaled columns `(examples, columns)`, NaN missing.
        people: `(examples,)`, the person of each.
        least: cells that rest on fewer people are suppressed, and one more of a column that has only one such.
        seed: of the random features, the same at all sites.
    """
    rows, width = z.shape
    place = histogram_bins(z)
    persons = np.unique(people, return_inverse=True)[1]
    cells = np.zeros((width, HISTOGRAM_BINS + 1))
    for column in range(width):
        cells[column] = np.bincount(place[:, column], minlength=HISTOGRAM_BINS + 1)
        if least > 1:
            pairs = np.unique(persons * (HISTOGRAM_BINS + 1) + place[:, column]) % (HISTOGRAM_BINS + 1)
            cells[column, bins_to_suppress(np.bincount(pairs, minlength=HISTOGRAM_BINS + 1), least)] = SUPPRESSED
    embedding, first, second = np.zeros(N_FOURIER_FEATURES), np.zeros(width), np.zeros((width, width))
    directions, phases = draw_fourier_directions(width, seed)
    for start in range(0, rows, BLOCK):
        part = np.clip(np.nan_to_num(z[start : start + BLOCK], nan=0.0), -MAX_DEVIATIONS, MAX_DEVIATIONS)
        embedding += fourier_features(part, directions, phases).sum(0)
        first += part.sum(0)
        second += part.T @ part
    return ColumnSummary(cells, float(rows), embedding, first, second)


def histogram_bins(z: Floats) -> npt.NDArray[np.int64]:
    """Return each value's cell, of the shape of `z`; MISSING for NaN."""
    scaled = (np.arcsinh(ASINH_SCALE * np.nan_to_num(z)) / np.arcsinh(ASINH_SCALE * MAX_DEVIATIONS) + 1) * (
        HISTOGRAM_BINS / 2
    )
    return np.where(np.isnan(z), MISSING_BIN, np.clip(scaled, 0, HISTOGRAM_BINS - 1)).astype(np.int64)


def bins_to_suppress(people: npt.NDArray[np.int64], least: int) -> npt.NDArray[np.bool_]:
    """Return which cells of a column are suppressed, given the people in each.

    A single one could be told from the sum, so the cell with the fewest people of the others goes too.

    >>> bins_to_suppress(np.array([0, 3, 20, 9]), 5).tolist()
    [False, True, False, True]
    """
    hidden = (people > 0) & (people < least)
    others = np.flatnonzero((people > 0) & ~hidden)
    if hidden.sum() == 1 and len(others):
        hidden[others[people[others].argmin()]] = True
    return hidden


def draw_fourier_directions(width: int, seed: int) -> tuple[Floats, Floats]:
    """Return directions `(width, FOURIER)` and phases `(FOURIER,)` of the random features (Rahimi and Recht 2007).

    The kernel is exp(-|x - y|^2 / (2 width)): of two standardised, independent rows |x - y|^2 is 2 width on average.
    """
    rng = rng_for(seed, "domain shift", width)
    return rng.normal(size=(width, N_FOURIER_FEATURES)) / np.sqrt(width), rng.uniform(0, 2 * np.pi, N_FOURIER_FEATURES)


def fourier_features(z: Floats, directions: Floats, phases: Floats) -> Floats:
    """Return the random features of rows `(rows, FOURIER)`, whose products are about the kernel."""
    return np.asarray(np.sqrt(2 / N_FOURIER_FEATURES) * np.cos(z @ directions + phases), dtype=np.float64)


def mmd(one: ColumnSummary, other: ColumnSummary) -> float:
    """Return the squared maximum mean discrepancy of two sites, without bias (Gretton et al. 2012, JMLR 13:723-773).

    A row's product with itself, 1, is taken out of the mean of a site's products, so that two samples of one
    distribution give 0 on average, and may give less.
    """

    def norm(item: ColumnSummary) -> float:
        square = float(item.embedding @ item.embedding)
        return (square - item.rows) / (item.rows * (item.rows - 1))

    if min(one.rows, other.rows) < 2:
        return float("nan")
    cross = float(one.embedding @ other.embedding) / (one.rows * other.rows)
    return norm(one) + norm(other) - 2 * cross


def psi(one: Floats, other: Floats, floor: float = 1e-4) -> Floats:
    """Return the population stability index of each column of two histograms `(columns, cells)`.

    The sum over groups of (p - q) ln(p / q); a share below `floor` counts as `floor`. Groups are of cells, about GROUPS
    of like size in both together, and missing values are one more. Cells that either suppressed are left out of both.
    NaN without examples.
    """
    p, q = (_grouped(part, assign_psi_groups(one, other)) for part in _shares(one, other))
    value = ((np.maximum(p, floor) - np.maximum(q, floor)) * np.log(np.maximum(p, floor) / np.maximum(q, floor))).sum(1)
    return np.where(np.isnan(p + q).any(1), np.nan, value)


def psi_null_quantile(n: float, m: float) -> float:
    """Return the PSI that two samples of one distribution stay below in 95 of 100 cases, rows being independent.

    (1 / n + 1 / m) times chi-square's 95% point of GROUPS degrees of freedom (Yurdakul and Naranjo 2020, Journal of
    Risk Model Validation 14(4)).
    """
    return float((1 / n + 1 / m) * special.chdtri(PSI_GROUPS, 0.05)) if min(n, m) > 0 else float("nan")


def assign_psi_groups(one: Floats, other: Floats) -> npt.NDArray[np.int64]:
    """Return the group of each cell, `(columns, cells)`: by the middle of its rank in both together."""
    known = (one != SUPPRESSED) & (other != SUPPRESSED)
    both = np.where(known, one + other, 0.0)[:, :HISTOGRAM_BINS]
    middle = (np.cumsum(both, 1) - both / 2) / np.maximum(both.sum(1, keepdims=True), 1)
    group = np.minimum(middle * PSI_GROUPS, PSI_GROUPS - 1).astype(np.int64)
    return np.concatenate([group, np.full((len(one), 1), PSI_GROUPS)], axis=1)


def _grouped(shares: Floats, group: npt.NDArray[np.int64]) -> Floats:
    width = len(shares)
    index = group + np.arange(width)[:, None] * (PSI_GROUPS + 1)
    found = np.bincount(index.ravel(), weights=shares.ravel(), minlength=width * (PSI_GROUPS + 1))
    return found.reshape(width, PSI_GROUPS + 1).astype(np.float64)


def ks(one: Floats, other: Floats) -> Floats:
    """Return the largest distance of the two distribution functions of each column, at the cells' edges.

    Of values that are measured. It is the Kolmogorov-Smirnov statistic but for what lies within a cell.
    """
    p, q = _shares(one[:, :HISTOGRAM_BINS], other[:, :HISTOGRAM_BINS])
    return np.asarray(np.abs(np.cumsum(p, 1) - np.cumsum(q, 1)).max(1), dtype=np.float64)


def _shares(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    known = (one != SUPPRESSED) & (other != SUPPRESSED)
    p, q = np.where(known, one, 0.0), np.where(known, other, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)


def lda_auroc(one: ColumnSummary, other: ColumnSummary) -> float:
    """Return the AUROC by which a linear discriminant tells two sites' rows apart, from means and second moments alone.

    Phi(D / sqrt(2)), D Mahalanobis' distance of the means over the pooled covariance, freed of the bias that it has in
    small samples (McLachlan 1992, Discriminant Analysis, sec. 9.4). Rows count as if independent.
    """
    n, m = one.rows, other.rows
    width = len(one.first)
    if min(n, m) < 2 or n + m <= width + 3:
        return float("nan")
    gap = one.first / n - other.first / m
    scatter = sum(item.second - np.outer(item.first, item.first) / item.rows for item in (one, other))
    covariance = np.asarray(scatter) / (n + m - 2)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-6 * max(float(values.max()), 1e-12)  # columns that are sums of others
    rank = int(kept.sum())
    along = (vectors[:, kept].T @ gap) ** 2 / values[kept]
    distance = (n + m - rank - 3) / (n + m - 2) * float(along.sum()) - rank * (n + m) / (n * m)
    return float(special.ndtr(np.sqrt(max(distance, 0.0) / 2)))


def label_shift(one: Sequence[int], other: Sequence[int]) -> tuple[float, float]:
    """Return how far two sites' counts of classes lie apart: Jensen-Shannon distance (base 2), and Cramer's V.

    Both are 0 for equal shares and 1 where no class is shared. NaN where a site has no example.
    """
    table = np.array([one, other], dtype=np.float64)
    table = table[:, table.sum(0) > 0]
    if (table.sum(1) == 0).any():
        return float("nan"), float("nan")
    if table.shape[1] < 2:
        return 0.0, 0.0
    shares = table / table.sum(1, keepdims=True)
    return float(jensenshannon(shares[0], shares[1], base=2)), float(
        association(table.astype(np.int64), method="cramer")
    )
