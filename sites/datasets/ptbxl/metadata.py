"""PTB-XL's two tables: who was recorded where, and which statements the cardiologists made.

Every cell that counts is checked; an error names the file, the line and the column, never what stands there.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError

DATABASE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
UNKNOWN, OTHER = "site-unknown", "site-other"
COLUMNS = (
    "ecg_id", "patient_id", "age", "sex", "site", "recording_date", "scp_codes", "strat_fold",
    "filename_lr", "filename_hr",
)  # fmt: skip
ABOVE_89 = 300
"""How the publishers write an age above 89."""


def read_metadata(folder: Path) -> pd.DataFrame:
    """Return a row for each recording, in the order of the file.

    Index: the recording (ecg_id, text). Columns: `person`, `site`, `moved` (kept at another site than its own,
    with the person's other recordings), `age` (years, NaN unknown), `sex` (0 female, 1 male, -1 unknown), `fold`,
    `filename_lr`, `filename_hr`, and for each superclass the largest likelihood (%) of its statements, NaN where
    there is none.

    Raises:
        DataError: a file or column is missing, or a cell is not what it must be.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds {DATABASE}")
    for name in (DATABASE, STATEMENTS):
        if not (folder / name).is_file():
            raise DataError(f"no recordings in {folder}: it holds no {name}")
    stamps = tuple((folder / name).stat() for name in (DATABASE, STATEMENTS))
    return _read(folder.resolve(), tuple((stamp.st_mtime_ns, stamp.st_size) for stamp in stamps)).copy(deep=False)


@lru_cache(maxsize=8)
def _read(folder: Path, stamps: tuple[tuple[int, int], ...]) -> pd.DataFrame:
    path = folder / DATABASE
    raw = _csv(path, COLUMNS)
    if raw.empty:
        raise DataError(f"no recordings in {folder}: {DATABASE} has no rows")
    person, ecg = (_whole(raw, name, path) for name in ("patient_id", "ecg_id"))
    for name in ("ecg_id", "filename_lr", "filename_hr"):
        _refuse(raw[name].duplicated().to_numpy(), path, f"{name} stands twice: every recording counts once")
    found = pd.DataFrame({"person": [f"person-{n}" for n in person]}, index=[str(n) for n in ecg])
    age, sex, place, fold = (_number(raw, name, path) for name in ("age", "sex", "site", "strat_fold"))
    _refuse((age < 0) | ((age > 120) & (age != ABOVE_89)), path, "age is no number of years (300 stands for above 89)")
    _refuse(~np.isnan(sex) & ~np.isin(sex, (0, 1)), path, "sex is neither 0 (male) nor 1 (female)")
    _refuse(~np.isin(fold, np.arange(1, 11)), path, "strat_fold is not 1 to 10")
    _refuse(~np.isnan(place) & ((place < 0) | (place % 1 != 0)), path, "site is no whole number")
    found["age"] = np.where(age == ABOVE_89, 90, age).astype(np.float32)
    found["sex"] = np.where(np.isnan(sex), -1, 1 - sex).astype(np.int8)
    found["fold"] = fold.astype(np.int64)
    own = np.asarray([UNKNOWN if np.isnan(n) else f"site-{int(n)}" for n in place], dtype=object)
    found["site"] = _one_site_each(person, own, raw["recording_date"])
    found["moved"] = found["site"].to_numpy() != own
    for name in ("filename_lr", "filename_hr"):
        outside = [not text or PurePosixPath(text).is_absolute() or ".." in text.split("/") for text in raw[name]]
        _refuse(np.asarray(outside), path, f"{name} names no file below this folder")
        found[name] = raw[name].to_numpy()
    likely = _likelihoods(raw["scp_codes"], _diagnostic(folder / STATEMENTS), path)
    found[list(SUPERCLASSES)] = likely
    return found


def merge_small_sites(table: pd.DataFrame, smallest: int) -> npt.NDArray[np.object_]:
    """Return each recording's site, those of fewer than `smallest` people as one."""
    people = table.groupby("site")["person"].nunique()
    place = table["site"].to_numpy()
    return np.asarray(np.where(np.isin(place, people.index[people < smallest]), OTHER, place), dtype=object)


def _csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise DataError(f"{path} is no table of comma-separated values: fetch it again") from None
    if lost := [name for name in columns if name not in raw.columns]:
        raise DataError(f"{path} has no column {', '.join(lost)}: it is not the publishers' table")
    return raw


def _refuse(wrong: npt.NDArray[np.bool_], path: Path, why: str) -> None:
    if wrong.any():
        raise DataError(f"{path}, line {int(np.flatnonzero(wrong)[0]) + 2}: {why}")


def _number(raw: pd.DataFrame, name: str, path: Path) -> npt.NDArray[np.float64]:
    """Return a column as numbers, an empty cell as NaN."""
    values = pd.to_numeric(raw[name], errors="coerce").to_numpy(np.float64)
    _refuse(~np.isfinite(values) & (raw[name] != "").to_numpy(), path, f"{name} is no number")
    return np.asarray(values, dtype=np.float64)


def _whole(raw: pd.DataFrame, name: str, path: Path) -> npt.NDArray[np.int64]:
    values = _number(raw, name, path)
    _refuse(np.isnan(values) | (values % 1 != 0), path, f"{name} is no whole number")
    return values.astype(np.int64)


def _one_site_each(
    person: npt.NDArray[np.int64], place: npt.NDArray[np.object_], date: pd.Series[str]
) -> npt.NDArray[np.object_]:
    """Return the site of most of each person's recordings; if equal, of the one recorded first.

    A recording whose site is not known goes with the person's others.
    """
    frame = pd.DataFrame({"person": person, "site": place, "date": date.replace("", "~").to_numpy()})
    known = frame[frame["site"] != UNKNOWN]
    several = known.groupby("person")["site"].nunique()
    torn = set(several.index[several > 1]) | (set(known["person"]) & set(frame["person"][frame["site"] == UNKNOWN]))
    chosen: dict[int, str] = {}
    for who, rows in known[known["person"].isin(torn)].groupby("person"):
        votes = rows["site"].value_counts()
        first = rows[rows["site"].isin(votes.index[votes == votes.max()])].sort_values("date", kind="stable")
        chosen[int(str(who))] = str(first["site"].iloc[0])
    return np.asarray([chosen.get(int(who), at) for who, at in zip(person, place, strict=True)], dtype=object)


def _diagnostic(path: Path) -> dict[str, str]:
    """Return every statement with its superclass, "" of those that are no diagnosis."""
    raw = _csv(path, ("diagnostic", "diagnostic_class"))
    flag = _number(raw, "diagnostic", path) == 1
    kind = np.where(flag, raw["diagnostic_class"], "")
    _refuse(flag & ~np.isin(kind, SUPERCLASSES), path, f"diagnostic_class is none of {', '.join(SUPERCLASSES)}")
    return dict(zip(raw.iloc[:, 0], (str(item) for item in kind), strict=True))


def _likelihoods(cells: pd.Series[str], kinds: dict[str, str], path: Path) -> npt.NDArray[np.float32]:
    """Return `(recordings, superclasses)`: the largest likelihood of a statement of the class, NaN of none."""
    found = np.full((len(cells), len(SUPERCLASSES)), np.nan, dtype=np.float32)
    for row, cell in enumerate(cells):
        try:
            said = ast.literal_eval(cell)
            items = [(kinds[code], float(value)) for code, value in said.items()]
        except KeyError:
            raise DataError(f"{path}, line {row + 2}: a statement of scp_codes is not in {STATEMENTS}") from None
        except (ValueError, SyntaxError, AttributeError, TypeError, RecursionError, MemoryError):
            raise DataError(f"{path}, line {row + 2}: scp_codes holds no statements with likelihoods") from None
        for kind, value in items:
            if kind:
                column = SUPERCLASSES.index(kind)
                found[row, column] = np.fmax(found[row, column], value)
    return found
