"""Checks of what came from another machine."""

from __future__ import annotations

import io
import json
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ProtocolError
from common.untrusted import (
    MAX_DEPTH,
    MAX_JSON_BYTES,
    check_array_bytes,
    check_json,
    check_text,
    clean_text,
    find_range_fault,
    read_array,
)


def numpy_bytes(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("text", ["", "Wörter, \u6f22\u5b57 \U0001f600", "a" * 500, "<b>&amp;</b>"])
def test_ordinary_text_passes(text: str) -> None:
    assert check_text(text) == text
    check_json(json.dumps({text: [text]}))


@pytest.mark.parametrize(
    "character", ["\0", "\n", "\t", "\x1b", "\x7f", "\x85", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\ud800"]
)
def test_characters_that_change_what_is_shown_do_not(character: str) -> None:
    with pytest.raises(ProtocolError, match="control characters"):
        check_text(f"a{character}b")
    for value in ({f"a{character}": 1}, [[f"a{character}"]]):
        with pytest.raises(ProtocolError, match="control characters"):
            check_json(json.dumps(value))
    assert clean_text(f"{character}a{character}b", 9) in ("a", "ab")


@given(st.text(max_size=60))
def test_clean_text_passes_the_check(text: str) -> None:
    assert check_text(clean_text(text)) == clean_text(text)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_bounded_before_it_is_parsed(opening: str) -> None:
    closing = {"[": "]"}.get(opening, "}")

    def nested(levels: int) -> str:
        return opening * levels + "1" + closing * levels

    check_json(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 900, sys.getrecursionlimit() * 3):
        with pytest.raises(ProtocolError, match="nested more than 32 levels deep"):
            check_json(nested(levels))


def test_brackets_in_texts_are_no_nesting() -> None:
    check_json(json.dumps(["[" * 100 + '"' + "\\" * 3 + "{" * 100]))


def test_a_large_text_is_checked_in_time() -> None:
    start = time.thread_time()
    for text in ('"' * (MAX_JSON_BYTES - 1), "[" * MAX_JSON_BYTES, "a" * (MAX_JSON_BYTES + 1), "\\" * MAX_JSON_BYTES):
        with pytest.raises(ProtocolError):
            check_json(text)
    assert time.thread_time() - start < 20


@pytest.mark.parametrize("text", ["", "{", "nope", "1 2", "[1,]", "9" * 5000])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ProtocolError, match="is not JSON"):
        check_json(text)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "[-1e400]", "9007199254740993"])
def test_numbers_that_cannot_be(text: str) -> None:
    with pytest.raises(ProtocolError):
        check_json(text)


@pytest.mark.parametrize(
    "value", [np.zeros((2, 3)), np.asfortranarray(np.ones((2, 3), np.float16)), np.array(3), np.zeros((0, 3))]
)
def test_arrays_of_real_numbers_pass(value: np.ndarray) -> None:
    check_array_bytes("w", value.shape, numpy_bytes(value))


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(2, complex),
        np.zeros(2, bool),
        np.array(["a"]),
        np.zeros(2, ">f8"),
        np.zeros(2, "M8[s]"),
    ],
)
def test_arrays_of_anything_else_do_not(value: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match=r"array 'w' holds .*, not real numbers"):
        check_array_bytes("w", value.shape, numpy_bytes(value))


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(3),
        np.zeros((0, 3), np.int8), np.ones(4, np.float16), np.arange(24).reshape(1, 2, 3, 4), np.array([True, False]),
    ],
)  # fmt: skip
def test_an_array_is_read_as_numpy_reads_it(value: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without a Python literal, which two threads cannot read at once."""
    data = numpy_bytes(value)
    expected = np.load(io.BytesIO(data))
    monkeypatch.setattr("ast.literal_eval", lambda *_: pytest.fail("a literal was read"))
    monkeypatch.setattr("ast.parse", lambda *_: pytest.fail("a literal was read"))
    array = read_array(data)
    np.testing.assert_array_equal(array, expected, strict=True)
    assert array.flags.writeable
    assert array.flags.f_contiguous == expected.flags.f_contiguous


@pytest.mark.parametrize("value", [np.zeros(2, "f4,i4"), np.array([{}])])
def test_what_is_no_plain_array_is_not_read(value: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    with pytest.raises(ValueError, match="array"):
        read_array(file.getvalue())
    with pytest.raises(ProtocolError, match=r"not real numbers|is not in NumPy's format"):
        check_array_bytes("w", value.shape, file.getvalue())


def test_arrays_whose_bytes_are_not_what_they_state() -> None:
    whole = numpy_bytes(np.zeros((2, 3)))
    for data in (b"", whole[:5], b"\x80" + whole[1:], whole.replace(b"(2, 3)", b"(2, x)")):
        with pytest.raises(ProtocolError, match="is not in NumPy's format"):
            check_array_bytes("w", (2, 3), data)
    for data in (whole[:-1], whole + b"0", whole.replace(b"(2, 3)", b"(9, 3)")):
        with pytest.raises(ProtocolError, match=r"has not the bytes|is not of the shape"):
            check_array_bytes("w", (2, 3), data)
    with pytest.raises(ProtocolError, match="is not of the shape that it states"):
        check_array_bytes("w", (3, 2), whole)


def test_ranges() -> None:
    assert find_range_fault(np.array([-1e12, 1e12])) == find_range_fault(np.zeros(0)) == ""
    assert find_range_fault(np.array([0, 1e30], np.float32)) == "reach 1e+30 (at most 1e+12)"
    assert find_range_fault(np.array([0, np.nan])) == find_range_fault(np.array([np.inf])) == "are not finite numbers"
    assert find_range_fault(np.array([2**62])) == ""
