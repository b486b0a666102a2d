"""The rows of UCI's heart disease files: columns, plausible ranges, missing values, inputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.plausible_values import MANY

COLUMNS = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak",
    "slope", "ca", "thal", "num",
)  # fmt: skip
PLAUSIBLE_RANGES = {
    "age": (15.0, 130.0, "years"),
    "trestbps": (40.0, 300.0, "mm Hg"),
    "chol": (50.0, 900.0, "mg/dl"),
    "thalach": (30.0, 250.0, "beats/min"),
    "oldpeak": (-5.0, 8.0, "mm"),
}
"""What a living adult can have, in the unit of UCI's files; values in kPa, mmol/l or months, and a 999 for missing, are
outside."""
PLAUSIBLE_MEDIANS = {
    "age": (25.0, 85.0), "trestbps": (90.0, 180.0), "chol": (160.0, 350.0), "thalach": (85.0, 190.0),
}  # fmt: skip
"""Of MANY patients sent to angiography, which shows that two columns without names are turned round."""
MIN_DEPRESSION = 0.8
"""mm; of MANY patients with an ST depression one has more, in millivolts (0.1 a mm) none has."""
MIN_SHARED, MAX_SHARED = 5, 0.1
"""Rows that are equal to others, in number and as a share, from which on they were copied."""
CODES = {
    "sex": (0, 1), "cp": (1, 2, 3, 4), "fbs": (0, 1), "restecg": (0, 1, 2), "exang": (0, 1),
    "slope": (1, 2, 3), "ca": (0, 1, 2, 3), "thal": (3, 6, 7), "num": (0, 1, 2, 3, 4),
}  # fmt: skip
YES_OR_NO = tuple(name for name, codes in CODES.items() if codes == (0, 1))
ZERO_MEANS_MISSING = ("trestbps", "chol", "thalach")
ZERO_RETAINED = "{} of 0, which stands for not measured (not left out, as FLamby has it)"
MISSING_CELLS = ("?", "-9", "-9.0")
NUMBER_PATTERN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)", re.ASCII)
FILE_PATTERN = re.compile(r"processed\.([A-Za-z0-9][A-Za-z0-9_-]*)\.data", re.ASCII | re.IGNORECASE)
_UNREAD_FILE = re.compile(
    r"processed\.[^/]*\.(?:csv|txt)|(?:processed\.)[^/]*\.data(?:\..+)?|[^/]*\.data\.(?:gz|bz2|xz|zip|zst|7z)",
    re.IGNORECASE,
)
FLAMBY_COLUMNS = COLUMNS[:10]
FLAMBY_NUMBERS = tuple(name for name in FLAMBY_COLUMNS if name not in ("cp", "restecg"))
FLAMBY_DUMMIES = {"cp": (2, 3, 4), "restecg": (1, 2)}
EXPLICIT_NUMBERS = (*FLAMBY_NUMBERS, "ca")
EXPLICIT_DUMMIES = {name: CODES[name] for name in ("cp", "restecg", "slope", "thal")}
INDICATED_COLUMNS = tuple(name for name in EXPLICIT_NUMBERS if name not in ("age", "sex"))
TRAIN_FRACTION, SEED = 0.66, 43
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def row_id(site: str, line: int) -> str:
    """Return the identifier of a row: its hospital and its line in the file."""
    return f"{site}-{line:04d}"


def row_site(name: str) -> str:
    """Return the hospital of a row's identifier.

    >>> row_site(row_id("long-beach", 7))
    'long-beach'
    """
    return name.rpartition("-")[0]


def hospital_files(folder: Path) -> dict[str, Path]:
    """Return each hospital's file, in the order of their names.

    Raises:
        DataError: no such folder or file, two files of one hospital, or one file is a copy of another.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds UCI's processed.<hospital>.data")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if match := FILE_PATTERN.fullmatch(path.name):
            site = match[1].lower()
            if site in files:
                raise DataError(f"{folder}: {files[site].name} and {path.name} name one hospital twice: remove one")
            files[site] = path
        elif _UNREAD_FILE.fullmatch(path.name.strip()):
            raise DataError(
                f"{path} is not read: unpack it and call it processed.<hospital>.data, in letters, digits, - and _, or "
                "move it elsewhere"
            )
    if not files:
        raise DataError(
            f"no recordings in {folder}: the files that are read are called processed.<hospital>.data, as in "
            "processed.cleveland.data (not UCI's files of 76 columns, nor its reprocessed one)"
        )
    _refuse_copies(folder, files.values())
    return files


