"""The person of each recording, with age and sex, derived from headers, names and contents."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from common.errors import DataError
from sites.ecg.headers import Header, read_header

OLDEST = 120
"""Years; a higher age is a mistake and counts as unknown."""

ABOVE_89 = 90.0
"""Years that stand for an age given as above 89, as public data do."""

_AGE = re.compile(
    r"\bage\b>?\s*(?:\(?(?:in )?years?\)?)?\s*[:=.]{0,2}\s*(?P<sign>[-<>]?)\s*(?P<age>\d+(?:[.,]\d+)?)"
    r"(?P<to>\s*(?:[-\u2013\u2014]|to|bis)\s*\d+|\s*\?|\s*h(?:ours?|rs?)?\b)?"
    r"(?:\s*(?P<unit>y|yrs?|years?|d|days?|wks?|weeks?|mo|mths?|months?)|(?P<short>[wm])"
    r"|\s+(?P<letter>[wm]))?(?:\s*(?:,|and)?\s*(?P<months>\d{1,2})\s*mo(?:nths?)?)?(?![\w/])",
    re.IGNORECASE,
)
_OTHER_AGE = re.compile(
    r"\b(?:maternal|mother|paternal|father|parent|donor|partner|gestation(?:al)?|menstrual|postmenstrual|conceptional"
    r"|bone|heart|vascular|biological|mean|average|median|at|since|from|until|before|after|of)(?:[\u2019']?s)?[\s_-]*$",
    re.IGNORECASE,
)
"""Before the word age: another person's, of something else, or at another time."""
OLDEST_IN_LETTERS = 24
"""Up to this number, a letter m or w after an age may stand for months or weeks; above it stands for a sex."""
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_SEX = re.compile(r"\b(?:sex|gender)\b\W*(?P<sex>male|female|man|woman|m|f)\b(?!\s*/)", re.IGNORECASE)
_BOTH = re.compile(r"(?P<age>-?\d+(?:\.\d+)?|[Nn][Aa][Nn])\+?\s+(?P<sex>[MF])(?:\s+[\dx].*)?")
_PERSON = re.compile(
    r"<?(?:(?:patient|pat\.?|subject|person|participant|proband)[\s_-]*(?:id|no\.?|nr\.?|number)?|mrn|pid"
    r"|medical record number)>?\s*[:=#]?\s*[\"']?(?P<person>[\w.-]*\d[\w.-]*)[\"']?(?:\s*[,;(].*)?",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"<?(?:patient|pat\.?|subject)(?:'?s)?[\s_-]*name>?\s*[:=]\s*(?!(?:anon|unknown|none|x+\b|n/?a\b|-))(?P<person>\S.*\S)",
    re.IGNORECASE,
)
_OWNER = r"(?:patient|subject|person|pat|subj|sub|pt)[-_]?\d+"
_FOLDER = re.compile(rf"{_OWNER}|p\d{{3,}}", re.IGNORECASE)
_OWNED = re.compile(rf"(?P<owner>{_OWNER})[-_].+", re.IGNORECASE)
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
    without angle brackets. Months, weeks and days become years; an age above 89 is 90; of a range nothing is known.
    """
    age, sex = float("nan"), -1
    for line in header.comments:
        if both := _BOTH.fullmatch(line):
            age_text, sex_text = float(both["age"]), both["sex"]
        else:
            age_text, letter = _read_age(line)
            match = _SEX.search(line)
            sex_text = match["sex"] if match else letter
        if age != age and 0 <= age_text <= OLDEST:
            age = age_text
        if sex_text and sex < 0:
            sex = 0 if sex_text[0] in "fFwW" else 1
    return age, sex


def _read_age(line: str) -> tuple[float, str]:
    """Return the age in a comment in years, NaN if it gives none, or no single one; and a letter m or w after it.

    `45 M` is a man of 45, `6 months` and `006M` are half a year; `6 m` may be either, so that nothing is known.
    The age of a mother, or at the first syncope, is not the patient's.
    """
    unknown = float("nan"), ""
    own = (each for each in _AGE.finditer(line) if not _OTHER_AGE.search(line[: each.start()]))
    match = next(own, None)
    if match is None or match["sign"] in ("-", "<") or match["to"]:
        return unknown
    age = float(match["age"].replace(",", "."))
    if match["sign"] == ">":
        return (ABOVE_89, "") if age >= 89 else unknown
    if letter := match["letter"]:
        return (age, letter) if age > OLDEST_IN_LETTERS else unknown
    unit = match["unit"] or match["short"]
    years = age / _PER_YEAR[unit[0].lower()] if unit else age
    return years + float(match["months"] or 0) / 12, ""


def recording_persons(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the person of each recording, so that recordings of one person share a side of every split.

    Recordings are of one person if their headers name the same patient (case and leading zeros do not matter), if a
    folder on their path or the beginning of their name is a patient's (`patient001`, `p000020`, `sub-01_ses-2`), if
    their names are numbered parts of one name (`r_1`, `r_2`; not of a word such as `subject`), or if their signal files
    are the same.
    """
    persons = {name: person_by_name(name) for name in names}
    by_content: dict[tuple[int, str], list[str]] = {}
    for name in names:
        try:
            header = read_header(folder / f"{name}.hea")
            files = header.signal_files()
        except DataError:
            continue  # named when it is read
        for line in header.comments:
            text = unicodedata.normalize("NFKC", line)
            if (match := _PERSON.fullmatch(text)) or (match := _NAME.fullmatch(text)):
                persons[name] = match["person"].casefold().lstrip("0") or "0"
                break
        if files:
            by_content.setdefault(_content(files, whole=False), []).append(name)
    for alike in by_content.values():
        if len(alike) > 1:
            _join_copies(folder, alike, persons)
    return persons


def person_by_name(name: str) -> str:
    """Return the person that a recording's name and its folders stand for, or else the recording itself.

    >>> [person_by_name(name) for name in ("patient001/s0010_re", "sub-01_ses-2", "subject_1", "16265")]
    ['patient001', 'sub-01', 'subject_1', '16265']
    """
    *folders, stem = name.split("/")
    if owners := [part for part in folders if _FOLDER.fullmatch(part)]:
        return owners[-1]
    if match := _OWNED.fullmatch(stem):
        return "/".join((*folders, match["owner"]))
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
