"""Many `.psv` files of the PhysioNet/CinC Challenge 2019 as one table: joined, parsed once, checked.

Parsing the joined bytes takes a tenth of the time of parsing file by file. If they do not parse, bisection finds the
file, so that an error still names the file, the line and the column (never the content of a cell).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from common.errors import DataError
from sites.datasets.sepsis.columns import (
    AGE,
    COLUMNS,
    GENDER,
    HOSP_ADM_TIME,
    ICULOS,
    LABEL,
    N_MEASURED,
    NAMES,
    UNIT1,
    UNIT2,
)
from sites.plausible_values import describe_cleared, describe_codes, find_reversed_pair, find_wrong_sign

_HEADER = "|".join([*NAMES, LABEL]).encode()
_UNLABELLED_HEADER = "|".join(NAMES).encode()
_FILE = re.compile(r"(?!\.)(.+)\.psv(\.gz)?", re.IGNORECASE | re.DOTALL)
_BOM = b"\xef\xbb\xbf"
_CELL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|NaN|nan")
_PATIENTS_FOR_A_MEDIAN = 20
OTHER_ENDINGS = (".csv", ".txt", ".tsv", ".dat", ".data")
_PACKED = re.compile(r"(?!\.)(.+)\.psv\.(zip|bz2|xz|zst|7z|rar|txt|csv)", re.IGNORECASE | re.DOTALL)
CODE = " code"
CONSTANT = (AGE, GENDER, UNIT1, UNIT2, HOSP_ADM_TIME)
"""Columns that do not change during a patient's stay, but for a birthday."""
TWO_PEOPLE = "column {}: changes within a patient: are these two people's hours?"


@dataclass(frozen=True)
class Hours:
    """The hours of several patients' files, one file after the other.

    Attributes:
        files: names of the files that have a row.
        rows: float32 `(hours, 40)`, COLUMNS in their units, NaN where not measured.
        label: uint8 `(hours,)`, the published label: 1 sepsis.
        first: int64 `(files,)`, each file's first row.
        implausible: (index of the file, column, number of cells that became NaN). The cells were outside the column's
            limits or, where the column's name ends in CODE, a code for a missing value.
    """

    files: tuple[str, ...]
    rows: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    first: npt.NDArray[np.int64]
    implausible: list[tuple[int, str, int]]

    def locate(self, folder: Path, row: int) -> str:
        """Return the file and the line of a row, for an error."""
        index = int(np.searchsorted(self.first, row, side="right")) - 1
        return f"{folder / self.files[index]}: line {row - int(self.first[index]) + 2}"


def parse_patient(file: str) -> str | None:
    """Return the patient of a file `PATIENT.psv` or `PATIENT.psv.gz`, in any case; None for any other file.

    >>> parse_patient("p000001.psv"), parse_patient("p000001.PSV.gz"), parse_patient("._p000001.psv")
    ('p000001', 'p000001', None)
    """
    match = _FILE.fullmatch(file)
    return match[1] if match else None


def refuse_copies(folder: Path, files: Sequence[str]) -> None:
    """Check that no patient has two files, as in `p1.psv` and `p1.psv.gz`, or one packed in another way.

    Raises:
        DataError: names both files, or the packed one.
    """
    file_number: dict[str, str] = {}
    for file in files:
        if _PACKED.fullmatch(file):
            raise DataError(f"{folder / file} is not read: unpack it to .psv, or pack it as .psv.gz")
        if file.lower().endswith(OTHER_ENDINGS) and _starts_like_a_patient(folder / file):
            raise DataError(f"{folder / file} is not read: call it PATIENT.psv")
        patient = parse_patient(file)
        if patient is not None and (other := file_number.setdefault(patient, file)) != file:
            raise DataError(f"{folder}: {other} and {file} are two copies of one patient; remove one")


def _starts_like_a_patient(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(_BOM).startswith(b"HR|O2Sat|")
    except OSError:
        return False


def refuse_files_below(folder: Path, names: Sequence[str]) -> None:
    """Check that no patient's file is in a folder below, where it would not be read.

    Raises:
        DataError: names the folder.
    """
    for name in names:
        below = folder / name
        if below.is_dir() and any(parse_patient(path.name) for path in below.iterdir()):
            raise DataError(f"{below} holds .psv files too, which are not read: move them into {folder}, or elsewhere")


def unpack(path: Path, content: bytes) -> bytes:
    """Return the text of a file, unpacked if its name ends in `.gz`.

    Raises:
        DataError: the file is damaged.
    """
    if not path.name.lower().endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path}: cannot be unpacked: the file is damaged or truncated; copy it again") from None


