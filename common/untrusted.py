"""Checks of text, JSON and arrays that came from another machine, before anything is built from them.

The cheapest checks come first: sizes, then the nesting of JSON, then its content. Whether a message makes sense is
checked elsewhere: in common/replies.py and in the phases of the server.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from common.errors import ProtocolError

MAX_TEXT = 500
"""Largest number of characters of one text: a name, a note, a reason."""
MAX_JSON_BYTES = 8 << 20
"""Largest size of one message's JSON text, bytes."""
MAX_DEPTH = 32
"""Largest depth of nested JSON."""
MAX_INTEGER = 2**53
"""Largest whole number of JSON, which a double still holds exactly."""
MAX_DIMENSIONS = 8
MAX_VALUE = 1e12
"""Largest absolute value of a model's weight: its square, summed over a model, is far below what float32 holds."""

_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction in which the text around them is shown."""
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's control characters, lone surrogates, line and paragraph separators."""
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)


def is_unsafe(character: str) -> bool:
    """Return whether a character may change how a terminal or a page shows the text around it."""
    return character in _DIRECTION_MARKS or unicodedata.category(character) in _UNSAFE_CATEGORIES


def check_text(text: str, what: str = "a text") -> str:
    """Return a text unchanged.

    Raises:
        ProtocolError: it is longer than MAX_TEXT or holds control characters.
    """
    if len(text) > MAX_TEXT:
        raise ProtocolError(f"{what} has {len(text)} characters, at most {MAX_TEXT} are allowed")
    if any(is_unsafe(character) for character in text):
        raise ProtocolError(f"{what} holds control characters")
    return text


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    r"""Return the first line of a text, cut to `limit` characters, without control characters.

    >>> clean_text("no data\x1b[2J\nTraceback", 20)
    'no data[2J'
    """
    lines = text[: 4 * limit].strip().splitlines() or [""]
    return "".join(character for character in lines[0] if not is_unsafe(character))[:limit]


def escape_formula(text: str) -> str:
    """Return a text as a cell of a table that spreadsheets open: one that would be a formula begins with an apostrophe.

    OWASP, "CSV Injection": a cell that begins with =, +, -, @, a tab or a carriage return may be run as a formula.

    >>> escape_formula("=1+1"), escape_formula("north")
    ("'=1+1", 'north')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def check_json(text: str) -> None:
    """Check a JSON text before it is parsed into types.

    Raises:
        ProtocolError: it is too long, nested too deep, not JSON, or holds a number that is not finite or a text that
            `check_text` refuses.
    """
    size = len(text)
    if size > MAX_JSON_BYTES or (size := len(text.encode("utf-8", "surrogatepass"))) > MAX_JSON_BYTES:
        raise ProtocolError(f"its report has {size} bytes, at most {MAX_JSON_BYTES} are allowed")
    _check_depth(text)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError("its report is not JSON") from None
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, str):
            check_text(item, "a text of its report")
        elif isinstance(item, float) and not math.isfinite(item):
            raise ProtocolError("its report holds a number that is not finite")
        elif isinstance(item, int) and abs(item) > MAX_INTEGER:
            raise ProtocolError("its report holds a whole number that is out of range")


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise ProtocolError(f"its report is nested more than {MAX_DEPTH} levels deep")


def _refuse_constant(name: str) -> NoReturn:
    raise ProtocolError(f"its report holds {name}, which is not a finite number")


HEADER = re.compile(
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n"
)
"""The header of an array in NumPy's format (numpy.lib.format), as NumPy writes it."""
MAGIC = b"\x93NUMPY\x01\x00"


def read_array_header(data: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Return type, whether in Fortran's order, shape, and the place of the first value, of an array's bytes.

    NumPy's own reader takes the header for a Python literal, which two threads cannot read at the same time: CPython
    3.11 and 3.12 now and then raise a SystemError.

    Raises:
        ValueError: these are not an array's bytes as NumPy writes them.
    """
    if data[:8] != MAGIC:
        raise ValueError("no array in NumPy's format")
    start = 10 + int.from_bytes(data[8:10], "little")
    match = HEADER.fullmatch(data[10:start])
    if match is None:
        raise ValueError("no array in NumPy's format")
    try:
        dtype = np.dtype(match[1].decode())
    except TypeError:
        raise ValueError("no array in NumPy's format") from None
    return dtype, match[2] == b"True", tuple(int(part) for part in match[3].split(b",") if part.strip()), start


def read_array(data: bytes) -> npt.NDArray[Any]:
    """Return the array whose bytes in NumPy's format are given.

    Raises:
        ValueError: they are not such an array's.
    """
    dtype, fortran, shape, start = read_array_header(data)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    values = np.frombuffer(data, dtype, offset=start).copy()
    return values.reshape(shape, order="F" if fortran else "C")


def check_array_bytes(name: str, shape: Sequence[int], data: bytes) -> None:
    """Check the bytes of an array in NumPy's format (numpy.lib.format) before it is read.

    The header decides how much memory reading takes, so it must agree with the bytes that came.

    Raises:
        ProtocolError: it holds anything but real numbers in this machine's byte order, or its size does not fit.
    """
    try:
        dtype, _, stated, start = read_array_header(data)
    except ValueError:
        raise ProtocolError(f"array {clean_text(name, 80)!r} is not in NumPy's format") from None
    fault = ""
    if dtype.kind not in "fiu" or not dtype.isnative:
        fault = f"holds {clean_text(str(dtype), 40)}, not real numbers"
    elif stated != tuple(shape) or len(shape) > MAX_DIMENSIONS:
        fault = "is not of the shape that it states"
    elif math.prod(stated) * dtype.itemsize != len(data) - start:
        fault = "has not the bytes that its shape needs"
    if fault:
        raise ProtocolError(f"array {clean_text(name, 80)!r} {fault}")


def find_range_fault(value: npt.NDArray[Any], limit: float = MAX_VALUE) -> str:
    """Return how an array's values are out of range, such as "reach 3e+38 (at most 1e+12)", or ""."""
    if not value.size or value.dtype.kind != "f":
        return ""
    largest = float(np.abs(value).max())
    if not math.isfinite(largest):
        return "are not finite numbers"
    return f"reach {largest:.3g} (at most {limit:g})" if largest > limit else ""
