"""Rows and files in UCI's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort
from sites.datasets import heart_disease
from sites.datasets.heart_disease import Options

FLAMBY, EXPLICIT = Options(), Options(protocol="explicit")
NAN = np.nan
FULL = "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0"
SPARSE = "35,0,4,?,0,?,0,130,1,?,?,?,7,3"
FLAMBY_FULL = [63, 1, 145, 233, 1, 150, 0, 2.3, 0, 0, 0, 0, 1]
EXPLICIT_FULL = [63, 1, 145, 233, 1, 150, 0, 2.3, 0] + [1, 0, 0, 0] + [0, 0, 1] + [0, 0, 1] + [0, 1, 0] + [1] * 7
EXPLICIT_SPARSE = (
    [35, 0, NAN, NAN, NAN, 130, 1, NAN, NAN] + [0, 0, 0, 1] + [1, 0, 0] + [0] * 3 + [0, 0, 1] + [0, 0, 0, 1, 1, 0, 0]
)


def f32(values: list[list[float]]) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def written(folder: Path, *rows: str, name: str = "north") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"processed.{name}.data").write_text("".join(row + "\n" for row in rows))
    return folder


def rows(count: int, seed: int = 0, ill: float = 0.5) -> list[str]:
    """Complete rows of people who differ."""
    rng = np.random.default_rng(seed)
    return [
        f"{30 + i % 50},{i % 2},{1 + i % 4},{100 + i},{200 + seed},0,0,{150 - i % 60},0,{i / 10},1,?,?,{int(d)}"
        for i, d in enumerate(rng.permutation(np.arange(count) < ill * count))
    ]


def everyone(folder: Path, options: Options, store: Path) -> Cohort:
    return heart_disease.read(folder, options, [p.id for p in heart_disease.patients(folder, options, store)], store)
