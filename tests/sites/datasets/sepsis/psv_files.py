"""Small `.psv` files written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sites.cohort import Cohort
from sites.datasets import sepsis
from sites.datasets.sepsis import Options
from sites.datasets.sepsis.columns import LABEL, NAMES

HEADER = [*NAMES, LABEL]
STAYS = Options()


def hospital(folder: Path, name: str) -> Path:
    return folder / "training" / f"training_set{name}"


def lines(hours: int, **columns: Any) -> list[list[str]]:
    """Return the cells of a patient who is 50, a man, and quiet; `columns` give other cells, an hour each."""
    fixed: dict[str, Any] = {"Age": 50, "Gender": 1, "Unit1": 0, "Unit2": 1, "HospAdmTime": -3.5, LABEL: 0}
    cells = {name: [str(fixed.get(name, "NaN"))] * hours for name in HEADER}
    cells["ICULOS"] = [str(t + 1) for t in range(hours)]
    for name, values in columns.items():
        cells[name] = [str(v) for v in values] if isinstance(values, list) else [str(values)] * hours
    return [list(row) for row in zip(*cells.values(), strict=True)]


def text(rows: list[list[str]], header: list[str] = HEADER, end: str = "\n") -> str:
    return end.join("|".join(row) for row in [header, *rows]) + end


def write(folder: Path, name: str, rows: list[list[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.psv"
    path.write_text(text(rows))
    return path


def whole(folder: Path, store: Path, options: Options = STAYS) -> Cohort:
    return sepsis.read(folder, options, [item.id for item in sepsis.patients(folder, options, store)], store)


def column(cohort: Cohort, name: str) -> np.ndarray:
    return cohort.features[:, cohort.task.features.index(name)]
