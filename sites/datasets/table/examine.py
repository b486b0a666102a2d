"""A table as it is looked at before it is described: its columns, and what was found about them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.table.columns import (
    CellError,
    Column,
    Floats,
    NumberColumn,
    holds_plain_values,
    parse_words,
    to_column,
)
from sites.datasets.table.description import Reading
from sites.datasets.table.files import is_parquet, is_table_file, iterate_batches
from sites.datasets.table.sniff import sniff_reading

MISSING_WORDS = (
    "", "NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "Null", "null", "None", "none", "?", "-", "--", ".", "missing",
    "Missing", "unknown", "Unknown", "not measured",
)  # fmt: skip
PLUS, MINUS = "+", "-"
"""A minus is an answer, and no missing cell, in a table in which a plus is one."""
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
MISSING_CODES = (
    "-1", "-8", "-9", "-88", "-99", "-888", "-999", "-9999", "9", "88", "99", "888", "999", "9999", "99999",
)  # fmt: skip
MANY_VALUES = 10_000
"""Different values from which on a column of numbers is held without its texts."""
BLOCK_ROWS = 65_536
OTHER_ENDINGS = (
    ".xlsx", ".xls", ".xlsm", ".ods", ".zip", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz", ".json", ".jsonl",
    ".feather", ".arrow", ".sas7bdat", ".xpt", ".dta", ".sav", ".rds", ".rdata", ".db", ".sqlite",
)  # fmt: skip
"""Of files that may hold a table that is not read here."""


@dataclass(frozen=True)
class Finding:
    """What the reader of a description should know.

    Attributes:
        level: "wrong" must be corrected before a run, "check" should be looked at, "note" says what was done.
        column: the column, or "".
        text: what was seen, without a patient's value.
    """

    level: str
    column: str
    text: str


@dataclass
class Table:
    """The columns of all files together.

    Attributes:
        path: the file or folder that was looked at.
        reading: how the files are written.
        columns: every column, with words for missing values as missing.
        rows: number of rows.
        file: which file each row is from.
    """

    path: Path
    reading: Reading
    columns: dict[str, Column]
    rows: int
    file: npt.NDArray[np.int64]
    findings: list[Finding] = field(default_factory=list)

    def say(self, level: str, column: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, column, text))

    def numbers(self, name: str) -> Floats | None:
        """Return a column as numbers, or None if a value is none."""
        column = self.columns[name]
        if not column.different:
            return None
        try:
            return column.numbers(self.reading.decimal)
        except CellError:
            return None


def load_table(path: Path) -> Table:
    """Return all columns of the files at a path.

    Raises:
        DataError: they cannot be read, or their columns differ.
    """
    reading = sniff_reading(path)
    folder = path.parent if path.is_file() else path
    builders, nested, rows, missing = _read_columns(folder, reading)
    known = {word for column in builders.values() for word in column.words_for_missing}
    columns = {name: column.build() for name, column in builders.items()}
    reading = reading.model_copy(update={"missing": tuple(word for word in missing if word in known or word == "")})
    file = np.repeat(np.arange(len(rows)), rows)
    table = Table(path, reading, columns, sum(rows), file)
    if reading.encoding == "cp1252":
        table.say("check", "", "its text is not UTF-8 and is read as cp1252 (Western Europe): if a word with other "
                  "letters than a to z looks wrong, save the file as UTF-8")  # fmt: skip
    for name in nested:
        table.say("check", name, "left out: it holds lists, bytes or durations, not numbers or texts")
    if path.is_dir() and (others := _list_other_tables(path)):
        table.say("check", "", f"left out, because only CSV and Parquet files of this folder are read: {others}")
    return table


def _list_other_tables(folder: Path) -> str:
    """Return the files of a folder that look like tables of another kind, and folders with tables, in words."""
    others = [
        item.name + ("/" if item.is_dir() else "")
        for item in sorted(folder.iterdir())
        if not item.name.startswith(".")
        and (any(map(is_table_file, item.iterdir())) if item.is_dir() else item.name.lower().endswith(OTHER_ENDINGS))
    ]
    return ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")


def _read_columns(
    folder: Path, reading: Reading
) -> tuple[dict[str, ColumnBuilder], list[str], list[int], tuple[str, ...]]:
    """Return the columns of all files, names of those with lists, rows of each file, and the words for missing.

    What only the last row may show, that a column holds texts or that a minus is an answer, is read for once more.
    """
    texts: set[str] = set()
    missing: tuple[str, ...] = MISSING_WORDS
    while True:
        columns, nested, rows = _read_once(folder, reading, texts, missing)
        failed = {name for name, column in columns.items() if column.failed}
        signs = {sign for column in columns.values() for sign in column.signs}
        if MINUS in missing and signs == {PLUS, MINUS}:
            missing = tuple(word for word in missing if word != MINUS)
        elif not failed:
            break
        texts |= failed
    return columns, nested, rows, missing


def _read_once(
    folder: Path, reading: Reading, texts: set[str], missing: tuple[str, ...]
) -> tuple[dict[str, ColumnBuilder], list[str], list[int]]:
    columns: dict[str, ColumnBuilder] = {}
    nested: dict[str, None] = {}
    rows = []
    for file in reading.files:
        path, count = folder / file, 0
        decimal = "." if is_parquet(path) else reading.decimal
        for batch in iterate_batches(path, reading):
            names = list(batch.schema.names)
            if not columns:
                _check_names(path, names)
                columns = {name: ColumnBuilder(missing, name not in texts) for name in names}
            if sorted(names) != sorted(columns):
                odd = sorted(set(names) ^ set(columns))
                raise DataError(f"{path}: its columns are not those of {reading.files[0]}: see {odd[0]}")
            for i, name in enumerate(names):
                if not holds_plain_values(batch.column(i).type):
                    nested[name] = None
                elif name not in nested:
                    columns[name].add(batch.column(i), decimal)
            count += batch.num_rows
        rows.append(count)
    if not sum(rows):
        raise DataError(f"{folder / reading.files[0]}: it has a line of names and no row")
    return {name: column for name, column in columns.items() if name not in nested}, list(nested), rows


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) == 1:
        raise DataError(
            f"{path}: only one column: the first line must name the columns, with a comma, semicolon, tab or | "
            "between them"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: two columns are called {twice[0]}: give each its own name")
    if "" in names:
        raise DataError(f"{path}: column {names.index('') + 1} has no name")


class ColumnBuilder:
    """Joins the parts of a column; of many different numbers only the numbers are held.

    Attributes:
        words_for_missing: which of the words for missing occur.
        signs: which of PLUS and MINUS are values or words for missing.
        failed: whether the column was held as numbers when a row without one followed: it must be read again.
    """

    def __init__(self, missing: tuple[str, ...], may_be_numbers: bool) -> None:
        """Take the words for missing, and whether the column may be held as numbers."""
        self.words_for_missing: set[str] = set()
        self.signs: set[str] = set()
        self.failed = False
        self._missing = missing[1:]
        self._may_be_numbers = may_be_numbers
        self._parts: list[Column] = []
        self._numbers: list[Floats] = []
        self._codes: dict[str, None] = {}
        self._different = 0
        self._filled = 0

    def add(self, array: Any, decimal: str) -> None:
        """Take some rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        plain = to_column(array, ())
        if self.failed:
            self.signs |= {sign for sign in (PLUS, MINUS) if pc.index(plain.words, sign).as_py() >= 0}
            return
        absent = pc.is_in(plain.words, value_set=pa.array([*self._missing], pa.string()))
        is_sign = pc.is_in(plain.words, value_set=pa.array([PLUS, MINUS], pa.string()))
        self.words_for_missing |= set(plain.words.filter(absent).to_pylist())
        self.signs |= set(plain.words.filter(is_sign).to_pylist())
        gone = absent.to_numpy(zero_copy_only=False)
        moved = np.append(np.where(gone, -1, np.cumsum(~gone) - 1), -1)
        part = Column(moved[plain.codes].astype(np.int32), plain.words.filter(pc.invert(absent)))
        if self._numbers:
            self._append(part, decimal)
            return
        self._parts.append(part)
        self._different += part.different
        if self._different <= MANY_VALUES or not self._may_be_numbers:
            return
        self._may_be_numbers = not self._needs_texts(decimal)
        if self._may_be_numbers:
            parts, self._parts = self._parts, []
            for item in parts:
                self._append(item, decimal)

    def _needs_texts(self, decimal: str) -> bool:
        """Return whether values are no numbers, or their texts say more: numbers of people, dates, thousands."""
        words = [part.words for part in self._parts]
        numbers = np.concatenate([parse_words(item, decimal) for item in words])
        if np.isnan(numbers).any() or not (numbers % 1).any():
            return True
        texts = (text.as_py() for item in words for text in item)
        return all(THOUSANDS.fullmatch(text) or (decimal not in text and len(text) < 4) for text in texts)

    def _append(self, part: Column, decimal: str) -> None:
        """Copy numbers into blocks that are large enough for their memory to be given back."""
        parsed = parse_words(part.words, decimal)
        if np.isnan(parsed).any():
            self.failed, self._numbers = True, []
            return
        for i in np.flatnonzero(np.isin(parsed, np.asarray(MISSING_CODES, dtype=np.float64))):
            self._codes[part.words[int(i)].as_py()] = None
        numbers: Floats = part.spread(parsed, np.nan)
        while len(numbers):
            if not self._numbers or self._filled == BLOCK_ROWS:
                self._numbers.append(np.empty(BLOCK_ROWS))
                self._filled = 0
            some = numbers[: BLOCK_ROWS - self._filled]
            self._numbers[-1][self._filled : self._filled + len(some)] = some
            self._filled += len(some)
            numbers = numbers[len(some) :]

    def build(self) -> Column:
        """Return the whole column."""
        import pyarrow as pa

        if self._numbers:
            numbers, self._numbers = self._numbers, []
            numbers[-1] = numbers[-1][: self._filled]
            return NumberColumn(np.concatenate(numbers), tuple(self._codes))
        if not self._parts:
            return Column(np.zeros(0, np.int32), pa.array([], pa.string()))
        parts = [pa.DictionaryArray.from_arrays(pa.array(p.codes, mask=p.codes < 0), p.words) for p in self._parts]
        whole = pa.chunked_array(parts).unify_dictionaries()
        codes = np.concatenate([part.indices.fill_null(-1).to_numpy(zero_copy_only=False) for part in whole.chunks])
        return Column(codes.astype(np.int32), whole.chunk(whole.num_chunks - 1).dictionary)
