"""Columns of a table as they stand in a file: distinct values and, for each row, which of them it has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
LARGEST = float(np.finfo(np.float32).max)
"""Inputs are float32."""


class CellError(Exception):
    """A cell cannot be read.

    Attributes:
        row: the row, counted from 1 without the line of names.
        problem: what is wrong, without the value.
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(problem)
        self.row, self.problem = row, problem


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        codes: int32 `(rows,)`, index into `values`; -1: missing.
        values: the distinct texts, without spaces around them.
    """

    codes: Codes
    values: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which rows have a value."""
        return self.codes >= 0

    def texts(self) -> list[str]:
        """Return the text of each row, "" where it is missing."""
        table = np.asarray([*self.values, ""], dtype=object)
        texts: list[str] = table[self.codes].tolist()
        return texts

    def spread(self, table: npt.NDArray[Any], missing: float) -> npt.NDArray[Any]:
        """Return, for each row, the item of `table` that belongs to its value, or `missing`."""
        return np.append(table, np.asarray([missing], dtype=table.dtype))[self.codes]

    def positions(self, wanted: Sequence[Collection[str]]) -> Codes:
        """Return for each row the index in `wanted` of the collection with its value; -1: missing, -2: in none."""
        value_codes = np.full(len(self.values), -2, dtype=np.int32)
        for position, group in enumerate(wanted):
            for i, value in enumerate(self.values):
                if value in group:
                    value_codes[i] = position
        result: Codes = self.spread(value_codes, -1)
        return result

    def first_row(self, value_codes: npt.NDArray[np.bool_]) -> int:
        """Return the first row, counted from 1, that has one of the marked values; 0: none has."""
        rows = np.flatnonzero(self.spread(value_codes, False))
        return int(rows[0]) + 1 if len(rows) else 0

    def numbers(self, decimal: str = ".") -> Floats:
        """Return the numbers, float64 `(rows,)`, NaN where missing.

        Raises:
            CellError: a value is not a number.
        """
        parsed = parse_numbers(self.values, decimal)
        bad = ~np.isfinite(parsed)
        if bad.any() and (row := self.first_row(bad)):
            raise CellError(row, "not a number")
        numbers: Floats = self.spread(parsed, np.nan)
        return numbers


def parse_numbers(values: Sequence[str], decimal: str = ".") -> Floats:
    """Return texts as numbers, NaN where one is not a plain decimal number that float32 holds.

    Statistics programs write missing cells as numbers such as 1.797e308, the largest there is.

    >>> parse_numbers(["1.5", "-2e3", "1,5", "0x10", "inf", "True", "1_000", "1.797e308"]).tolist()
    [1.5, -2000.0, nan, nan, nan, nan, nan, nan]
    >>> parse_numbers(["1,5", "1.5"], ",").tolist()
    [1.5, nan]
    """
    import pandas as pd

    if not values:
        return np.zeros(0)
    texts = pd.Series(list(values), dtype=object)
    joined = "\n".join(values)
    if set(joined) <= set("0123456789+-eE\n" + decimal):
        plain = np.ones(len(values), dtype=np.bool_)
    else:
        allowed = set("0123456789+-eE" + decimal)
        plain = np.asarray([set(value) <= allowed for value in values])
    if decimal != ".":
        texts = texts.str.replace(decimal, ".", regex=False)
    numbers = pd.to_numeric(texts.where(plain), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.where(plain & (np.abs(numbers) <= LARGEST), numbers, np.nan)


def encode_texts(texts: Sequence[str], missing: Collection[str]) -> Column:
    """Return a column from the text of each row."""
    position: dict[str, int] = {}
    codes = np.empty(len(texts), dtype=np.int32)
    for i, text in enumerate(texts):
        text = text.strip()
        codes[i] = -1 if text in missing else position.setdefault(text, len(position))
    return Column(codes, tuple(position))
