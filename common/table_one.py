"""Rows of Table 1 (who the patients of each hospital are), and how numbers in it are written."""

from __future__ import annotations

from dataclasses import dataclass

from common.percent import format_percent

DIGITS = 3
"""Significant digits of medians and quartiles."""


@dataclass(frozen=True)
class TableOneRow:
    """One row of the table.

    Attributes:
        name: what is counted or measured.
        cells: the text for each hospital.
    """

    name: str
    cells: tuple[str, ...]


def format_people(number: int, people: int, floor: int) -> str:
    """Return a number of people with its share, or that it is small.

    >>> format_people(30, 120, 5), format_people(2, 120, 5), format_people(119, 120, 5), format_people(0, 120, 5)
    ('30 (25%)', '<5', '>115', '<5')
    """
    if number < floor:
        return f"<{floor}"
    if people - number < floor and people > number:
        return f">{people - floor}"
    return f"{number} ({format_percent(number / people)})"


def format_quartiles(low: float, middle: float, high: float) -> str:
    """Return a median with its quartiles.

    >>> format_quartiles(0.81, 1.0, 1.234)
    '1 (0.81 to 1.23)'
    """
    texts = [f"{value:.{DIGITS}g}" for value in (low, middle, high)]
    return f"{texts[1]} ({texts[0]} to {texts[2]})"
