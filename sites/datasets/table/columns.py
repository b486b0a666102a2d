"""Columns of a table as they stand in a file: distinct values and, for each row, which of them it has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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
        codes: int32 `(rows,)`, index into the distinct texts; -1: missing.
        words: the distinct texts without spaces around them, as an Arrow array: 100,000 Python strings take 6 MB.
    """

    codes: Codes
    words: Any

    @property
    def values(self) -> tuple[str, ...]:
        """The distinct texts."""
        return tuple(self.words.to_pylist())

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    @property
    def different(self) -> int:
        """Number of distinct values."""
        return len(self.words)

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
        index = {value: position for position, group in enumerate(wanted) for value in group}
        value_codes = np.asarray([index.get(value, -2) for value in self.values], dtype=np.int32)
        result: Codes = self.spread(value_codes, -1)
        return result

    def first_row(self, value_codes: npt.NDArray[np.bool_]) -> int:
        """Return the first row, counted from 1, that has one of the marked values; 0: none has."""
        rows = np.flatnonzero(self.spread(value_codes, False))
        return int(rows[0]) + 1 if len(rows) else 0

    def spellings(self, number: float, decimal: str = ".") -> list[str]:
        """Return the texts that stand for a number."""
        is_number = parse_words(self.words, decimal) == number
        return [value for value, same in zip(self.values, is_number, strict=True) if same]

    def numbers(self, decimal: str = ".") -> Floats:
        """Return the numbers, float64 `(rows,)`, NaN where missing.

        Raises:
            CellError: a value is not a number.
        """
        parsed = parse_words(self.words, decimal)
        bad = ~np.isfinite(parsed)
        if bad.any() and (row := self.first_row(bad)):
            raise CellError(row, "not a number")
        numbers: Floats = self.spread(parsed, np.nan)
        return numbers


PLAIN_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"


def parse_words(words: Any, decimal: str = ".") -> Floats:
    """Return an Arrow array of texts as numbers, as `parse_numbers` does."""
    import pyarrow.compute as pc

    if decimal == "." and bool(pc.all(pc.match_substring_regex(words, PLAIN_NUMBER), min_count=0).as_py()):
        plain = pc.replace_substring_regex(words, r"^[+]", "")
        numbers: Floats = plain.cast("float64").to_numpy(zero_copy_only=False).astype(np.float64)
        return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)
    return parse_numbers(words.to_pylist(), decimal)


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


class NumberColumn(Column):
    """A column of many different numbers, not all of them whole, of which only the numbers are held."""

    def __init__(self, numbers: Floats, codes_as_written: Sequence[str] = ()) -> None:
        """Take the number of each row, NaN where missing, and the texts of numbers that may be codes for missing."""
        object.__setattr__(self, "held", numbers)
        object.__setattr__(self, "codes_as_written", tuple(codes_as_written))

    held: Floats
    codes_as_written: tuple[str, ...]

    @property
    def _unique(self) -> tuple[Floats, Codes]:
        given = ~np.isnan(self.held)
        unique, inverse = np.unique(self.held[given], return_inverse=True)
        codes = np.full(len(self.held), -1, dtype=np.int32)
        codes[given] = inverse
        return unique, codes

    @property
    def codes(self) -> Codes:
        """Index of each row into the distinct numbers; -1: missing."""
        return self._unique[1]

    @property
    def words(self) -> Any:
        """The distinct numbers as an Arrow array of texts."""
        import pyarrow as pa

        return pa.array(self._unique[0]).cast(pa.string())

    @property
    def different(self) -> int:
        """Number of distinct values."""
        return len(np.unique(self.held[~np.isnan(self.held)]))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.held)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which rows have a value."""
        return ~np.isnan(self.held)

    def spellings(self, number: float, decimal: str = ".") -> list[str]:
        """Return the texts that stand for a number which may be a code for missing."""
        parsed = parse_numbers(self.codes_as_written, decimal)
        return [text for text, own in zip(self.codes_as_written, parsed, strict=True) if own == number]

    def numbers(self, decimal: str = ".") -> Floats:
        """Return the numbers, float64 `(rows,)`, NaN where missing."""
        return self.held


def holds_plain_values(kind: Any) -> bool:
    """Return whether the cells of an Arrow type are numbers, texts, dates or truth values; not lists or bytes."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return not (types.is_duration(kind) or types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind)
                or types.is_fixed_size_binary(kind))  # fmt: skip


def as_texts(array: Any) -> Any:
    """Return an Arrow column as texts; truth values as 1 and 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
    if pa.types.is_boolean(array.type):
        return pc.if_else(array, "1", "0")
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def to_column(array: Any, missing: Iterable[str]) -> Column:
    """Return an Arrow array as a `Column`, without the spaces around its texts.

    Args:
        array: an Arrow array, in one piece or in chunks.
        missing: the texts that stand for a missing value; an empty text always does.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    absent = [*missing, ""]
    array = as_texts(array)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    encoded = array.dictionary_encode()
    words = pc.utf8_trim_whitespace(encoded.dictionary)
    words = pc.if_else(pc.is_in(words, value_set=pa.array(absent, pa.string())), pa.scalar(None, pa.string()), words)
    again = words.dictionary_encode()  # two texts may be equal without spaces
    moved = np.append(again.indices.fill_null(-1).to_numpy(zero_copy_only=False), -1).astype(np.int32)
    raw = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Column(moved[raw], again.dictionary)
