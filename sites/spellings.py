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
_SUMMARIES = frozenset(
    ("mean", "average", "avg", "median", "total", "totals", "sum", "subtotal", "std", "stdev", "sd", "minimum",
     "maximum", "variance", "mittelwert", "durchschnitt", "summe", "gesamt", "gesamtsumme", "zwischensumme", "anzahl",
     "moyenne", "somme", "suma", "totale", "promedio", "gemiddelde", "totaal", "итого", "всего", "среднее",
     "合计", "合計", "总计", "平均")
)  # fmt: skip
"""What stands in the place of a patient in the last row of a table that a program sums up."""
_SUMMARY_PARTS = _SUMMARIES | {"grand", "overall", "dev", "deviation", "iqr", "all", "row", "value", "n", "sub"}
"""Further words of such a name."""
_COUNT = re.compile(r"n\s*[=:]\s*\d+", re.ASCII)
_NO_NAMES = frozenset(
    ("unknown", "unbekannt", "inconnu", "anonymous", "anonymized", "anonymised", "missing", "none", "null", "nan",
     "n/a", "na", "nil", "not available", "not known")
)  # fmt: skip
"""What stands for a patient who is not known."""
_COPY = re.compile(r"\b(?:copy|kopie|copie|copia)(?:\s*(?:of|von|de|di))?\b|\(\d+\)|(?<=\d)\s*[-_]\s*(?:copy|kopie)\b")
"""What programs add to the name of a file's copy."""
_HOSPITAL_WORDS = frozenset(
    (
        "hospital",
        "clinic",
        "klinik",
        "klinikum",
        "krankenhaus",
        "hopital",
        "ospedale",
        "site",
        "center",
        "centre",
        "the",
    )
)
"""What may be written with a hospital's name or left out."""
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "a", "œ": "o"})
_PARTS = re.compile(r"\d+|[^\W\d_]+")
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


def loose_spelling(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in order, without what stands between them, leading zeros and `copy`.

    >>> loose_spelling("A 1") == loose_spelling("a_01") == loose_spelling("Copy of A-1 (2)") == ("a", "1")
    True
    >>> loose_spelling("1-12") == loose_spelling("11-2")
    False
    """
    words = _COPY.sub(" ", plain_spelling(text)).removesuffix(".0")
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in _PARTS.findall(words))


def count_perhaps_alike(patients: Iterable[str]) -> int:
    """Return how many names may be several people's or one person's in two spellings, as `A 1` and `A_1`."""
    return count_alike(map(loose_spelling, set(patients)))


def find_perhaps_alike_hospitals(hospitals: Iterable[str]) -> list[list[str]]:
    """Return groups of names that may be of one hospital: they differ in accents, signs, or words such as hospital.

    >>> find_perhaps_alike_hospitals(["Zürich", "Zuerich", "St. Mary Hospital", "St Mary", "7", "17"])
    [['St Mary', 'St. Mary Hospital'], ['Zuerich', 'Zürich']]
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(set(hospitals)):
        letters = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
        plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
        words = loose_spelling(re.sub(r"(?<=[aou])e", "", plain))
        proper = tuple(word for word in words if word not in _HOSPITAL_WORDS)
        groups.setdefault(proper or words, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


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
    plain = list(map(plain_spelling, patients))
    if summary := next(filter(_names_summary, plain), ""):
        raise DataError(
            f"{where}: a patient is called {summary}: remove the row that sums up the others, or rename the patient"
        )
    if unknown := sorted(_NO_NAMES.intersection(plain)):
        raise DataError(
            f"{where}: a patient is called {unknown[0]}, so that several people may count as one: leave the cell "
            "empty, or give each a number"
        )
    if count := count_alike(zip(hospital.tolist(), plain, strict=True)):
        raise DataError(
            f"{where}: {count} patients are written in several ways, which differ in case, leading zeros, spaces or "
            "'.0': write each in one way, or a person is in training and in test"
        )


def _names_summary(plain: str) -> bool:
    """Return whether a name is that of a row that sums up, such as Grand total, Average:, Mean (SD) or N = 180."""
    if plain.isdigit():
        return False
    words = re.findall(r"\w+", plain)
    sums = not _SUMMARIES.isdisjoint(words) and _SUMMARY_PARTS.issuperset(words)
    return sums or _COUNT.fullmatch(plain) is not None


def check_hospitals(where: str, hospitals: Sequence[str]) -> None:
    """Check that no two hospitals differ only in how they are written.

    Raises:
        DataError: some do; names them.
    """
    spellings = [plain_spelling(name) for name in hospitals]
    if alike := [name for name, plain in zip(hospitals, spellings, strict=True) if spellings.count(plain) > 1]:
        raise DataError(f"{where}: {', '.join(alike[:4])} differ only in spelling: write each hospital in one way")