def find_file(folder: Path, site: str) -> Path:
    """Return one hospital's file, without a look at the others if it has the usual name.

    Raises:
        DataError: as `hospital_files`, or there is no file of this hospital.
    """
    path = folder / f"processed.{site}.data"
    if not path.is_file():
        files = hospital_files(folder)
        if site not in files:
            raise DataError(f"{folder}: no file of one of the requested hospitals, or its rows are not used")
        path = files[site]
    return path


def _refuse_copies(folder: Path, paths: Iterable[Path]) -> None:
    """Refuse two files that share more than MAX_SHARED of the smaller one's different rows, however they are written.

    Each row is looked up among the rows of the files before, so that the time grows with the rows and not with the
    pairs of files.
    """
    sizes: dict[str, int] = {}
    holders: dict[tuple[bytes, ...], list[str]] = {}
    for path in paths:
        rows = {tuple(map(_plain_cell, line.split(b","))) for line in _bytes(path).splitlines() if line.strip()}
        sizes[path.name] = len(rows)
        shared: Counter[str] = Counter()
        for row in rows:
            others = holders.setdefault(row, [])
            shared.update(others)
            others.append(path.name)
        for other in sorted(shared):
            few = min(len(rows), sizes[other])
            if shared[other] > max(min(MIN_SHARED, few / 2), MAX_SHARED * few):
                raise DataError(f"{folder}: {other} and {path.name} hold the same rows: remove the copy")


def _plain_cell(cell: bytes) -> bytes:
    """Return a cell without what does not change its number: blanks, and zeros at its ends."""
    cell = cell.strip()
    if b"." in cell:
        cell = cell.rstrip(b"0").removesuffix(b".")
    return cell.lstrip(b"0") or b"0"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def read_rows(path: Path) -> tuple[Floats, list[int]]:
    """Return a file as `(rows, 14)`, NaN where not measured, and the line of each row.

    Raises:
        DataError: the file is not as UCI publishes it; names the line and the column, never the value.
    """
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file: take processed.<hospital>.data as UCI publishes it") from None
    rows, lines = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(COLUMNS):
            raise DataError(
                f"{path}: line {number} has {len(cells)} columns, not the {len(COLUMNS)} of UCI's processed files "
                f"({', '.join(COLUMNS)})"
            )
        rows.append([_value(path, number, name, cell) for name, cell in zip(COLUMNS, cells, strict=True)])
        lines.append(number)
    if not rows:
        raise DataError(f"{path} is empty: take it from the archive again")
    values = np.asarray(rows, dtype=np.float64)
    copies = len(values) - len({row.tobytes() for row in values})
    if copies > max(MIN_SHARED, MAX_SHARED * len(values)):
        raise DataError(f"{path}: {copies} of its {len(values)} rows are copies of others: fetch it again")
    return values, lines


def _value(path: Path, line: int, column: str, cell: str) -> float:
    if cell in MISSING_CELLS:
        return float("nan")
    if not NUMBER_PATTERN.fullmatch(cell):
        hint = "; UCI's files have no header line" if line == 1 else ""
        raise DataError(f"{path}: line {line}, column {column}: neither a number nor ? (not measured){hint}")
    value = float(cell)
    if column in CODES and value not in CODES[column]:
        raise DataError(
            f"{path}: line {line}, column {column}: not one of UCI's codes {', '.join(map(str, CODES[column]))}: is "
            "the file recoded? The heart.csv in wide circulation is, and its label is inverted; take UCI's own files"
        )
    return value


