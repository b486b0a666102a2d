"""Generated tables of eICU, read and rewritten by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from common.settings import validate_settings
from sites.datasets import eicu
from sites.datasets.eicu import Options


def make_options(**changes: object) -> Options:
    return validate_settings(Options, changes, "data.options of eicu")


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "eicu-crd-demo" / f"{name}.csv.gz", dtype=str, keep_default_na=False)


def rewrite(folder: Path, name: str, change: Callable[[pd.DataFrame], object]) -> None:
    """Change a table in place, or put what `change` returns in its place."""
    result = table(folder, name)
    changed = change(result)
    result = changed if isinstance(changed, pd.DataFrame) else result
    result.to_csv(folder / "eicu-crd-demo" / f"{name}.csv.gz", index=False)


def everyone(folder: Path, options: Options, store: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the ids of all stays, and the features of each."""
    ids = [item.id for item in eicu.patients(folder, options, store)]
    return ids, dict(zip(ids, eicu.read(folder, options, ids, store).features, strict=True))
