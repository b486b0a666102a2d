"""Whose each recording is: patient, hospital, age, sex and label, from the table, the headers and the folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import ConfigError, DataError
from sites.datasets.recordings.description import FILE_NAME, Description, LabelTable
from sites.datasets.table import description as table_description
from sites.datasets.table.columns import CellError, Column, to_column
from sites.datasets.table.files import open_arrow
from sites.ecg import edf, persons
from sites.ecg.recordings import recording_names
from sites.spellings import check_hospitals, check_patients, plain_spelling

NOT_LISTED = "recordings that the table does not list (a name is the path in the folder without its ending: east/106)"
NO_LABEL = "recordings without a label"
_ENDING = re.compile(r"\.(?:hea|dat|mat|edf)$", re.IGNORECASE)
OTHER_LABEL = "recordings of a label without a class"
SKIPPED = "recordings left out by the description"


@dataclass(frozen=True)
class Owner:
    """One recording.

    Attributes:
        name: its name.
        person: the patient.
        hospital: None where the folder is one hospital.
        label: class of the recording, None where labels are not from the table.
        age: years from the table, None where it has none.
        sex: 0 female, 1 male, -1 unknown from the table, None where it has none.
    """

    name: str
    person: str
    hospital: str | None
    label: int | None = None
    age: float | None = None
    sex: int | None = None


def list_recordings(folder: Path, kind: str) -> tuple[str, ...]:
    """Return the names of all recordings in a folder: those of RECORDS, else its own, else those of its folders."""
    if kind == "edf":
        return edf.edf_names(folder)
    own = (folder / "RECORDS").is_file() or not folder.is_dir() or any(folder.glob("*.[hH][eE][aA]"))
    inner = [] if own else sorted({path.parent for path in folder.rglob("*.hea") if not path.name.startswith(".")})
    if not inner:
        return recording_names(folder)
    return tuple(f"{path.relative_to(folder).as_posix()}/{name}" for path in inner for name in recording_names(path))


def find_owners(folder: Path, options: Description) -> tuple[list[Owner], dict[str, int]]:
    """Return the recordings to use in order, and how many are left out, by reason.

    Raises:
        DataError: a name of the description or of the table is that of no recording, or a cell cannot be read.
    """
    read = options.read
    names = list_recordings(folder, read.files)
    for name in (*read.skip, *read.persons):
        if name not in names:
            raise DataError(f"{folder}: the description names the recording {name}, which is not there")
    excluded = {SKIPPED: len(set(read.skip))}
    names = tuple(name for name in names if name not in read.skip)
    rows = _read_table(folder, read.table) if read.table else None
    if rows is not None:
        plain = {plain_spelling(name): name for name in names if name not in rows.number}
        for name in rows.number.keys() - set(names):
            if (alike := plain.get(plain_spelling(name))) is not None:
                raise DataError(f"{rows.path}: {name} is written otherwise than the recording {alike}: write it so")
        listed = [name for name in names if name in rows.number]
        excluded[NOT_LISTED] = len(names) - len(listed)
        names = tuple(listed)
    owners = []
    person = _find_persons(folder, names, options)
    for name in names:
        row = rows.number[name] if rows else -1
        label = None
        if options.labels == "table" and rows is not None and rows.label is not None:
            value = rows.label[row]
            label = options.class_index.get(value)
            if label is None:
                reason = OTHER_LABEL if value else NO_LABEL
                excluded[reason] = excluded.get(reason, 0) + 1
                continue
        hospital = name.split("/")[0] if read.hospital == "folder" and "/" in name else None
        if read.hospital == "folder" and hospital is None:
            raise DataError(f"{folder}: {name} is in no hospital's folder, as read.hospital: folder says")
        own = person[name]
        if (
            rows is not None
            and name not in read.persons
            and rows.patient is not None
            and not (own := rows.patient[row])
        ):
            raise DataError(f"{rows.path}: row {row + 1}, column {rows.names['patient']}: no patient")
        if rows is not None and rows.hospital is not None and not (hospital := rows.hospital[row]):
            raise DataError(f"{rows.path}: row {row + 1}, column {rows.names['hospital']}: no hospital")
        owners.append(
            Owner(
                name,
                own,
                hospital,
                label,
                None if rows is None or rows.age is None else rows.age[row],
                None if rows is None or rows.sex is None else rows.sex[row],
            )
        )
    _check_persons(folder, owners)
    if not owners:
        why = "; ".join(f"{count} {reason}" for reason, count in excluded.items() if count)
        raise DataError(f"{folder}: no recording can be used ({why or 'there are none'})")
    return owners, {reason: count for reason, count in excluded.items() if count}


def _check_persons(folder: Path, owners: Sequence[Owner]) -> None:
    """Check that patients and hospitals are each written in one way.

    Raises:
        DataError: one person, or one hospital, would count as two.
    """
    homes = sorted({owner.hospital for owner in owners if owner.hospital is not None})
    check_hospitals(str(folder), homes)
    pairs = sorted({(owner.person, owner.hospital or "") for owner in owners})
    number = {home: i for i, home in enumerate(homes)}
    where = np.asarray([number.get(home, 0) for _, home in pairs], dtype=np.int64)
    check_patients(str(folder), [person for person, _ in pairs], where)


def _find_persons(folder: Path, names: tuple[str, ...], options: Description) -> dict[str, str]:
    read = options.read
    if read.table is not None and read.table.patient is not None:
        return dict.fromkeys(names, "") | read.persons
    if read.patient == "recording":
        return {name: name for name in names} | read.persons
    if read.patient == "folder":
        for name in names:
            if "/" not in name:
                raise DataError(f"{folder}: {name} is in no patient's folder, as read.patient: folder says")
        return {name: name.rpartition("/")[0] for name in names} | read.persons
    if read.files == "wfdb":
        return persons.recording_persons(folder, names) | read.persons
    codes = {name: edf.read_edf_person(edf.edf_path(folder, name)).code for name in names}
    return {name: code.casefold() or persons.person_by_name(name) for name, code in codes.items()} | read.persons


@dataclass(frozen=True)
class _Rows:
    path: Path
    names: dict[str, str]
    number: dict[str, int]
    label: list[str] | None
    patient: list[str] | None
    hospital: list[str] | None
    age: list[float] | None
    sex: list[int] | None


def _read_table(folder: Path, table: LabelTable) -> _Rows:
    if table.file.startswith("/") or ".." in Path(table.file).parts:
        raise ConfigError(f"read.table.file: {table.file} leaves the data folder: name a file in it")
    path = folder / table.file
    if not path.is_file():
        whose = f"read.table of {FILE_NAME} names it"
        if not (folder / FILE_NAME).is_file():
            whose = f"the run's read.table names it, and the folder has no {FILE_NAME}; wardround data init writes one"
        raise DataError(f"no file {table.file} in {folder}: {whose}")
    reading = table_description.Reading(
        files=(table.file,),
        delimiter=table.delimiter,
        decimal=table.decimal,
        encoding=table.encoding,
        missing=table.missing,
    )
    names = {
        "recording": table.recording,
        "label": table.label,
        "patient": table.patient,
        "hospital": table.hospital,
        "age": table.age,
        "sex": table.sex and table.sex.column,
    }
    wanted = {role: name for role, name in names.items() if name}
    arrow = open_arrow(path, reading, wanted.values())
    columns = {role: to_column(arrow.column(name), table.missing) for role, name in wanted.items()}
    number: dict[str, int] = {}
    for row, name in enumerate(columns["recording"].texts()):
        name = _ENDING.sub("", name.replace("\\", "/")).removeprefix("./")
        if name and number.setdefault(name, row) != row:
            raise DataError(f"{path}: rows {number[name] + 1} and {row + 1} are of one recording: keep one row each")
    return _Rows(
        path,
        wanted,
        number,
        columns["label"].texts() if "label" in columns else None,
        columns["patient"].texts() if "patient" in columns else None,
        columns["hospital"].texts() if "hospital" in columns else None,
        _read_ages(path, wanted, columns, table.decimal),
        _read_sexes(path, table, columns),
    )


def _read_ages(path: Path, names: dict[str, str], columns: dict[str, Column], decimal: str) -> list[float] | None:
    if "age" not in columns:
        return None
    try:
        ages: list[float] = columns["age"].numbers(decimal).tolist()
    except CellError as error:
        raise DataError(f"{path}: row {error.row}, column {names['age']}: {error.problem}") from None
    for row, age in enumerate(ages, 1):
        if age < 0 or age > persons.OLDEST:
            raise DataError(
                f"{path}: row {row}, column {names['age']}: not an age of 0 to {persons.OLDEST} years: if it means "
                "that the age is not known, name it under read.table.missing"
            )
    return ages


def _read_sexes(path: Path, table: LabelTable, columns: dict[str, Column]) -> list[int] | None:
    if table.sex is None:
        return None
    result = columns["sex"].positions([table.sex.female, table.sex.male])
    if (unknown := np.flatnonzero(result == -2)).size:
        raise DataError(f"{path}: row {int(unknown[0]) + 1}, column {table.sex.column}: neither female nor male")
    sexes: list[int] = result.tolist()
    return sexes