def find_implausible(path: Path, values: Floats) -> Mask:
    """Return which values are outside PLAUSIBLE_RANGES, `(rows, 14)`.

    Raises:
        DataError: more than half of a column is, or the median of many rows is implausible: it must be in another unit,
            or another column.
    """
    implausible = np.zeros(values.shape, dtype=np.bool_)
    for name, (low, high, unit) in PLAUSIBLE_RANGES.items():
        index = COLUMNS.index(name)
        column = values[:, index]
        given = ~np.isnan(column) & ~((column == 0) & (name in ZERO_MEANS_MISSING))
        implausible[:, index] = given & ((column < low) | (column > high))
        if 2 * implausible[:, index].sum() > given.sum():
            raise DataError(
                f"{path}: column {name} is outside {low:g} to {high:g} {unit} in {implausible[:, index].sum()} of "
                f"{given.sum()} rows: is it in another unit? UCI's is {unit}"
            )
        low, high = PLAUSIBLE_MEDIANS.get(name, (-np.inf, np.inf))
        if given.sum() >= MANY and not low <= np.median(column[given]) <= high:
            raise DataError(
                f"{path}: column {name}: its median is not one of {low:g} to {high:g} {unit}: is it another column, or "
                f"another unit? UCI's order is {', '.join(COLUMNS)}"
            )
    depression = values[:, COLUMNS.index("oldpeak")]
    if (depression > 0).sum() >= MANY and np.nanmax(depression) < MIN_DEPRESSION:
        raise DataError(f"{path}: column oldpeak: no value reaches {MIN_DEPRESSION:g} mm: is it in mV? UCI's is in mm")
    return implausible


def describe_limits(name: str) -> str:
    """Return what a message says of values beyond the limits of the column `name`: `outside 40 to 300 mm Hg`."""
    low, high, unit = PLAUSIBLE_RANGES[name]
    return f"outside {low:g} to {high:g} {unit}"


def choose_test_rows(disease: Mask, draw: int) -> Mask:
    """Return a mask `(rows,)` of a hospital's test rows, chosen with scikit-learn as FLamby does.

    The choice is stratified by label if each label occurs more than twice. A hospital with one row has no test row.

    Args:
        disease: `(rows,)`, whether a row has the label.
        draw: added to the seed; each number gives another choice.
    """
    from sklearn.model_selection import train_test_split

    test = np.zeros(len(disease), dtype=np.bool_)
    if len(disease) > 1:
        counts = np.bincount(disease, minlength=2)
        chosen: list[npt.NDArray[np.int64]] = train_test_split(
            np.arange(len(disease)),
            train_size=TRAIN_FRACTION,
            test_size=1.0 - TRAIN_FRACTION,
            random_state=SEED + draw,
            stratify=disease if counts.min() > 2 else None,
        )
        test[chosen[1]] = True
    return test


def build_inputs(values: Floats, numbers: Sequence[str], dummies: dict[str, Any]) -> Floats:
    """Return the numbers, then a 0/1 column for each code; all are 0 where the code is missing."""
    codes = [values[:, COLUMNS.index(name)] == code for name, every in dummies.items() for code in every]
    return np.column_stack([values[:, [COLUMNS.index(name) for name in numbers]], *codes])


def find_first_equal_lines(values: Floats, lines: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each row the line number of the first row that has the same values.

    Args:
        values: `(rows, columns)`.
        lines: `(rows,)`, the line of each row in its file.
    """
    first: dict[bytes, int] = {}
    return np.asarray(
        [first.setdefault(row.tobytes(), int(line)) for row, line in zip(values, lines, strict=True)], dtype=np.int64
    )
