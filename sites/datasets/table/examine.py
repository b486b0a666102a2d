"""A table as it is looked at before it is described: its columns, and what was found about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.table.columns import Column, Floats, parse_numbers
from sites.datasets.table.description import Reading
from sites.datasets.table.files import as_texts, holds_plain_values, is_table_file, open_arrow, to_column
from sites.datasets.table.sniff import sniff_reading

MISSING_WORDS = (
    "", "NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "Null", "null", "None", "none", "?", "-", "--", ".", "missing",
    "Missing", "unknown", "Unknown", "not measured",
)  # fmt: skip
PLUS, MINUS = "+", "-"
"""A minus is an answer, and no missing cell, in a table in which a plus is one."""
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
        parsed = parse_numbers(column.values, self.reading.decimal)
        if not len(parsed) or np.isnan(parsed).any():
            return None
        numbers: Floats = column.spread(parsed, np.nan)
        return numbers


def load_table(path: Path) -> Table:
    """Return all columns of the files at a path.

    Raises:
        DataError: they cannot be read, or their columns differ.
    """
    import pyarrow as pa

    reading = sniff_reading(path)
    folder = path.parent if path.is_file() else path
    tables = [open_arrow(folder / name, reading) for name in reading.files]
    names = tables[0].column_names
    if len(names) == 1:
        raise DataError(
            f"{folder / reading.files[0]}: only one column: the first line must name the columns, with a comma, "
            "semicolon, tab or | between them"
        )
    for name, table in zip(reading.files, tables, strict=True):
        if sorted(table.column_names) != sorted(names):
            odd = sorted(set(table.column_names) ^ set(names))
            raise DataError(f"{folder / name}: its columns are not those of {reading.files[0]}: see {odd[0]}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{folder / reading.files[0]}: two columns are called {twice[0]}: give each its own name")
    if "" in names:
        raise DataError(f"{folder / reading.files[0]}: column {names.index('') + 1} has no name")
    rows = [table.num_rows for table in tables]
    if not sum(rows):
        raise DataError(f"{folder / reading.files[0]}: it has a line of names and no row")
    nested = [name for name in names if not all(holds_plain_values(table.column(name).type) for table in tables)]
    whole = {
        name: pa.chunked_array(
            [chunk for table in tables for chunk in as_texts(table.column(name)).chunks], pa.string()
        )
        for name in names
        if name not in nested
    }
    known = {word for texts in whole.values() for word in _values_in(texts, (*MISSING_WORDS, PLUS))}
    missing = tuple(word for word in MISSING_WORDS if not (word == MINUS and PLUS in known))
    columns = {name: to_column(texts, missing) for name, texts in whole.items()}
    reading = reading.model_copy(update={"missing": tuple(word for word in missing if word in known or word == "")})
    file = np.repeat(np.arange(len(rows)), rows)
    table = Table(path, reading, columns, sum(rows), file)
    for name in nested:
        table.say("check", name, "left out: it holds lists or bytes, not numbers or texts")
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


def _values_in(array: object, words: Iterable[str]) -> list[str]:
    present = set(to_column(array, ()).values)
    return [word for word in words if word in present]
