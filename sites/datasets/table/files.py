"""Reading CSV and Parquet files as columns of text; errors name file, row and column, never a value."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable, Mapping
from csv import reader
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ConfigError, DataError
from sites.datasets.table.columns import Column
from sites.datasets.table.description import FILE_NAME, Description, Reading

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".psv", ".dat", ".data")
PACKED_ENDINGS = (".gz", ".bz2")
PARQUET_ENDINGS = (".parquet", ".pq")
MAX_COLUMNS = 20_000
_EXCEL_DELIMITER = re.compile(rb"\A\"?sep=.\"?\r?\n", re.IGNORECASE)
"""A first line that states the delimiter, for Excel."""


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
    """The columns of one file.

    Attributes:
        path: the file.
        columns: by their names in the contract.
        rows: number of rows.
    """

    path: Path
    columns: Mapping[str, Column]
    rows: int

    def error(self, column: str, row: int, problem: str) -> DataError:
        """Return the error of a cell; rows are counted from 1, without the line of names."""
        where = f"row {row}, " if row else ""
        return DataError(f"{self.path}: {where}column {column}: {problem}")


def read_file(path: Path, description: Description, *, labelled: bool = True) -> RawFile:
    """Return the described columns of a file.

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
    table = open_arrow(path, read, own_names)
    for own in own_names:
        if not holds_plain_values(table.column(own).type):
            raise DataError(f"{path}: column {own} holds lists or bytes, not numbers or texts")
    columns = {name: to_column(table.column(own), read.missing) for name, own in names.items()}
    return RawFile(path, columns, table.num_rows)


def list_columns(path: Path, read: Reading) -> list[str]:
    """Return the names of a file's columns."""
    return list(open_arrow(path, read).column_names)


def open_arrow(path: Path, read: Reading, wanted: Iterable[str] | None = None) -> Any:
    """Return a file as an Arrow table: all cells of a text file are texts.

    Args:
        path: the file.
        read: how it is written.
        wanted: the columns to keep; none: all.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    table = _read_parquet(path) if is_parquet(path) else _read_text(path, read)
    names = [str(name).strip() for name in table.column_names]
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(names)} columns, more than {MAX_COLUMNS}: is the delimiter right?")
    table = table.rename_columns(names)
    if wanted is None:
        return table
    wanted = list(dict.fromkeys(wanted))
    for name in wanted:
        if (count := names.count(name)) != 1:
            raise DataError(f"{path}: {_explain_count(name, names, count, read)}")
    return table.select(wanted)


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


def _read_text(path: Path, read: Reading) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    try:
        "".encode(read.encoding)
    except (LookupError, ValueError):
        raise ConfigError(f"read.encoding: no encoding is called {read.encoding}") from None
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            content = stream.read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from None
    text = decode(bytes(content), read.encoding)
    if text is None:
        raise DataError(f"{path}: not a text file in {read.encoding}: see read.encoding of {FILE_NAME}")
    if not text.strip():
        raise DataError(f"{path} is empty")
    if not text.endswith((b"\n", b"\r")):
        text += b"\n"
    header = text[: _end_of_line(text)].decode("utf-8")
    names = next(row for row in reader(StringIO(header, newline=""), delimiter=read.delimiter) if row)
    try:
        return csv.read_csv(
            pa.BufferReader(text),
            parse_options=csv.ParseOptions(delimiter=read.delimiter, newlines_in_values=b'"' in text),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        raise DataError(f"{path}: {_reason(error)}") from None


def decode(content: bytes, encoding: str) -> bytes | None:
    """Return a text file's content in UTF-8 without a byte-order mark and Excel's `sep=;`; None: not in `encoding`."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not encoding.lower().startswith("utf-16"):
        return None
    try:
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig", "ascii"):
            content.decode("utf-8")
            text = content
        else:
            text = content.decode(encoding).encode("utf-8")
    except UnicodeError:
        return None
    text = _EXCEL_DELIMITER.sub(b"", text.removeprefix(codecs.BOM_UTF8))
    return None if b"\x00" in text[:4096] else text


def _end_of_line(text: bytes) -> int:
    """Return the length of the line of names, which may hold line breaks between quotes."""
    quoted = False
    for i, byte in enumerate(text):
        if byte == 0x22:
            quoted = not quoted
        elif byte in (0x0A, 0x0D) and not quoted and text[:i].strip():
            return i + 1
    return len(text)


def _read_parquet(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(str(path)).read()
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged, or no such file"
        raise DataError(f"{path}: cannot be read as Parquet: {reason}") from None


def _reason(error: Exception) -> str:
    """Return an error's reason without the content of the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if match := re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", text):
        where = f"row {int(match[1]) - 1} has" if match[1] else "a row has"
        return f"{where} {match[3]} columns, and the line of names {match[2]}"
    if "Empty CSV" in text:
        return "it is empty"
    return "its rows are not as the line of names says: is the delimiter right, and is every quote closed?"


def holds_plain_values(kind: Any) -> bool:
    """Return whether the cells of an Arrow type are numbers, texts, dates or truth values; not lists or bytes."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind)
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
    """Return an Arrow column as distinct texts and codes."""
    import pyarrow as pa

    absent = frozenset(missing)
    array = as_texts(array)
    encoded = array.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    raw = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    position: dict[str, int] = {}
    moved = np.empty(len(encoded.dictionary) + 1, dtype=np.int32)
    moved[-1] = -1
    for i, value in enumerate(encoded.dictionary.to_pylist()):
        text = "" if value is None else str(value).strip()
        moved[i] = -1 if text in absent or not text else position.setdefault(text, len(position))
    return Column(moved[raw], tuple(position))
