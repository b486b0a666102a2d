"""Reading CSV and Parquet files as columns of text; errors name file, row and column, never a value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError, DataError
from sites.datasets.table.columns import Column, holds_plain_values, to_column
from sites.datasets.table.description import FILE_NAME, Description, Reading
from sites.datasets.table.text_files import examine_text, text_batches

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".psv", ".dat", ".data")
PACKED_ENDINGS = (".gz", ".bz2")
PARQUET_ENDINGS = (".parquet", ".pq")
MAX_COLUMNS = 20_000
BATCH_ROWS = 8192
"""Rows of a Parquet file that are read together."""


def list_files(folder: Path, read: Reading) -> list[Path]:
    """Return the files of a folder that a description names, in the order of their names.

    Raises:
        DataError: no such folder, or no such file.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the table's files and {FILE_NAME}")
    result: dict[Path, None] = {}
    for pattern in read.files:
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            raise ConfigError(f"read.files: {pattern} leaves the data folder: name files in it")
        try:
            paths = sorted(folder.glob(pattern))
        except (ValueError, IndexError, NotImplementedError):
            raise ConfigError(f"read.files: {pattern!r} names no file: write a name, or a pattern as *.csv") from None
        matching = [path for path in paths if path.is_file() and not path.name.startswith(".")]
        if not matching:
            raise DataError(f"no file {pattern} in {folder}: {_say_who_names_files(folder)}")
        result |= dict.fromkeys(path for path in matching if path.name != FILE_NAME)
    return list(result)


def _say_who_names_files(folder: Path) -> str:
    if (folder / FILE_NAME).is_file():
        return f"read.files of {FILE_NAME} names the files"
    return f"read.files of the run names it, and the folder has no {FILE_NAME}; wardround data init writes one"


def file_title(path: Path) -> str:
    """Return a file's name without its endings, which is a hospital's name where each file is a hospital."""
    return path.name.split(".")[0]


def check_file_names(folder: Path, paths: Iterable[Path], description: Description) -> None:
    """Check that files that name hospitals or patients have different names.

    Raises:
        DataError: two files have the same name but for their folder or their endings.
    """
    read = description.read
    if description.patient is not None and (read.hospital is not None or read.hospital_from == "folder"):
        return
    first: dict[str, Path] = {}
    for path in paths:
        if (other := first.setdefault(file_title(path), path)) != path:
            raise DataError(
                f"{folder}: {other.relative_to(folder)} and {path.relative_to(folder)} have the same name before the "
                "first point, and would be one hospital: rename one, or leave one out of read.files"
            )


def is_parquet(path: Path) -> bool:
    """Return whether a file is read as Parquet, by its name."""
    return path.name.lower().endswith(PARQUET_ENDINGS)


def is_table_file(path: Path) -> bool:
    """Return whether a file's name is one of a table."""
    name = path.name.lower()
    for packed in PACKED_ENDINGS:
        name = name.removesuffix(packed)
    return name.endswith((*TEXT_ENDINGS, *PARQUET_ENDINGS)) and not path.name.startswith(".")


@dataclass(frozen=True)
class RawFile:
    """The columns of one file, or of some of its rows.

    Attributes:
        path: the file.
        columns: by their names in the contract.
        rows: number of rows.
        first: number of rows of the file before these.
    """

    path: Path
    columns: Mapping[str, Column]
    rows: int
    first: int = 0

    def error(self, column: str, row: int, problem: str) -> DataError:
        """Return the error of a cell; rows are counted from 1, without the line of names."""
        where = f"row {self.first + row}, " if row else ""
        return DataError(f"{self.path}: {where}column {column}: {problem}")


