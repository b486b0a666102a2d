"""Limits of plausible values, of a cell and of a hospital's median, and the description of cells beyond them.

To a model, a value in a wrong unit (mmol/L, µmol/L, °F, kPa), a code for "missing" (0, -99, 9999) or a typing error
is a number like any other. Two checks keep it out. The median over any hospital's patients is within `median`, so
one outside means another unit, and the hospital is refused. A cell outside `cell` cannot be a living
patient's: it is read as not measured, and counted by column. The limits are wide: they do not tidy the data of a very
sick patient.
"""

from __future__ import annotations

from dataclasses import dataclass

INF = float("inf")


@dataclass(frozen=True)
class Limits:
    """Limits of one column.

    Attributes:
        unit: its unit.
        cell: lowest and highest plausible value.
        median: lowest and highest plausible median over a hospital's patients.
    """

    unit: str
    cell: tuple[float, float]
    median: tuple[float, float] = (-INF, INF)


def describe_cleared(column: str, limits: Limits) -> str:
    """Return the words under which cells beyond their limits are counted.

    >>> describe_cleared("glucose", Limits("mg/dL", (10, 3000)))
    'glucose outside 10 to 3000 mg/dL, read as not measured'
    """
    low, high = limits.cell
    return f"{column} outside {low:g} to {high:g} {limits.unit}, read as not measured"
