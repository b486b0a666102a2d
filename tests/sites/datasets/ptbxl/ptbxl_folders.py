"""Folders in PTB-XL's layout, read and edited by the tests."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.settings import validate_settings
from sites.cohort import Cohort
from sites.datasets import ptbxl

SUPER = ["NORM", "MI", "STTC", "CD", "HYP"]


def options(**given: Any) -> ptbxl.Options:
    return validate_settings(ptbxl.Options, given, "test")


def read_all(folder: Path, store: Path, **given: Any) -> Cohort:
    chosen = options(**given)
    return ptbxl.read(folder, chosen, [item.id for item in ptbxl.patients(folder, chosen, store)], store)


def published_labels(folder: Path) -> pd.Series:
    """Return each recording's superclasses as the publishers' example gives them."""
    database = pd.read_csv(folder / "ptbxl_database.csv", index_col="ecg_id")
    statements = pd.read_csv(folder / "scp_statements.csv", index_col=0)
    statements = statements[statements.diagnostic == 1]
    return database.scp_codes.map(
        lambda text: {statements.diagnostic_class[code] for code in ast.literal_eval(text) if code in statements.index}
    )


def edit(folder: Path, row: int, **cells: object) -> None:
    path = folder / "ptbxl_database.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name, value in cells.items():
        table.loc[row, name] = str(value)
    table.to_csv(path, index=False)


def check_against_the_publishers(folder: Path, store: Path) -> None:
    truth = published_labels(folder)
    cohort = read_all(folder, store)
    with_any = truth[truth.map(len) > 0]
    assert [cohort.patients[i] for i in cohort.patient] == [str(n) for n in with_any.index]
    assert [{SUPER[k] for k in np.flatnonzero(row)} for row in cohort.y] == list(with_any)
    assert cohort.excluded == {"recordings without a diagnostic statement": int((truth.map(len) == 0).sum())}
    for norm in ("only", "among"):
        binary = read_all(folder, store, task="norm", norm=norm)
        normal = [item == {"NORM"} if norm == "only" else "NORM" in item for item in with_any]
        assert binary.y.tolist() == [0 if item else 1 for item in normal]
