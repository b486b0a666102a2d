"""The hospitals of a folder in the layout of the PhysioNet/CinC Challenge 2019, checked against one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites import synthetic_folder
from sites.datasets.sepsis import hour_table
from sites.datasets.sepsis.hour_table import HourTable

PREFIX = "training_set"


@dataclass(frozen=True)
class Hospital:
    """One hospital: its name, its table, and the patients (indices) whose files are another's."""

    site: str | None
    table: HourTable
    twins: frozenset[int]
    synthetic: bool


def load_hospitals(folder: Path, store: Path) -> list[Hospital]:
    """Return the hospitals of a folder, or the one hospital that it is.

    Raises:
        DataError: nothing is there, or two hospitals have a patient of the same name, or a hospital none of its own.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds {PREFIX}A and {PREFIX}B")
    inner = [
        sorted(path for path in root.glob(f"{PREFIX}?*") if path.is_dir()) for root in (folder, folder / "training")
    ]
    if any(inner) and any(folder.glob("*.psv")):
        raise DataError(f"{folder}: patients lie beside the hospitals' folders: move each .psv into its hospital's")
    hospitals: dict[str | None, Path] = {path.name.removeprefix(PREFIX): path for path in inner[0] or inner[1]}
    found: list[Hospital] = []
    owner: dict[str, int] = {}
    seen: set[bytes] = set()
    for site, path in (hospitals or {None: folder}).items():
        table = hour_table.read_hour_table(path, store)
        for name in table.names:
            if owner.setdefault(name, len(found)) != len(found):
                other = list(hospitals.values())[owner[name]]
                raise DataError(
                    f"{name}.psv is in {other.name} and in {path.name}: one patient at two sites, or one name "
                    "for two patients: remove it from one, or name it anew"
                )
        twins = set()
        for i, content in enumerate(table.digest.view("V16")[:, 0].tolist()):
            if content in seen:
                twins.add(i)
            seen.add(content)
        if len(twins) == len(table.names):
            raise DataError(f"no recordings in {path}: every .psv file is without an hour, or the same as another's")
        synthetic = synthetic_folder.is_marked(folder) or synthetic_folder.is_marked(path)
        found.append(Hospital(site, table, frozenset(twins), synthetic))
    return found


def count_excluded(places: Sequence[Hospital], chosen: set[tuple[int, int]]) -> dict[str, int]:
    """Return what was left out, counted, for a site that has the chosen patients (hospital, patient).

    Whole files count for the site with their hospital's first patient: sites made from one hospital count each once.
    """
    found: dict[str, int] = {}
    for k, place in enumerate(places):
        kept = (i for i in range(len(place.table.names)) if i not in place.twins)
        if (k, next(kept, -1)) in chosen:
            found["patients without an hour"] = found.get("patients without an hour", 0) + place.table.empty
            what = "patients whose file is the same as another's"
            found[what] = found.get(what, 0) + len(place.twins)
        for i, column, count in place.table.impossible:
            if (k, i) in chosen:
                what = f"{column} values outside what can be (taken as not measured)"
                found[what] = found.get(what, 0) + count
    return {what: count for what, count in found.items() if count}


class PatientSelection:
    """Takes the hours of some patients (hospital, patient) from an array of each hospital, in that order.

    `runs`: a hospital, and its patients from one to before another; `edges`: of each hospital the rows at which its
    patients begin, and its end. One run is not copied but stays mapped.
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

    def __call__(self, of: Callable[[HourTable], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return the rows of what `of` gives for each hospital that is needed."""
        values = {k: of(self.tables[k]) for k in sorted({k for k, _, _ in self.runs})}
        parts = [values[k][self.edges[k][begin] : self.edges[k][stop]] for k, begin, stop in self.runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