def count_cleared(implausible: Sequence[tuple[int, str, int]]) -> dict[str, int]:
    """Return the number of cells that became missing, by reason: the column with its plausible limits.

    Args:
        implausible: entries as in `Hours.implausible`.
    """
    limits = {column.name: column.limits for column in COLUMNS}
    cleared: dict[str, int] = {}
    for _, column, number in implausible:
        name = column.removesuffix(CODE)
        reason = describe_codes(name) if name != column else describe_cleared(name, limits[name])
        cleared[reason] = cleared.get(reason, 0) + number
    return cleared


def parse_files(folder: Path, files: Sequence[str], contents: Sequence[bytes], *, labelled: bool = True) -> Hours:
    """Return the hours of all files in order.

    Args:
        folder: where the files are.
        files: their names.
        contents: their text.
        labelled: whether to read and check the labels; else the column may be absent, and the labels are 0.

    Raises:
        DataError: a column is missing or out of order, a cell is no number, the hours do not rise one by one,
            the label falls, or a hospital's median is implausible; the message names file, line and column.
    """
    bodies = {name: _body(folder / name, content, labelled) for name, content in zip(files, contents, strict=True)}
    bodies = {name: body for name, body in bodies.items() if body}
    count = np.array([body.count(b"\n") + 1 for body in bodies.values()], dtype=np.int64)
    total = int(count.sum())
    rows, label = np.empty((total, len(COLUMNS)), np.float32), np.zeros(total, np.float32)
    try:
        batches = _table(list(bodies.values()), labelled).to_batches() if bodies else []
    except pa.ArrowInvalid:
        raise _unreadable(folder, bodies, labelled) from None
    start = 0
    for batch in batches:
        part = slice(start, start + len(batch))
        for j in range(len(COLUMNS)):
            rows[part, j] = batch.column(j).to_numpy()
        if labelled:
            label[part] = batch.column(len(COLUMNS)).to_numpy()
        start = part.stop
    hours = Hours(tuple(bodies), rows, (label == 1).astype(np.uint8), np.cumsum(count) - count, [])
    _check_order(folder, hours, label)
    _clear_implausible(folder, hours)
    return hours


def _body(path: Path, content: bytes, labelled: bool) -> bytes:
    """Return the rows of a file, without its header and its last line end; an absent label is an empty cell."""
    content = content.removeprefix(_BOM)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
        if b"\r" in content:
            raise DataError(f"{path}: a carriage return within a line: end lines with a line feed")
    head, _, body = content.partition(b"\n")
    if head == _HEADER:
        return body.rstrip(b"\n")
    if head == _UNLABELLED_HEADER and not labelled:
        body = body.rstrip(b"\n")
        return body.replace(b"\n", b"|\n") + b"|" if body else body
    wanted, given = [*NAMES, LABEL], head.decode("utf-8", "replace").split("|")
    if absent := [name for name in wanted if name not in given]:
        raise DataError(f"{path}: column {absent[0]} is missing: the first line names the 41 columns, split by |")
    at = next((i for i, (have, want) in enumerate(zip(given, wanted, strict=False)) if have != want), len(wanted))
    should = f"not {wanted[at]}" if at < len(wanted) else "one too many"
    raise DataError(f"{path}: column {at + 1} is {given[at][:40]!r}, {should}: keep the columns in the published order")


