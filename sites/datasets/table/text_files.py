"""Reading the text files of a table: encoding, line of names, and cells in blocks; errors never state a value."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from csv import reader
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from common.errors import ConfigError, DataError
from sites.datasets.table.description import FILE_NAME, Reading

BLOCK_BYTES = 1 << 20
"""Size of the blocks in which a text file is read."""
_EXCEL_DELIMITER = re.compile(rb"\A\"?sep=.\"?\r?\n", re.IGNORECASE)
"""A first line that states the delimiter, for Excel."""


@dataclass(frozen=True)
class TextFile:
    """What is known of a text file before its cells are read.

    Attributes:
        names: of the columns.
        quoted: whether a cell may hold line breaks.
        recoded: the whole content in UTF-8, where it is in another encoding; None: the file itself is.
        skip: number of bytes before the line of names.
    """

    names: list[str]
    quoted: bool
    recoded: bytes | None
    skip: int


def examine_text(path: Path, read: Reading) -> TextFile:
    """Check a text file's encoding, and return the names of its columns."""
    import pyarrow as pa

    try:
        "".encode(read.encoding)
    except (LookupError, ValueError):
        raise ConfigError(f"read.encoding: no encoding is called {read.encoding}") from None
    wrong = DataError(f"{path}: not a text file in {read.encoding}: see read.encoding of {FILE_NAME}")
    recoded: bytes | None = None
    beginning, quoted, blank = b"", False, True
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            if not _is_utf8(read.encoding):
                content = bytes(stream.read())
                recoded = decode(content, read.encoding)
                if recoded is None:
                    raise wrong
                if not content.isascii() and decode(content, "utf-8") is not None:
                    raise DataError(f"{path}: in UTF-8, not in {read.encoding} as read.encoding of {FILE_NAME} says")
                beginning, quoted, blank = recoded, b'"' in recoded, not recoded.strip()
            else:
                decoder = codecs.getincrementaldecoder("utf-8")()
                while chunk := bytes(stream.read(BLOCK_BYTES)):
                    decoder.decode(chunk)
                    quoted, blank = quoted or b'"' in chunk, blank and not chunk.strip()
                    if len(beginning) < BLOCK_BYTES or _end_of_line(beginning) == len(beginning):
                        beginning += chunk
                decoder.decode(b"", final=True)
    except UnicodeError:
        raise wrong from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from None
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise wrong
    skip = len(beginning) - len(_strip_marks(beginning))
    if b"\x00" in beginning[skip : skip + 4096]:
        raise wrong
    if blank or not beginning[skip:].strip():
        raise DataError(f"{path} is empty")
    beginning = beginning[skip:]
    header = beginning[: _end_of_line(beginning)].decode("utf-8")
    names = next(row for row in reader(StringIO(header, newline=""), delimiter=read.delimiter) if row)
    return TextFile(names, quoted, recoded, skip)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig", "ascii")


def text_batches(path: Path, read: Reading, text: TextFile | None) -> Iterator[Any]:
    """Yield the cells of a text file as Arrow record batches of texts."""
    import pyarrow as pa
    from pyarrow import csv

    if text is None:
        return
    stream = pa.BufferReader(text.recoded) if text.recoded is not None else None
    try:
        with stream or pa.input_stream(str(path), compression="detect") as source:
            source.read(text.skip)
            yield from csv.open_csv(
                source,
                read_options=csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
                parse_options=csv.ParseOptions(delimiter=read.delimiter, newlines_in_values=text.quoted),
                convert_options=csv.ConvertOptions(
                    column_types={name: pa.string() for name in text.names}, strings_can_be_null=False
                ),
            )
    except pa.ArrowException as error:
        if "Empty CSV" not in str(error):  # what it says of a line of names without a row
            raise DataError(f"{path}: {_reason(error)}") from None
        yield pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in text.names], names=text.names)


def decode(content: bytes, encoding: str) -> bytes | None:
    """Return a text file's content in UTF-8 without a byte-order mark and Excel's `sep=;`; None: not in `encoding`."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not encoding.lower().startswith("utf-16"):
        return None
    try:
        if _is_utf8(encoding):
            content.decode("utf-8")
            text = content
        else:
            text = content.decode(encoding).encode("utf-8")
    except UnicodeError:
        return None
    text = _strip_marks(text)
    return None if b"\x00" in text[:4096] else text


def _strip_marks(text: bytes) -> bytes:
    """Return a text in UTF-8 without a byte-order mark and Excel's `sep=;`."""
    return _EXCEL_DELIMITER.sub(b"", text.removeprefix(codecs.BOM_UTF8))


def _end_of_line(text: bytes) -> int:
    """Return the length of the line of names, which may hold line breaks between quotes."""
    quoted = False
    for i, byte in enumerate(text):
        if byte == 0x22:
            quoted = not quoted
        elif byte in (0x0A, 0x0D) and not quoted and text[:i].strip():
            return i + 1
    return len(text)


def _reason(error: Exception) -> str:
    """Return an error's reason without the content of the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if match := re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", text):
        where = f"row {int(match[1]) - 1} has" if match[1] else "a row has"
        return f"{where} {match[3]} columns, and the line of names {match[2]}"
    return "its rows are not as the line of names says: is the delimiter right, and is every quote closed?"