def read_file(path: Path, description: Description, *, labelled: bool = True) -> Iterator[RawFile]:
    """Yield the described columns of a file, some rows after the others, so that its texts are never held together.

    Args:
        path: a CSV or Parquet file.
        description: which columns, and how missing values are written.
        labelled: whether the column of the outcome is read.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    read = description.read
    wanted = list(description.needed_columns(labelled=labelled))
    if read.hospital and (labelled or read.columns.get(read.hospital, read.hospital) in list_columns(path, read)):
        wanted.append(read.hospital)  # patients to be scored may come from one hospital that is not named
    names = {name: read.columns.get(name, name) for name in dict.fromkeys(wanted)}
    own_names = list(names.values())
    if twice := [name for name, own in names.items() if own_names.count(own) > 1]:
        raise ConfigError(f"read.columns: {' and '.join(twice)} are read from one column, {names[twice[0]]}")
    first = 0
    for batch in iterate_batches(path, read, own_names):
        for own in own_names:
            if not holds_plain_values(batch.column(own).type):
                raise DataError(f"{path}: column {own} holds lists, bytes or durations, not numbers or texts")
        if description.patient is not None:
            refuse_rounded_numbers(path, names[description.patient], batch.column(names[description.patient]))
        columns = {name: to_column(batch.column(own), read.missing) for name, own in names.items()}
        yield RawFile(path, columns, batch.num_rows, first)
        first += batch.num_rows


def refuse_rounded_numbers(path: Path, name: str, column: Any) -> None:
    """Check that numbers of patients are held exactly: as floating-point numbers, large ones are rounded to others.

    Args:
        path: the file, for the error.
        name: the column, for the error.
        column: the numbers of patients as an Arrow array.

    Raises:
        DataError: a number is beyond the whole numbers that its type holds.
    """
    import pyarrow.compute as pc
    from pyarrow import types

    if not types.is_floating(column.type):
        return
    digits = {16: 11, 32: 24, 64: 53}[column.type.bit_width]
    largest = pc.max(pc.abs(column.cast("float64"))).as_py()
    if largest is not None and largest >= 2**digits:
        raise DataError(
            f"{path}: column {name}: numbers of patients as {column.type} are rounded from {2**digits:,} on, so that "
            "several people have one: write them as whole numbers or texts"
        )


def list_columns(path: Path, read: Reading) -> list[str]:
    """Return the names of a file's columns."""
    return _open_parquet(path).schema_arrow.names if is_parquet(path) else examine_text(path, read).names


def open_arrow(path: Path, read: Reading, wanted: Iterable[str] | None = None) -> Any:
    """Return a file as an Arrow table, as `iterate_batches` reads it."""
    import pyarrow as pa

    return pa.Table.from_batches(list(iterate_batches(path, read, wanted)))


def iterate_batches(path: Path, read: Reading, wanted: Iterable[str] | None = None) -> Iterator[Any]:
    """Yield a file as Arrow record batches of its columns, at least one: all cells of a text file are texts.

    Args:
        path: the file.
        read: how it is written.
        wanted: the columns to keep; none: all.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    parquet = _open_parquet(path) if is_parquet(path) else None
    text = None if parquet is not None else examine_text(path, read)
    raw = list(parquet.schema_arrow.names) if parquet is not None else text.names if text is not None else []
    names = [str(name).strip() for name in raw]
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(names)} columns, more than {MAX_COLUMNS}: is the delimiter right?")
    chosen = names if wanted is None else list(dict.fromkeys(wanted))
    if wanted is not None:
        for name in chosen:
            if (count := names.count(name)) != 1:
                raise DataError(f"{path}: {_explain_count(name, names, count, read)}")
    positions = [names.index(name) for name in chosen] if wanted is not None else list(range(len(names)))
    batches = (
        _parquet_batches(path, parquet, None if wanted is None else [raw[i] for i in positions])
        if parquet is not None
        else text_batches(path, read, text)
    )
    empty = True
    for batch in batches:
        empty = False
        own = list(batch.schema.names)
        columns_here = positions if wanted is None or parquet is None else [own.index(raw[i]) for i in positions]
        yield _choose_columns([batch.column(i) for i in columns_here], chosen)
    if empty:
        yield _choose_columns([], chosen)


def _choose_columns(columns: list[Any], names: list[str]) -> Any:
    """Return columns under their names as a batch, which has no row without columns."""
    import pyarrow as pa

    return pa.RecordBatch.from_arrays(columns or [pa.array([], pa.string()) for _ in names], names=names)


def _explain_count(name: str, names: list[str], count: int, read: Reading) -> str:
    if count:
        return f"{count} columns are called {name}: give each its own name"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or [
        other for other in names if other.lower() == name.lower()
    ]
    if len(names) == 1:
        return f"no column {name}, and only one column at all: is the delimiter {read.delimiter!r}?"
    hint = f"; the nearest name is {near[0]}: map it under read.columns" if near else ""
    return f"no column {name}{hint}"


def _parquet_batches(path: Path, file: Any, names: list[str] | None) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise _parquet_error(path, error) from None


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(str(path))
    except (OSError, pa.ArrowException) as error:
        raise _parquet_error(path, error) from None


def _parquet_error(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged, or no such file"
    return DataError(f"{path}: cannot be read as Parquet: {reason}")
