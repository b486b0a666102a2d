"""Rows of a described table as inputs, labels and patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.table.cells import AGE_ROLE, FileTally, build_features, check_tally, read_numbers
from sites.datasets.table.columns import Floats
from sites.datasets.table.description import Description
from sites.datasets.table.files import RawFile, check_file_names, file_title, is_parquet, list_files, read_file
from sites.datasets.table.times import read_hours
from sites.datasets.table.units import check_units, tally_units
from sites.plausible_values import Limits
from sites.spellings import check_hospitals, check_patients

AGE_LIMITS = Limits("years", (0.0, 130.0))
NO_OUTCOME = "rows without an outcome"
NO_PATIENT = "rows without a patient"
NO_HOSPITAL = "rows without a hospital"
NO_INPUT = "rows in which no input was measured"


@dataclass(frozen=True)
class TableRows:
    """The usable rows of a folder, file after file.

    Attributes:
        values: float32 `(rows, values)`, NaN where not measured: the inputs that do not follow from another.
        layout: int64 `(features,)`, how `values` give the inputs: an index, or -1 - index for whether it was measured.
        y: int64 `(rows,)`, the class; 0 where outcomes are not read.
        patient: int64 `(rows,)`, index into `patients`.
        patients: name of each patient; unique in the folder.
        hospital: int64 `(patients,)`, index into `hospitals`.
        hospitals: names, sorted.
        age: float32 `(rows,)`, NaN unknown.
        sex: int8 `(rows,)`: 0 female, 1 male, -1 unknown.
        hours: float64 `(rows,)`, the time of each row; empty without times.
        cleared: number of cells that became missing, int64 `(patients, reasons)`.
        reasons: why, one for each column of `cleared`.
        excluded: rows that are not used, int64 `(hospitals, exclusions)`.
        exclusions: why, one for each column of `excluded`.
        file: int64 `(rows,)`, index into `files`.
        row: int64 `(rows,)`, the row in its file, counted from 1.
        files: names of the files.
    """

    values: npt.NDArray[np.float32]
    layout: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    patient: npt.NDArray[np.int64]
    patients: tuple[str, ...]
    hospital: npt.NDArray[np.int64]
    hospitals: tuple[str, ...]
    age: npt.NDArray[np.float32]
    sex: npt.NDArray[np.int8]
    hours: Floats
    cleared: npt.NDArray[np.int64]
    reasons: tuple[str, ...]
    excluded: npt.NDArray[np.int64]
    exclusions: tuple[str, ...]
    file: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    files: tuple[str, ...]

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """The inputs, float32 `(rows, features)`, NaN where not measured."""
        return self.take_features(slice(None))

    def take_features(self, chosen: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.float32]:
        """Return the inputs of some rows, `(chosen, features)`."""
        values = self.values[chosen]
        features = np.empty((len(values), len(self.layout)), np.float32)
        for position, source in enumerate(self.layout.tolist()):
            features[:, position] = values[:, source] if source >= 0 else ~np.isnan(values[:, -1 - source])
        return features


def read_rows(folder: Path, description: Description, *, labelled: bool = True) -> TableRows:
    """Return the rows of all files of a folder.

    Args:
        folder: the data folder.
        description: what the columns are; `read` as of this folder.
        labelled: whether outcomes are read, and rows without one left out.

    Raises:
        DataError: a file cannot be read, a cell is not what the description says, or a patient is at two hospitals.
    """
    paths = list_files(folder, description.read)
    check_file_names(folder, paths, description)
    parts: list[_Part] = []
    clocks: list[tuple[str, ...]] = []
    for number, path in enumerate(paths):
        tally = FileTally()
        parts += [
            _read_part(raw, number, description, tally, labelled=labelled)
            for raw in read_file(path, description, labelled=labelled)
        ]
        check_tally(path, description, tally)
        check_units(path, description, tally)
        clocks.append(tuple(sorted(tally.times)))
    if description.time is not None and len(set(clocks)) > 1:
        _refuse_mixed_clocks(parts, description.time.column, paths, clocks)
    return _join(folder, parts, description, tuple(path.name for path in paths))


def _refuse_mixed_clocks(
    parts: Sequence[_Part], column: str, paths: Sequence[Path], clocks: Sequence[tuple[str, ...]]
) -> None:
    """Refuse files whose times are of several kinds, as with and without a zone, if a patient is in two of them.

    Raises:
        DataError: names two files.
    """
    first: dict[str, int] = {}
    for part in parts:
        for name in set(part.patient):
            if clocks[one := first.setdefault(name, part.file)] != clocks[part.file]:
                kinds = " and ".join(f"a {' or '.join(clocks[file])}" for file in (one, part.file))
                raise DataError(
                    f"{paths[one]} and {paths[part.file].name}: column {column}: a patient's rows have {kinds}: write "
                    "all in one way"
                )


@dataclass(frozen=True)
class _Part:
    """One file's rows, before patients and hospitals have numbers.

    Attributes:
        file: the number of the file.
        arrays: by name, all of the same length.
        patient: text of each row.
        hospital: text of each row.
        reasons: columns of `arrays["cleared"]`.
        excluded: number of rows by hospital and reason.
    """

    file: int
    arrays: dict[str, npt.NDArray[Any]]
    patient: list[str]
    hospital: list[str]
    reasons: tuple[str, ...]
    excluded: Mapping[tuple[str, str], int]


def _read_part(raw: RawFile, file: int, description: Description, tally: FileTally, *, labelled: bool) -> _Part:
    """Return some rows of a file; what is judged over the whole file goes to `tally`."""
    path = raw.path
    decimal = "." if is_parquet(path) else description.read.decimal
    features, cleared = build_features(raw, description, decimal, tally)
    age = read_numbers(raw, description.age, decimal) if description.age else np.full(raw.rows, np.nan)
    beyond = (age < AGE_LIMITS.cell[0]) | (age > AGE_LIMITS.cell[1])
    before = tally.outside.get(AGE_ROLE, (0, 0))
    tally.outside[AGE_ROLE] = before[0] + int(beyond.sum()), before[1] + int((~np.isnan(age)).sum())
    age = np.where(beyond, np.nan, age)
    patient = _patients(raw, description)
    hospital = _hospitals(raw, description)
    tally_units(description, features, cleared, hospital, tally)
    why = np.zeros(raw.rows, dtype=np.int8)  # index into reasons below; 0: kept
    y = np.zeros(raw.rows, dtype=np.int64)
    if labelled:
        y = _labels(raw, description).astype(np.int64)
        why[y < 0] = 1
    values = features[:, [i for i, name in enumerate(_feature_sources(description)) if name]]
    measured = ~np.isnan(values).all(1) if values.size else np.ones(raw.rows, dtype=np.bool_)
    why[~measured] = 4
    why[[not name for name in hospital]] = 3
    if description.patient:
        why[~raw.columns[description.patient].present] = 2
    if description.time is None:  # hours carried forward are not measured: there, indicators are kept as they are
        features = values
    retained = why == 0
    excluded: dict[tuple[str, str], int] = {}
    for row in np.flatnonzero(~retained).tolist():
        key = (hospital[row], ("", NO_OUTCOME, NO_PATIENT, NO_HOSPITAL, NO_INPUT)[int(why[row])])
        excluded[key] = excluded.get(key, 0) + 1
    hours = np.zeros(raw.rows)
    if description.time:
        hours = read_hours(raw, description.time.column, decimal, tally.times)
    arrays: dict[str, npt.NDArray[Any]] = {
        "values": features[retained],
        "y": y[retained],
        "age": age[retained].astype(np.float32),
        "sex": _sexes(raw, description)[retained],
        "hours": hours[retained],
        "cleared": np.stack([*cleared.values(), np.zeros(raw.rows, np.bool_)], 1)[retained, :-1],
        "row": np.flatnonzero(retained) + 1 + raw.first,
    }
    keep = np.flatnonzero(retained).tolist()
    return _Part(file, arrays, [patient[i] for i in keep], [hospital[i] for i in keep], tuple(cleared), excluded)


def _feature_sources(description: Description) -> list[bool]:
    """Return for each feature whether it holds a value, and not whether there is one."""
    flags = []
    for item in description.inputs:
        flags += [True] * (len(item.features) - item.indicator) + [False] * item.indicator
    return flags


def _find_layout(description: Description) -> npt.NDArray[np.int64]:
    """Return the layout of rows without a time (`TableRows.layout`)."""
    layout: list[int] = []
    count = 0
    for item in description.inputs:
        own = len(item.features) - item.indicator
        layout += [*range(count, count + own), *([-1 - count] if item.indicator else [])]
        count += own
    return np.asarray(layout, np.int64)


def _labels(raw: RawFile, description: Description) -> npt.NDArray[np.int32]:
    outcome = description.outcome
    y = raw.columns[outcome.column].positions([(value,) for value in outcome.values])
    if (unknown := y == -2).any():
        raise raw.error(
            outcome.column, int(np.flatnonzero(unknown)[0]) + 1,
            f"none of the {len(outcome.values)} values of the outcome: name it under outcome.values or read.missing",
        )  # fmt: skip
    return y


def _sexes(raw: RawFile, description: Description) -> npt.NDArray[np.int8]:
    sex = description.sex
    if sex is None:
        return np.full(raw.rows, -1, dtype=np.int8)
    result = raw.columns[sex.column].positions([sex.female, sex.male])
    if (unknown := result == -2).any():
        raise raw.error(
            sex.column, int(np.flatnonzero(unknown)[0]) + 1, "neither female nor male: see sex.female and sex.male"
        )
    return result.astype(np.int8)


def _agree_on_sex(sex: npt.NDArray[np.int8], patient: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int8]:
    """Return the sex of each row, unknown for a patient whose rows give both."""
    both = (np.bincount(patient[sex == 0], minlength=count) > 0) & (np.bincount(patient[sex == 1], minlength=count) > 0)
    return np.where(both[patient], -1, sex).astype(np.int8)


def _patients(raw: RawFile, description: Description) -> list[str]:
    if description.patient is None:
        stem = file_title(raw.path)
        return [f"{stem}-{raw.first + row + 1}" for row in range(raw.rows)]
    return raw.columns[description.patient].texts()


def _hospitals(raw: RawFile, description: Description) -> list[str]:
    read = description.read
    if read.hospital is not None and read.hospital in raw.columns:
        return raw.columns[read.hospital].texts()
    name = file_title(raw.path) if read.hospital_from == "file" else "hospital"
    return [name] * raw.rows


def _concatenate(parts: Sequence[_Part], name: str) -> npt.NDArray[Any]:
    """Return an array of all parts, and take it from each part when it is copied: both together need much memory."""
    first = parts[0].arrays[name]
    whole = np.empty((sum(len(part.patient) for part in parts), *first.shape[1:]), dtype=first.dtype)
    start = 0
    for part in parts:
        own = part.arrays.pop(name)
        whole[start : start + len(own)] = own
        start += len(own)
    return whole


def _join(folder: Path, parts: Sequence[_Part], description: Description, files: tuple[str, ...]) -> TableRows:
    texts = [text for part in parts for text in part.patient]
    if not texts:
        reasons = {why: 0 for part in parts for _, why in part.excluded}
        for part in parts:
            for (_, why), count in part.excluded.items():
                reasons[why] += count
        why = "; ".join(f"{count} {name}" for name, count in reasons.items()) or "there are none"
        raise DataError(f"{folder}: no row can be used ({why})")
    homes = [text for part in parts for text in part.hospital]
    hospitals = tuple(sorted({*homes, *(name for part in parts for name, _ in part.excluded if name)}))
    number = {name: i for i, name in enumerate(hospitals)}
    index: dict[str, int] = {}
    patient = np.fromiter((index.setdefault(text, len(index)) for text in texts), np.int64, len(texts))
    home = np.fromiter((number[name] for name in homes), np.int64, len(homes))
    hospital = np.zeros(len(index), dtype=np.int64)
    hospital[patient] = home
    if (moved := hospital[patient] != home).any():
        raise DataError(
            f"{folder}: {len(np.unique(patient[moved]))} patients are at more than one hospital: a person's rows "
            "belong to one hospital, or models would be tested on people they were trained on"
        )
    check_hospitals(str(folder), hospitals)
    check_patients(str(folder), tuple(index), hospital)
    causes = tuple(dict.fromkeys(why for part in parts for why in part.reasons))
    cleared = np.zeros((len(index), len(causes)), dtype=np.int64)
    start = 0
    for part in parts:
        own = patient[start : start + len(part.patient)]
        start += len(part.patient)
        for i, why in enumerate(part.reasons):
            np.add.at(cleared[:, causes.index(why)], own, part.arrays["cleared"][:, i])
    exclusions = tuple(dict.fromkeys(why for part in parts for _, why in part.excluded))
    excluded = np.zeros((len(hospitals), len(exclusions)), dtype=np.int64)
    for part in parts:
        for (name, why), count in part.excluded.items():
            excluded[number.get(name, 0), exclusions.index(why)] += count
    whole = {name: _concatenate(parts, name) for name in ("values", "y", "age", "sex", "hours", "row")}
    whole["sex"] = _agree_on_sex(whole["sex"], patient, len(index))
    return TableRows(
        values=whole["values"],
        layout=np.arange(whole["values"].shape[1]) if description.time else _find_layout(description),
        y=whole["y"],
        patient=patient,
        patients=tuple(index),
        hospital=hospital,
        hospitals=hospitals,
        age=whole["age"],
        sex=whole["sex"],
        hours=whole["hours"] if description.time else np.zeros(0),
        cleared=cleared,
        reasons=causes,
        excluded=excluded,
        exclusions=exclusions,
        file=np.repeat([part.file for part in parts], [len(part.patient) for part in parts]),
        row=whole["row"],
        files=files,
    )
