"""Limits of plausible values, of a cell and of a hospital's median, and the description of cells beyond them.

To a model, a value in a wrong unit (mmol/L, µmol/L, °F, kPa), a code for "missing" (0, -99, 9999) or a typing error
is a number like any other. Two checks keep it out. The median over a hospital's patients is within `median` whoever
they are, and within the narrower `usual` if they are MANY, so one outside means another unit, and the hospital is
refused. A cell outside `cell` cannot be a living patient's, and one that is exactly 999 or the like is a code: both are
read as not measured, and counted by column. The limits of a cell are wide: they do not tidy the data of a very sick
patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

INF = float("inf")
MANY = 20
"""Patients whose median is held to `Limits.usual`."""
MISSING_CODES = (-99_999.0, -9999.0, -999.0, 999.0, 9999.0, 99_999.0)
"""Numbers that stand for a missing value where they are within the limits of a cell."""

REVERSED_SHARE = 0.5
"""In the public data at most 2% of such pairs are reversed."""

_T = TypeVar("_T", bound=np.floating)


@dataclass(frozen=True)
class Limits:
    """Limits of one column.

    Attributes:
        unit: its unit.
        cell: lowest and highest plausible value.
        median: lowest and highest plausible median over a hospital's patients.
        usual: lowest and highest plausible median over at least MANY patients; None: as `median`.
        whole: whether only whole numbers are plausible.
        codes: whether MISSING_CODES stand for a missing value.
    """

    unit: str
    cell: tuple[float, float]
    median: tuple[float, float] = (-INF, INF)
    usual: tuple[float, float] | None = None
    whole: bool = False
    codes: bool = True

    def median_limits(self, patients: int) -> tuple[float, float]:
        """Return the lowest and highest plausible median over a number of patients."""
        return self.median if self.usual is None or patients < MANY else self.usual

    def find_implausible(self, values: npt.NDArray[_T]) -> npt.NDArray[np.bool_]:
        """Return a mask of the values that no living patient can have; False for NaN."""
        low, high = self.cell
        outside = (values < low) | (values > high)
        return np.asarray(outside | (values % 1 > 0) if self.whole else outside)

    def find_codes(self, values: npt.NDArray[_T]) -> npt.NDArray[np.bool_]:
        """Return which values within the limits of a cell are a code for a missing value."""
        low, high = self.cell
        known = [code for code in MISSING_CODES if low <= code <= high] if self.codes else []
        return np.asarray(np.isin(values, known))


ORDERED = (
    ("dbp", "map"), ("map", "sbp"), ("dbp", "sbp"), ("bilirubin_direct", "bilirubin_total"), ("bili_dir", "bili"),
    ("hgb", "hct"), ("pco2", "po2"), ("pco2", "pao2"), ("hco3", "paco2"), ("bicar", "pco2"),
)  # fmt: skip
"""Pairs of columns, in small letters, whose first is the smaller one of a patient but for errors of measurement."""


RISING = (("baseexcess", "hco3"), ("baseexcess", "ph"), ("be", "bicar"), ("be", "ph"))
"""Pairs of columns, in small letters, whose first rises with the second (correlation 0.57 to 0.99 in public data)."""
FALLING, MIN_ROWS = -0.3, 100
"""Correlation from which down such a column has the wrong sign, and the fewest rows of which it is judged."""


def find_wrong_sign(values: Mapping[str, npt.NDArray[np.floating]]) -> str | None:
    """Return a column whose sign is turned round, as a base deficit for a base excess.

    Args:
        values: columns of the same rows by name, NaN where not measured.
    """
    columns = {name.lower(): (name, column) for name, column in values.items()}
    for rising, other in RISING:
        if rising in columns and other in columns:
            (name, column), (_, second) = columns[rising], columns[other]
            known = ~np.isnan(column) & ~np.isnan(second)
            if known.sum() < MIN_ROWS or not np.ptp(column[known]) or not np.ptp(second[known]):
                continue
            correlation: npt.NDArray[np.float64] = np.asarray(np.corrcoef(column[known], second[known]))
            if correlation[0, 1] <= FALLING:
                return name
    return None


def find_reversed_pair(values: Mapping[str, npt.NDArray[np.floating]]) -> tuple[str, str] | None:
    """Return two columns that seem to be turned round: the first of a pair is mostly the larger one.

    Args:
        values: columns of the same rows by name, NaN where not measured.
    """
    columns = {name.lower(): (name, column) for name, column in values.items()}
    for low, high in ORDERED:
        if low in columns and high in columns:
            (small, below), (large, above) = columns[low], columns[high]
            known = ~np.isnan(below) & ~np.isnan(above)
            if known.sum() >= MANY and (below[known] > above[known]).mean() > REVERSED_SHARE:
                return small, large
    return None


def describe_cleared(column: str, limits: Limits) -> str:
    """Return the words under which cells beyond their limits are counted.

    >>> describe_cleared("glucose", Limits("mg/dL", (10, 3000)))
    'glucose outside 10 to 3000 mg/dL, read as not measured'
    """
    low, high = limits.cell
    return f"{column} outside {low:g} to {high:g} {limits.unit}, read as not measured"


def describe_codes(column: str) -> str:
    """Return the words under which codes for a missing value are counted.

    >>> describe_codes("glucose")
    'glucose of 999 or the like, a code, read as not measured'
    """
    return f"{column} of 999 or the like, a code, read as not measured"
