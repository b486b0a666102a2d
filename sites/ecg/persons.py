"""The person of each recording, with age and sex, derived from headers, names and contents."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from common.errors import DataError
from sites.ecg.headers import Header, read_header

OLDEST = 120
"""Years; a higher age is a mistake and counts as unknown."""

_AGE = re.compile(r"\bage\b\W*(?P<age>-?\d+(?:\.\d+)?|nan)", re.IGNORECASE)
_SEX = re.compile(r"\b(?:sex|gender)\b\W*(?P<sex>male|female|m|f)\b", re.IGNORECASE)
_BOTH = re.compile(r"(?P<age>-?\d+(?:\.\d+)?|[Nn][Aa][Nn])\+?\s+(?P<sex>[MF])\b")
_PERSON = re.compile(
    r"(?:patient|subject|person)\s*(?:id|no\.?|number)?\s*[:=#]?\s*(?P<person>[\w.-]*\d[\w.-]*)", re.IGNORECASE
)
_FOLDER = re.compile(r"(?:patient|subject|person)[-_]?\d+|p\d{3,}", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<stem>.+)_s?\d+")
_WORDS = {
    "case", "data", "ecg", "ekg", "file", "holter", "hospital", "id", "n", "p", "patient", "person", "pt", "rec",
    "record", "recording", "s", "sample", "signal", "site", "sub", "subj", "subject", "ward",
}  # fmt: skip
"""Words that are numbered for different persons, as in `subject_1`, `subject_2`."""
_SAMPLE_BYTES = 1 << 16


def read_age_and_sex(header: Header) -> tuple[float, int]:
    """Return age (years, NaN unknown) and sex (0 female, 1 male, -1 unknown) from a header's comments.

    As in MIT-BIH's databases (`69 M ...`, -1 for an unknown age), or `Age: 69  Sex: F` on one line or two, with or
    without angle brackets.
    """
    age, sex = float("nan"), -1
    for line in header.comments:
        both = _BOTH.match(line)
        age_text, sex_text = (both or _AGE.search(line)), (both or _SEX.search(line))
        if age_text and age != age:
            value = float(age_text["age"])
            age = value if 0 <= value <= OLDEST else float("nan")
        if sex_text and sex < 0:
            sex = {"f": 0, "m": 1}[sex_text["sex"][0].lower()]
    return age, sex


def recording_persons(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the person of each recording, so that recordings of one person share a side of every split.

    Recordings are of one person if their headers name the same patient, if a folder on their path is a patient's
    (`patient001`, `p000020`), if their names are numbered parts of one name (`r_1`, `r_2`; not of a word such as
    `subject`), or if their signals are the same.
    """
    persons = {name: _person_by_name(name) for name in names}
    by_content: dict[tuple[int, str], list[str]] = {}
    for name in names:
        try:
            header = read_header(folder / f"{name}.hea")
            files = header.signal_files()
        except DataError:
            continue  # named when it is read
        for line in header.comments:
            if match := _PERSON.fullmatch(line):
                persons[name] = match["person"]
                break
        if files:
            by_content.setdefault(_content(files, whole=False), []).append(name)
    for alike in by_content.values():
        if len(alike) > 1:
            _join_copies(folder, alike, persons)
    return persons


def _person_by_name(name: str) -> str:
    *folders, stem = name.split("/")
    if owners := [part for part in folders if _FOLDER.fullmatch(part)]:
        return owners[-1]
    match = _NUMBERED.fullmatch(stem)
    if match and match["stem"].casefold() not in _WORDS:
        stem = match["stem"]
    return "/".join((*folders, stem))


def _join_copies(folder: Path, names: Sequence[str], persons: dict[str, str]) -> None:
    """Assign recordings with the same content, and all other recordings of their persons, to one person."""
    first: dict[tuple[int, str], str] = {}
    for name in names:
        files = read_header(folder / f"{name}.hea").signal_files()
        original = first.setdefault(_content(files, whole=True), name)
        if persons[original] != persons[name]:
            old, new = persons[name], persons[original]
            for other, person in persons.items():
                if person == old:
                    persons[other] = new


def _content(files: Sequence[Path], whole: bool) -> tuple[int, str]:
    """Return the size of files and a digest of their contents, or of their beginnings."""
    digest, size = hashlib.sha256(), 0
    for path in files:
        size += path.stat().st_size
        with path.open("rb") as content:
            while block := content.read(_SAMPLE_BYTES):
                digest.update(block)
                if not whole:
                    break
    return size, digest.hexdigest()
