"""The hospitals of a folder in the layout of the PhysioNet/CinC Challenge 2019, checked for duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites import synthetic_folder
from sites.datasets.sepsis import hour_table, psv
from sites.datasets.sepsis.columns import N_MEASURED, NAMES
from sites.datasets.sepsis.hour_table import HourTable
from sites.datasets.sepsis.odd_patients import count_odd_patients

PREFIX = "training_set"
MIN_CELLS_OF_COPY = 30
"""Measured cells, without age and the like, that make it certain that two files are of one patient."""


@dataclass(frozen=True)
class Hospital:
    """One hospital.

    Attributes:
        site: its name; none where the folder is one hospital.
        table: its patients' hours.
        duplicates: patients (indices) whose file has the same bytes as another's, or only hours that another has too.
        synthetic: whether the files say that they were generated.
    """

    site: str | None
    table: HourTable
    duplicates: frozenset[int]
    synthetic: bool


def load_hospitals(folder: Path, store: Path) -> list[Hospital]:
    """Return the hospitals of a data folder: those of its subfolders, or one hospital if it holds the files itself.

    Raises:
        DataError: no folder or file, two hospitals have a patient of the same name, or one has no patient.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds {PREFIX}A and {PREFIX}B")
    candidates = [
        sorted(path for path in root.glob(f"{PREFIX}?*") if path.is_dir()) for root in (folder, folder / "training")
    ]
    if any(candidates) and any(psv.parse_patient(path.name) for path in folder.iterdir()):
        raise DataError(f"{folder}: .psv files are next to the hospitals' folders: move each into its hospital's")
    if all(candidates):
        raise DataError(
            f"{folder}: hospitals are in it and in {folder / 'training'}, which would not be read: keep one of the two"
        )
    folders: dict[str | None, Path] = {path.name.removeprefix(PREFIX): path for path in candidates[0] or candidates[1]}
    positions = list((folders or {None: folder}).items())
    tables = [hour_table.read_hour_table(path, store) for _, path in positions]
    copies = _find_copies(tables)
    hospitals: list[Hospital] = []
    owner: dict[str, int] = {}
    contents: set[bytes] = set()
    for k, ((site, path), table) in enumerate(zip(positions, tables, strict=True)):
        for name in table.names:
            if owner.setdefault(name, k) != k:
                other = positions[owner[name]][1]
                raise DataError(
                    f"{name}.psv is in {other.name} and in {path.name}: one patient at two sites, or one name "
                    "for two patients: remove it from one, or rename it"
                )
        duplicates = {i for where, i in copies if where == k}
        for i, content in enumerate(table.digest.view("V16")[:, 0].tolist()):
            if content in contents:
                duplicates.add(i)
            contents.add(content)
        if len(duplicates) == len(table.names):
            raise DataError(f"no recordings in {path}: every .psv file is without an hour, or the same as another's")
        synthetic = synthetic_folder.is_marked(folder) or synthetic_folder.is_marked(path)
        hospitals.append(Hospital(site, table, frozenset(duplicates), synthetic))
    return hospitals


def _find_copies(tables: Sequence[HourTable]) -> set[tuple[int, int]]:
    """Return the patients (hospital, patient) all of whose hours are the first hours of another patient.

    Of two patients of the same hours the first is none of them. Patients with few measured cells are not judged: two
    may be alike by chance.
    """
    start = np.concatenate([table.start for table in tables])
    _, group, size = np.unique(start, return_inverse=True, return_counts=True)
    who = [(k, i) for k, table in enumerate(tables) for i in range(len(table.names))]
    alike: dict[int, list[tuple[int, int]]] = {}
    for at in np.flatnonzero(size[group] > 1).tolist():
        alike.setdefault(int(group[at]), []).append(who[at])
    copies: set[tuple[int, int]] = set()
    for members in alike.values():
        members.sort(key=lambda member: -int(tables[member[0]].hours[member[1]]))
        rows = [_patient_rows(tables[k], i) for k, i in members]
        for at, own in enumerate(rows):
            if (~np.isnan(own[:, :N_MEASURED])).sum() >= MIN_CELLS_OF_COPY and any(
                other[: len(own)].tobytes() == own.tobytes() for other in rows[:at]
            ):
                copies.add(members[at])
    return copies


def _patient_rows(table: HourTable, patient: int) -> npt.NDArray[np.float32]:
    first = int(table.first[patient])
    return np.ascontiguousarray(table.rows[first : first + int(table.hours[patient])])


def count_excluded(hospitals: Sequence[Hospital], chosen: set[tuple[int, int]]) -> dict[str, int]:
    """Return the counts of excluded files and cells of a site that has the chosen patients (hospital, patient).

    An excluded file counts at the site with its hospital's first patient, so that it counts once if several sites are
    made from one hospital.
    """
    excluded: dict[str, int] = {}
    for k, hospital in enumerate(hospitals):
        originals = (i for i in range(len(hospital.table.names)) if i not in hospital.duplicates)
        if (k, next(originals, -1)) in chosen:
            excluded["patients without an hour"] = excluded.get("patients without an hour", 0) + hospital.table.empty
            what = "patients whose file is the same as another's, or its beginning"
            excluded[what] = excluded.get(what, 0) + len(hospital.duplicates)
        patients = [i for where, i in sorted(chosen) if where == k]
        if patients:
            table = hospital.table
            label = np.concatenate([table.label[table.first[i] :][: table.hours[i]] for i in patients])
            hours = table.hours[patients]
            start = table.rows[table.first[patients], NAMES.index("ICULOS")]
            for reason, number in count_odd_patients(start, label, np.cumsum(hours) - hours).items():
                excluded[reason] = excluded.get(reason, 0) + number
        chosen_cells = [entry for entry in hospital.table.implausible if (k, entry[0]) in chosen]
        for reason, number in psv.count_cleared(chosen_cells).items():
            excluded[reason] = excluded.get(reason, 0) + number
    return {what: count for what, count in excluded.items() if count}


class PatientSelection:
    """Selects the hours of some patients (hospital, patient), in that order, from an array of each hospital.

    One run of consecutive patients is not copied but stays memory-mapped.

    Attributes:
        tables: one for each hospital.
        edges: of each hospital, each patient's first row and the end of the table.
        runs: hospital, first patient and the patient after the last.
    """

    def __init__(self, tables: Sequence[HourTable], chosen: Sequence[tuple[int, int]]) -> None:
        self.tables = tables
        self.edges = [np.append(table.first, len(table.label)) for table in tables]
        self.runs: list[tuple[int, int, int]] = []
        for k, i in chosen:
            if self.runs and self.runs[-1][0] == k and self.runs[-1][2] == i:
                self.runs[-1] = (k, self.runs[-1][1], i + 1)
            else:
                self.runs.append((k, i, i + 1))

    def __call__(self, get_rows: Callable[[HourTable], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return the selected rows of the arrays that `get_rows` gives for the hospitals."""
        values = {k: get_rows(self.tables[k]) for k in sorted({k for k, _, _ in self.runs})}
        parts = [values[k][self.edges[k][start] : self.edges[k][stop]] for k, start, stop in self.runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
