"""What in PTB-XL's table contradicts the rest of it or its folder: counted and not left out, as both may be right.

Statements of another recording (rows exchanged or shifted) cannot be seen in `scp_codes`, but the cardiologist's
report and the stage of an infarction may still be those of this recording. Files that no row names show a table that
lost rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

CONTRADICTED = "recordings whose report or stage of an infarction contradicts scp_codes: of another one? (not left out)"
NOT_NAMED = "recordings in the folder of which ptbxl_database.csv has no row, so that they are not read: is it cut?"
_SAYS_NORMAL = r"\b(?:normales ekg|normal ecg|ekg normal|normalt ekg)\b"
_RESTRICTED = r"\b(?:otherwise|ansonsten|sonst|kein|nicht|not|no)\b"
_OTHER = ("MI", "STTC", "HYP")
"""Superclasses that no normal report has; a normal report with a block of conduction occurs."""
_CERTAIN = 50.0


def find_contradictions(raw: pd.DataFrame, likelihood: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.bool_]:
    """Return which recordings are called normal in the report and diseased in `scp_codes`, or staged and normal.

    Args:
        raw: the publishers' table as text; the columns `report` and `infarction_stadium1` may be missing.
        likelihood: by superclass, the largest likelihood (%) of its statements, NaN if none.
    """
    contradicted = np.zeros(len(raw), dtype=np.bool_)
    normal = likelihood["NORM"]
    if "report" in raw:
        report = raw["report"].str.lower()
        says_normal = report.str.contains(_SAYS_NORMAL) & ~report.str.contains(_RESTRICTED)
        diseased = np.any([likelihood[name] >= _CERTAIN for name in _OTHER], axis=0)
        contradicted |= says_normal.to_numpy(bool) & diseased & np.isnan(normal)
    if "infarction_stadium1" in raw:
        staged = raw["infarction_stadium1"].str.startswith("Stadium").to_numpy(bool)
        contradicted |= staged & (normal == 100) & np.all([np.isnan(likelihood[name]) for name in _OTHER], axis=0)
    return contradicted


def count_not_named(folder: Path, names: Sequence[str]) -> int:
    """Return how many headers are in the folders of the named recordings and next to them, without being named.

    Args:
        folder: the data folder.
        names: the table's file names of one rate, relative to the folder, without suffix.
    """
    top = sorted({name.split("/")[0] for name in names if "/" in name})
    known = set(names)
    count = 0
    for home in top:
        for path, _, files in os.walk(folder / home):
            below = Path(path).relative_to(folder).as_posix()
            headers = (name for name in files if name.endswith(".hea") and not name.startswith("."))
            count += sum(f"{below}/{name.removesuffix('.hea')}" not in known for name in headers)
    return count
