"""How a table's files are written: encoding, delimiter, decimal sign; found by looking at them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from pathlib import Path
from typing import Literal

from common.errors import DataError
from sites.datasets.table.description import Reading
from sites.datasets.table.files import is_parquet, is_table_file
from sites.datasets.table.text_files import decode

Delimiter = Literal[",", ";", "\t", "|"]
DELIMITERS: tuple[Delimiter, ...] = (",", ";", "\t", "|")
LOOK_BYTES = 1 << 20
LOOK_ROWS = 200
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+")
_UTF8_LETTER = re.compile(rb"[\xc3\xc4\xc5][\x80-\xbf](?![\x80-\xbf])")
"""A letter of Western or Central Europe in UTF-8, which in cp1252 is two signs that no word holds."""
_ODD_WORD = re.compile(
    r"[a-zß-öø-ÿ][À-ÖØ-ÞŠŽŒŸ](?=[a-zß-öø-ÿ])|[^\W\d_][ŽŸ](?=[a-z])|[^\W\d_][^\w\s\x00-\x7f·’‘´–—\u00ad](?=[^\W\d_])"
)
"""A capital within a word, or a sign between two letters: words of another encoding that are read as cp1252."""
_POINT_NUMBER = re.compile(r"[+-]?\d+\.\d+")


def sniff_reading(path: Path) -> Reading:
    """Return how the files at `path` are written.

    Args:
        path: a file, or a folder of files that are written in the same way.

    Raises:
        DataError: no table there, or how it is written is not clear.
    """
    files = find_tables(path)
    if is_parquet(files[0]):
        return Reading(files=tuple(item.name for item in files), hospital_from=_guess_hospital(files))
    content = _beginning(files[0])
    encoding = sniff_encoding(files[0], content)
    text = (decode(content, encoding) or b"").decode("utf-8", errors="ignore")
    delimiter = sniff_delimiter(text)
    decimal = sniff_decimal(text, delimiter)
    return Reading(
        files=tuple(item.name for item in files),
        delimiter=delimiter,
        decimal=decimal,
        encoding=encoding,
        hospital_from=_guess_hospital(files),
    )


def find_tables(path: Path) -> list[Path]:
    """Return the table files at a path.

    Raises:
        DataError: nothing is there.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    files = sorted(item for item in path.iterdir() if item.is_file() and is_table_file(item))
    if not files:
        raise DataError(f"{path}: no CSV or Parquet file in this folder")
    return files


def _guess_hospital(files: list[Path]) -> Literal["file", "folder"]:
    return "file" if len(files) > 1 else "folder"


def _beginning(path: Path) -> bytes:
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            content = bytes(stream.read(LOOK_BYTES))
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a file of this kind"
        raise DataError(f"{path}: cannot be read: {reason}") from None
    if not content.strip():
        raise DataError(f"{path} is empty")
    if len(content) == LOOK_BYTES:  # end at a whole line, so that no character is cut
        content = content[: content.rfind(b"\n") + 1] or content
    return content


def sniff_encoding(path: Path, content: bytes) -> str:
    """Return the encoding of a text: UTF-8, UTF-16, or that of Windows in Western Europe, if its words look like it.

    Raises:
        DataError: it is no text, or one in another encoding.
    """
    save = "save it as UTF-8"
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{path}: its text is in UTF-32: {save}")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(content) > 3 and not (any(content[:400:2]) and any(content[1:400:2])):
        raise DataError(f"{path}: its text seems to be in UTF-16 without a mark at its start: {save}")
    if any(byte < 9 for byte in content[:4096]):
        raise DataError(f"{path}: neither a text file nor Parquet")
    if decode(content, "utf-8") is not None:
        return "utf-8"
    if _UTF8_LETTER.search(content):
        raise DataError(f"{path}: some of its words are in UTF-8 and others in another encoding: {save}")
    text = content.decode("cp1252", errors="replace")
    if "\N{REPLACEMENT CHARACTER}" in text or _ODD_WORD.search(text):
        raise DataError(f"{path}: its text is neither in UTF-8 nor in Windows' encoding for Western Europe: {save}")
    return "cp1252"


def sniff_delimiter(text: str) -> Delimiter:
    r"""Return the delimiter that gives the most columns, the same number in nearly all rows.

    >>> sniff_delimiter("a;b;c\n1,5;2;3\n2,5;4;5\n")
    ';'
    """
    best: Delimiter = ","
    best_score = 0.0
    for delimiter in DELIMITERS:
        rows = _rows(text, delimiter)
        if not rows or len(rows[0]) < 2:
            continue
        same = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        score = same * same * len(rows[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best


def sniff_decimal(text: str, delimiter: str) -> Literal[".", ","]:
    r"""Return the decimal sign of the numbers.

    >>> sniff_decimal("a;b\n1,5;2\n2,5;4\n", ";")
    ','
    """
    cells = [cell.strip() for row in _rows(text, delimiter)[1:] for cell in row]
    commas = sum(bool(_COMMA_NUMBER.fullmatch(cell)) for cell in cells)
    points = sum(bool(_POINT_NUMBER.fullmatch(cell)) for cell in cells)
    return "," if commas > points else "."


def _rows(text: str, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=None), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) > LOOK_ROWS:
                break
    except csv.Error:
        return []
    return rows
