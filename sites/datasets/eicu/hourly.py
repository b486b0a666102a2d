"""The hourly cohort that YAIB derived from the eICU demo: the first 25 hours of a stay, and death in the unit.

van de Water R et al. Yet Another ICU Benchmark. ICLR 2024 (task mortality24). Three parquet files: `dyn`, 25 rows
(hours 0 to 24) a stay with 48 variables, NaN where not measured in that hour; `sta`, age, sex, height and weight;
`outc`, the label: the status at discharge from the unit. Four of the demo's 70 deaths by this label are alive at
discharge from hospital, and 61 patients who left the unit alive died in hospital later.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError
from sites.datasets.eicu import units
from sites.datasets.eicu.tables import parse_sex

HOURS = 25
FILES = ("dyn", "sta", "outc")
CHANNELS = (
    "alb", "alp", "alt", "ast", "be", "bicar", "bili", "bili_dir", "bnd", "bun", "ca", "cai", "ck", "ckmb",
    "cl", "crea", "crp", "dbp", "fgn", "fio2", "glu", "hgb", "hr", "inr_pt", "k", "lact", "lymph", "map", "mch",
    "mchc", "mcv", "methb", "mg", "na", "neut", "o2sat", "pco2", "ph", "phos", "plt", "po2", "ptt", "resp",
    "sbp", "temp", "tnt", "urine", "wbc",
)  # fmt: skip
STATIC = ("age", "male", "height", "weight")
STATIC_LIMITS = {"age": units.AGE, **units.BODY}


@dataclass(frozen=True)
class HourlyCohort:
    """The stays of an hourly cohort, sorted by stay id.

    Attributes:
        stays: one row for each stay: `age` (years), `male` (0, 1, NaN unknown), `height` (cm), `weight` (kg), `label`
            (1: died in the unit; 0 where no labels are read).
        x: float32 `(stays, 48, 25)`, in the order of CHANNELS, NaN where not measured.
        cleared: by column, the number of implausible values in each stay; these values became NaN.
    """

    stays: pd.DataFrame
    x: npt.NDArray[np.float32]
    cleared: dict[str, npt.NDArray[np.int64]]


def find_cohort_folder(folder: Path) -> Path:
    """Return the folder of the hourly cohort's three files: `yaib-demo/eicu_demo`, inside a data folder or next to it.

    Raises:
        DataError: there is none.
    """
    for candidate in (folder / "yaib-demo" / "eicu_demo", folder.parent / "yaib-demo" / "eicu_demo"):
        if (candidate / "dyn.parquet").is_file():
            return candidate
    raise DataError(f"no hourly cohort: put yaib-demo (eicu_demo/dyn.parquet, ...) into {folder} or next to it")


def cohort_files(folder: Path, labelled: bool = True) -> list[Path]:
    """Return the files that `read_cohort` reads: without labels, not `outc`."""
    return [folder / f"{name}.parquet" for name in FILES if labelled or name != "outc"]


def read_cohort(folder: Path, hospital_by_stay: pd.Series[int] | None = None, *, labelled: bool = True) -> HourlyCohort:
    """Return an hourly cohort in YAIB's layout.

    Args:
        folder: the folder of the three files.
        hospital_by_stay: hospital by stay; default: all stays are of one hospital.
        labelled: whether to read the labels.

    Raises:
        DataError: a file or column is missing, or hours, labels or units are not as published.
    """
    hours = _read_parquet(folder / "dyn.parquet", ("time", *CHANNELS))
    stays = _read_parquet(folder / "sta.parquet", ("age", "sex", "height", "weight"))
    _refuse_repeated(stays, folder / "sta.parquet")
    stays = stays.sort_values("stay_id")
    if labelled:
        stays = _add_labels(stays, folder)
    hours = hours.sort_values(["stay_id", "time"], kind="stable")
    numbers, counts = np.unique(np.asarray(hours["stay_id"], dtype=np.int64), return_counts=True)
    if not np.array_equal(numbers, stays["stay_id"].to_numpy()):
        raise DataError(f"{folder}: dyn, sta and outc do not hold the same stays; fetch the three files again")
    if wrong := int((counts != HOURS).sum()):
        raise DataError(f"{folder}/dyn.parquet: {wrong} stays do not have {HOURS} hours")
    try:
        clock = hours["time"].to_numpy()
        if not pd.api.types.is_numeric_dtype(hours["time"]):
            clock = (pd.to_timedelta(hours["time"]) / pd.Timedelta(hours=1)).to_numpy(float)
    except (TypeError, ValueError):
        raise DataError(f"{folder}/dyn.parquet: the column time does not hold times from admission") from None
    if (clock.reshape(-1, HOURS) != np.arange(HOURS)).any():
        raise DataError(f"{folder}/dyn.parquet: the hours of a stay do not run from 0 to {HOURS - 1}")
    if hospital_by_stay is None:
        hospital_by_stay = pd.Series(0, index=numbers)
    hospital = np.asarray(hospital_by_stay.reindex(numbers, fill_value=-1), dtype=np.int64)
    hours, implausible = units.clear_implausible(
        hours, units.HOURLY, folder / "dyn.parquet", np.repeat(numbers, HOURS), np.repeat(hospital, HOURS)
    )
    cleared = {reason: rows.reshape(-1, HOURS).sum(1) for reason, rows in implausible.items()}
    stays, implausible = units.clear_implausible(stays, STATIC_LIMITS, folder / "sta.parquet", numbers, hospital)
    cleared |= {reason: rows.astype(np.int64) for reason, rows in implausible.items()}
    x = hours[list(CHANNELS)].to_numpy(np.float32).reshape(-1, HOURS, len(CHANNELS)).transpose(0, 2, 1)
    stays = stays.assign(male=parse_sex(stays["sex"], folder / "sta.parquet")).set_index("stay_id")
    return HourlyCohort(stays if labelled else stays.assign(label=0), np.ascontiguousarray(x), cleared)


def _refuse_repeated(frame: pd.DataFrame, path: Path) -> None:
    if repeated := int(frame["stay_id"].duplicated().sum()):
        raise DataError(f"{path}: {repeated} rows repeat the stay_id of another row")


def _add_labels(stays: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return the stays with the column `label`.

    Raises:
        DataError: the labels are of other stays, or other than 0 and 1.
    """
    labels = _read_parquet(folder / "outc.parquet", ("label",))
    _refuse_repeated(labels, folder / "outc.parquet")
    stays = stays.merge(labels, on="stay_id", how="outer", indicator=True).sort_values("stay_id")
    if (stays["_merge"] != "both").any():
        raise DataError(f"{folder}: dyn, sta and outc do not hold the same stays; fetch the three files again")
    if not stays["label"].isin([0, 1]).all():
        raise DataError(f"{folder}/outc.parquet: the column label holds other than 0 and 1")
    return stays


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


def build_channels(x: npt.NDArray[np.float32], *, carry: bool, mask: bool) -> npt.NDArray[np.float32]:
    """Return the channels of some stays, `(stays, channels, hours)`; of stays without hours, none.

    Args:
        x: values, NaN where not measured.
        carry: whether the last value is carried forward.
        mask: whether a 0/1 channel for each variable says what was measured in each hour.
    """
    values = carry_forward(x) if carry else x
    return np.concatenate([values, (~np.isnan(x)).astype(np.float32)], axis=1) if mask else values