def _table(bodies: Sequence[bytes], labelled: bool) -> pa.Table:
    names = [*NAMES, LABEL]
    types: Mapping[str, pa.DataType] = dict.fromkeys(names, pa.float32())
    if not labelled:
        types = {**types, LABEL: pa.string()}
    return csv.read_csv(
        pa.BufferReader(b"\n".join(bodies)),
        read_options=csv.ReadOptions(column_names=names),
        parse_options=csv.ParseOptions(delimiter="|", quote_char=False, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
    )


def _unreadable(folder: Path, bodies: dict[str, bytes], labelled: bool) -> DataError:
    """Return the error of the first file that does not parse, found by bisection."""
    names = list(bodies)
    while len(names) > 1:
        half = names[: len(names) // 2]
        try:
            _table([bodies[name] for name in half], labelled)
        except pa.ArrowInvalid:
            names = half
        else:
            names = names[len(half) :]
    columns = [*NAMES, LABEL]
    for i, line in enumerate(bodies[names[0]].split(b"\n")):
        cells = line.split(b"|")
        if len(cells) != len(columns):
            return DataError(f"{folder / names[0]}: line {i + 2} has {len(cells)} cells, not {len(columns)}")
        for cell, column in zip(cells, columns, strict=True):
            if not _CELL.fullmatch(cell) and (labelled or column != LABEL):
                what = "a cell that is no number: write NaN where nothing was measured"
                return DataError(f"{folder / names[0]}: line {i + 2}, column {column}: {what}")
    return DataError(f"{folder / names[0]}: cannot be read as a table of numbers, split by |")


def _check_order(folder: Path, hours: Hours, label: npt.NDArray[np.float32]) -> None:
    def refuse(bad: npt.NDArray[np.bool_], what: str) -> None:
        if bad.any():
            raise DataError(f"{hours.locate(folder, int(np.argmax(bad)))}, {what}")

    for j, name in enumerate(NAMES):
        refuse(np.isinf(hours.rows[:, j]), f"column {name}: not a finite number")
    refuse((label != 0) & (label != 1), f"column {LABEL}: neither 0 nor 1")
    first = np.zeros(len(label), dtype=bool)
    first[hours.first] = True
    stay = hours.rows[:, ICULOS]
    rises = np.diff(stay, prepend=0) == 1
    refuse((stay < 0) | (stay % 1 > 0), "column ICULOS: not a whole number of hours from 0 on")
    refuse(
        np.where(first, np.isnan(stay), ~rises), "column ICULOS: does not rise by 1: give each hour one row, in order"
    )
    for j in CONSTANT:
        known = ~np.isnan(hours.rows[:, j])
        value = np.where(known, hours.rows[:, j], 0.0)
        both = known & np.concatenate([[False], known[:-1]]) & ~first
        change = np.abs(np.diff(value, prepend=0.0))
        refuse(both & (change > (1 if j == AGE else 0)), TWO_PEOPLE.format(NAMES[j]))
    refuse((hours.rows[:, [UNIT1, UNIT2]] == 1).all(1), "columns Unit1 and Unit2: both are 1: a stay is in one unit")
    refuse(
        (np.diff(label, prepend=0) < 0) & ~first,
        f"column {LABEL}: falls back to 0: the label stays 1 once sepsis has begun",
    )


def _clear_implausible(folder: Path, hours: Hours) -> None:
    """Set cells outside their column's limits to NaN and count them.

    Raises:
        DataError: the median of a column is outside its limits: the hospital uses another unit.
    """
    measured = {name: hours.rows[:, j] for j, name in enumerate(NAMES[:N_MEASURED])}
    if len(hours.files) >= _PATIENTS_FOR_A_MEDIAN and (pair := find_reversed_pair(measured)):
        raise DataError(f"{folder}: {pair[0]} is mostly larger than {pair[1]}: are the two columns turned round?")
    if name := find_wrong_sign(measured):
        raise DataError(f"{folder}: column {name}: its sign is turned round: it falls as HCO3 or pH rises")
    for j, column in enumerate(COLUMNS):
        values = hours.rows[:, j]
        outside, code = column.limits.find_implausible(values), column.limits.find_codes(values)
        known = ~np.isnan(values)
        if len(hours.files) and int(np.maximum.reduceat(known, hours.first).sum()) >= _PATIENTS_FOR_A_MEDIAN:
            middle = float(np.median(values[known]))
            if not column.limits.median[0] <= middle <= column.limits.median[1]:
                side = "below" if middle < column.limits.median[0] else "above"
                raise DataError(
                    f"{folder}: column {column.name}: half of the values are {side} the plausible range: give it in "
                    f"{column.limits.unit}"
                )
        for kind, cells in (("", outside), (CODE, code)):
            if cells.any():
                counts = np.add.reduceat(cells, hours.first, dtype=np.int64)
                hours.implausible.extend((int(i), column.name + kind, int(counts[i])) for i in np.flatnonzero(counts))
                values[cells] = np.nan
