"""Texts that people write in several ways: the same patient, hospital or class in different case, zeros or spaces."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from common.errors import DataError

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+", re.ASCII)
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d+[eE][+-]?|[eE][+])\d+", re.ASCII)
_WRITTEN = re.compile(r"""\A(?:='|="|['"])?\+?|["']\Z""")
"""What a spreadsheet or a program writes around a number: an apostrophe, quotes, ="7", a sign."""
_WHOLE = re.compile(r"0*(\d+)(?:\.0*)?", re.ASCII)


def plain_spelling(text: str) -> str:
    """Return a text without what may differ between two ways of writing it.

    >>> [plain_spelling(text) for text in ("007", "7.0", "A 1", "a  1", "\N{FULLWIDTH DIGIT SEVEN}")]
    ['7', '7', 'a 1', 'a 1', '7']
    """
    visible = text
    if not text.isascii():
        letters = unicodedata.normalize("NFKC", text)
        visible = "".join(letter for letter in letters if unicodedata.category(letter) != "Cf")
    words = " ".join(visible.split()).casefold()
    if not words[:1].isalnum():
        words = _WRITTEN.sub("", words)
    if _GROUPED.fullmatch(words):
        words = words.replace(",", "")
    number = _WHOLE.fullmatch(words)
    return number[1] if number else words


def count_alike(spellings: Iterable[Hashable]) -> int:
    """Return how many of some spellings occur more than once."""
    return sum(count > 1 for count in Counter(spellings).values())


def check_patients(where: str, patients: Sequence[str], hospital: npt.NDArray[np.integer]) -> None:
    """Check that no two patients of a hospital differ only in how they are written.

    Args:
        where: what an error's message begins with.
        patients: their distinct names.
        hospital: `(patients,)`, the hospital of each.

    Raises:
        DataError: some do, and would count as two people.
    """
    if count := sum(_SCIENTIFIC.fullmatch(name) is not None for name in patients):
        raise DataError(
            f"{where}: {count} patients have numbers such as 1.23457E+11, as a spreadsheet shortens long ones, so that "
            "several people have one: export the column as text"
        )
    if count := count_alike(zip(hospital.tolist(), map(plain_spelling, patients), strict=True)):
        raise DataError(
            f"{where}: {count} patients are written in several ways, which differ in case, leading zeros, spaces or "
            "'.0': write each in one way, or a person is in training and in test"
        )


def check_hospitals(where: str, hospitals: Sequence[str]) -> None:
    """Check that no two hospitals differ only in how they are written.

    Raises:
        DataError: some do; names them.
    """
    spellings = [plain_spelling(name) for name in hospitals]
    if alike := [name for name, plain in zip(hospitals, spellings, strict=True) if spellings.count(plain) > 1]:
        raise DataError(f"{where}: {', '.join(alike[:4])} differ only in spelling: write each hospital in one way")
