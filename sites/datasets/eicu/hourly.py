"""The hourly cohort that YAIB derived from the eICU demo: the first 25 hours of a stay, and death in the unit.

van de Water R et al. Yet Another ICU Benchmark. ICLR 2024 (task mortality24). Three parquet files: `dyn`, 25 rows
(hours 0 to 24) a stay with 48 variables, NaN where not measured in that hour; `sta`, age, sex, height and weight;
`outc`, the label: the status at discharge from the unit. Four of the demo's 70 deaths by this label are alive at
discharge from hospital, and 61 patients who left the unit alive died in hospital later.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError
from sites.datasets.eicu import units

HOURS = 25
FILES = ("dyn", "sta", "outc")
CHANNELS = (
    "alb", "alp", "alt", "ast", "be", "bicar", "bili", "bili_dir", "bnd", "bun", "ca", "cai", "ck", "ckmb",
    "cl", "crea", "crp", "dbp", "fgn", "fio2", "glu", "hgb", "hr", "inr_pt", "k", "lact", "lymph", "map", "mch",
    "mchc", "mcv", "methb", "mg", "na", "neut", "o2sat", "pco2", "ph", "phos", "plt", "po2", "ptt", "resp",
    "sbp", "temp", "tnt", "urine", "wbc",
)  # fmt: skip
STATIC = ("age", "male", "height", "weight")


def find_cohort_folder(folder: Path) -> Path:
    """Return the folder of the three files: `yaib-demo/eicu_demo`, inside a data folder or next to it.

    Raises:
        DataError: there is none.
    """
    for candidate in (folder / "yaib-demo" / "eicu_demo", folder.parent / "yaib-demo" / "eicu_demo"):
        if (candidate / "dyn.parquet").is_file():
            return candidate
    raise DataError(f"no hourly cohort: put yaib-demo (eicu_demo/dyn.parquet, ...) into {folder} or next to it")


def read_cohort(folder: Path) -> tuple[pd.DataFrame, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the stays, their hours, and the number of implausible values of each stay, which became NaN.

    The stays are a frame in rising order: `age` (years), `male` (0, 1, NaN unknown), `height` (cm), `weight` (kg),
    `label` (1: died in the unit); the hours are float32 `(stays, 48, 25)`, in the order of CHANNELS.

    Raises:
        DataError: a file or column is missing, or hours, labels or units are not as published.
    """
    hours = _read_parquet(folder / "dyn.parquet", ("time", *CHANNELS))
    static = _read_parquet(folder / "sta.parquet", ("age", "sex", "height", "weight"))
    label = _read_parquet(folder / "outc.parquet", ("label",))
    for name, frame in (("sta", static), ("outc", label)):
        if twice := int(frame["stay_id"].duplicated().sum()):
            raise DataError(f"{folder / name}.parquet: {twice} rows repeat the stay_id of another row")
    stays = static.merge(label, on="stay_id", how="outer", indicator=True).sort_values("stay_id")
    hours = hours.sort_values(["stay_id", "time"], kind="stable")
    numbers, counts = np.unique(hours["stay_id"].to_numpy(), return_counts=True)
    if (stays["_merge"] != "both").any() or not np.array_equal(numbers, stays["stay_id"].to_numpy()):
        raise DataError(f"{folder}: dyn, sta and outc do not hold the same stays; fetch the three files again")
    if wrong := int((counts != HOURS).sum()):
        raise DataError(f"{folder}/dyn.parquet: {wrong} stays do not have {HOURS} hours")
    try:
        clock = (pd.to_timedelta(hours["time"]) / pd.Timedelta(hours=1)).to_numpy(float)
    except (TypeError, ValueError):
        raise DataError(f"{folder}/dyn.parquet: the column time does not hold times from admission") from None
    if (clock.reshape(-1, HOURS) != np.arange(HOURS)).any():
        raise DataError(f"{folder}/dyn.parquet: the hours of a stay do not run from 0 to {HOURS - 1}")
    if not stays["label"].isin([0, 1]).all():
        raise DataError(f"{folder}/outc.parquet: the column label holds other than 0 and 1")
    hours, implausible = units.check_units(hours, units.DAY_NAME_OF_HOURLY, folder / "dyn.parquet")
    x = hours[list(CHANNELS)].to_numpy(np.float32).reshape(-1, HOURS, len(CHANNELS)).transpose(0, 2, 1)
    stays = stays.assign(male=stays["sex"].map({"Female": 0.0, "Male": 1.0}).astype(float)).set_index("stay_id")
    return stays, np.ascontiguousarray(x), implausible.reshape(-1, HOURS).sum(1)


def _read_parquet(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return `stay_id` and some columns of a file.

    Raises:
        DataError: the file or a column is missing, or a column does not hold numbers.
    """
    import pyarrow.parquet

    try:
        frame: pd.DataFrame = pyarrow.parquet.ParquetFile(path).read().to_pandas()
    except FileNotFoundError:
        raise DataError(f"no file {path}; the hourly cohort has {', '.join(FILES)}, each .parquet") from None
    except (OSError, ValueError):  # ArrowInvalid is a ValueError
        raise DataError(f"{path}: cannot be read as a table; fetch the file again") from None
    if absent := [name for name in ("stay_id", *columns) if name not in frame]:
        raise DataError(f"{path}: no column {', '.join(absent)}; use the file as published")
    for name in ("stay_id", *columns):
        if name not in ("time", "sex") and not pd.api.types.is_numeric_dtype(frame[name]):
            raise DataError(f"{path}: the column {name} does not hold numbers")
    return frame[["stay_id", *columns]]


def carry_forward(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `(stays, channels, hours)` with the last value measured up to each hour; NaN before the first.

    >>> carry_forward(np.array([[[np.nan, 2.0, np.nan, 5.0]]], np.float32))[0, 0].tolist()
    [nan, 2.0, 2.0, 5.0]
    """
    last = np.where(np.isnan(x), 0, np.arange(x.shape[2]))
    return np.take_along_axis(x, np.maximum.accumulate(last, axis=2), axis=2)
