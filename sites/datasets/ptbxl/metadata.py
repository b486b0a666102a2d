"""PTB-XL's two tables: the person and site of each recording, and the cardiologists' statements.

Every cell that is used is checked; an error names the file, the line and the column, never the content of the cell.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError
from sites.datasets.ptbxl.contradictions import find_contradictions
from sites.plausible_values import MANY

DATABASE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
UNKNOWN, OTHER = "site-unknown", "site-other"
COLUMNS = (
    "ecg_id", "patient_id", "age", "sex", "site", "recording_date", "scp_codes", "strat_fold",
    "filename_lr", "filename_hr",
)  # fmt: skip
_NUMBER_OF_FILE = re.compile(r"(?:^|/)(\d+)_[lh]r$", re.ASCII)
ABOVE_89 = 300
"""The publishers' code of an age above 89."""


def read_metadata(folder: Path) -> pd.DataFrame:
    """Return a row for each recording, in the order of the file.

    Index: the recording (ecg_id, text). Columns: `person`, `site`, `moved` (kept at another site than its own, with
    the person's other recordings), `age` (years, NaN unknown), `sex` (0 female, 1 male, -1 unknown), `two_sexes`
    (whether the person's recordings state both, so that it counts as unknown), `fold`, `filename_lr`, `filename_hr`,
    `contradicted` (whether other columns contradict the statements), and for each superclass the largest likelihood (%)
    of its statements, NaN if none.

    Raises:
        DataError: a file or column is missing, or a cell is not as published.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds {DATABASE}")
    for name in (DATABASE, STATEMENTS):
        if not (folder / name).is_file():
            raise DataError(f"no recordings in {folder}: it holds no {name}")
    stamps = tuple((folder / name).stat() for name in (DATABASE, STATEMENTS))
    return _read_stamped(folder.resolve(), tuple((stamp.st_mtime_ns, stamp.st_size) for stamp in stamps)).copy(
        deep=False
    )


@lru_cache(maxsize=8)
def _read_stamped(folder: Path, stamps: tuple[tuple[int, int], ...]) -> pd.DataFrame:
    """Return the table; `stamps`, the files' times and sizes, are part of the cache's key alone."""
    path = folder / DATABASE
    raw = _read_csv(path, COLUMNS)
    if raw.empty:
        raise DataError(f"no recordings in {folder}: {DATABASE} has no rows")
    person, ecg = (_to_whole_numbers(raw, name, path) for name in ("patient_id", "ecg_id"))
    _refuse_rows(pd.Series(ecg).duplicated().to_numpy(), path, "ecg_id appears twice: every recording counts once")
    _check_file_names(raw, ecg, path)
    folds = raw.assign(person=person).groupby("person")["strat_fold"].transform("nunique")
    _refuse_rows((folds > 1).to_numpy(), path, "strat_fold differs from that of the person's other recordings")
    table = pd.DataFrame({"person": [f"person-{n}" for n in person]}, index=[str(n) for n in ecg])
    age, sex, site, fold = (_to_numbers(raw, name, path) for name in ("age", "sex", "site", "strat_fold"))
    _refuse_rows(
        (age < 0) | ((age > 120) & (age != ABOVE_89)), path, "age is not a number of years (300 means above 89)"
    )
    _refuse_rows(~np.isnan(sex) & ~np.isin(sex, (0, 1)), path, "sex is neither 0 (male) nor 1 (female)")
    _refuse_rows(~np.isin(fold, np.arange(1, 11)), path, "strat_fold is not 1 to 10")
    _refuse_rows(~np.isnan(site) & ((site < 0) | (site % 1 != 0)), path, "site is not a whole number")
    table["age"] = np.where(age == ABOVE_89, 90, age).astype(np.float32)
    sexes = pd.Series(sex).groupby(person).transform("nunique").to_numpy()
    table["sex"] = np.where(np.isnan(sex) | (sexes > 1), -1, 1 - sex).astype(np.int8)
    table["two_sexes"] = sexes > 1
    table["fold"] = fold.astype(np.int64)
    own_site = np.asarray([UNKNOWN if np.isnan(n) else f"site-{int(n)}" for n in site], dtype=object)
    table["site"] = _one_site_per_person(person, own_site, raw["recording_date"])
    table["moved"] = table["site"].to_numpy() != own_site
    table[["filename_lr", "filename_hr"]] = raw[["filename_lr", "filename_hr"]].to_numpy()
    likelihood = _likelihoods(raw["scp_codes"], _superclass_of_statement(folder / STATEMENTS), path)
    table[list(SUPERCLASSES)] = likelihood
    table["contradicted"] = find_contradictions(raw, dict(zip(SUPERCLASSES, likelihood.T, strict=True)))
    return table


def _check_file_names(raw: pd.DataFrame, ecg: npt.NDArray[np.int64], path: Path) -> None:
    """Check the columns of file names, and write each name in one way.

    Raises:
        DataError: a file is not below the folder, of two recordings, or called after another recording.
    """
    for name in ("filename_lr", "filename_hr"):
        outside = [not text or PurePosixPath(text).is_absolute() or ".." in text.split("/") for text in raw[name]]
        _refuse_rows(np.asarray(outside), path, f"{name} does not name a file below this folder")
        raw[name] = [str(PurePosixPath(text)).removesuffix(".hea") for text in raw[name]]
        _refuse_rows(raw[name].duplicated().to_numpy(), path, f"{name} appears twice: every recording counts once")
        stated = [_NUMBER_OF_FILE.search(text) for text in raw[name]]
        other = [match is not None and int(match[1]) != n for match, n in zip(stated, ecg, strict=True)]
        _refuse_rows(np.asarray(other), path, f"{name} names the file of another ecg_id")


def merge_small_sites(table: pd.DataFrame, smallest: int) -> npt.NDArray[np.object_]:
    """Return each recording's site, with the sites of fewer than `smallest` people merged into one."""
    people = table.groupby("site")["person"].nunique()
    site = table["site"].to_numpy()
    return np.asarray(np.where(np.isin(site, people.index[people < smallest]), OTHER, site), dtype=object)


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise DataError(f"{path} is not a table of comma-separated values: fetch it again") from None
    if absent := [name for name in columns if name not in raw.columns]:
        raise DataError(f"{path} has no column {', '.join(absent)}: use the publishers' table")
    return raw


def _refuse_rows(wrong: npt.NDArray[np.bool_], path: Path, problem: str) -> None:
    """Raise DataError with the line of the first wrong row, if there is one."""
    if wrong.any():
        raise DataError(f"{path}, line {int(np.flatnonzero(wrong)[0]) + 2}: {problem}")


def _to_numbers(raw: pd.DataFrame, name: str, path: Path) -> npt.NDArray[np.float64]:
    """Return a column as numbers, an empty cell as NaN."""
    values = pd.to_numeric(raw[name], errors="coerce").to_numpy(np.float64)
    _refuse_rows(~np.isfinite(values) & (raw[name] != "").to_numpy(), path, f"{name} is not a number")
    return np.asarray(values, dtype=np.float64)


def _to_whole_numbers(raw: pd.DataFrame, name: str, path: Path) -> npt.NDArray[np.int64]:
    values = _to_numbers(raw, name, path)
    wrong = np.isnan(values) | (values % 1 != 0) | (np.abs(values) >= 2**53)  # from there on float64 rounds
    _refuse_rows(wrong, path, f"{name} is not a whole number below 2^53")
    return values.astype(np.int64)


def _one_site_per_person(
    person: npt.NDArray[np.int64], site: npt.NDArray[np.object_], date: pd.Series[str]
) -> npt.NDArray[np.object_]:
    """Return the site of most of each person's recordings; if equal, of the earliest recording.

    A recording of an unknown site goes with the person's others.
    """
    frame = pd.DataFrame({"person": person, "site": site, "date": date.replace("", "~").to_numpy()})
    known = frame[frame["site"] != UNKNOWN]
    several = known.groupby("person")["site"].nunique()
    at_several = set(several.index[several > 1]) | (
        set(known["person"]) & set(frame["person"][frame["site"] == UNKNOWN])
    )
    chosen: dict[int, str] = {}
    for who, rows in known[known["person"].isin(at_several)].groupby("person"):
        counts = rows["site"].value_counts()
        first = rows[rows["site"].isin(counts.index[counts == counts.max()])].sort_values("date", kind="stable")
        chosen[int(str(who))] = str(first["site"].iloc[0])
    return np.asarray([chosen.get(int(who), at) for who, at in zip(person, site, strict=True)], dtype=object)


def _superclass_of_statement(path: Path) -> dict[str, str]:
    """Return statement -> superclass, "" for a statement that is not diagnostic."""
    raw = _read_csv(path, ("diagnostic", "diagnostic_class"))
    flag = _to_numbers(raw, "diagnostic", path) == 1
    stated = (raw["diagnostic_class"] != "").to_numpy()
    _refuse_rows(~flag & stated, path, "diagnostic_class is stated, but diagnostic is not 1")
    _refuse_rows(raw.iloc[:, 0].duplicated().to_numpy(), path, "a statement appears twice")
    kind = np.where(flag, raw["diagnostic_class"], "")
    _refuse_rows(flag & ~np.isin(kind, SUPERCLASSES), path, f"diagnostic_class is none of {', '.join(SUPERCLASSES)}")
    return dict(zip(raw.iloc[:, 0], (str(item) for item in kind), strict=True))


def _likelihoods(cells: pd.Series[str], kinds: dict[str, str], path: Path) -> npt.NDArray[np.float32]:
    """Return `(recordings, superclasses)`: the largest likelihood of a statement of the class, NaN without one."""
    likelihood = np.full((len(cells), len(SUPERCLASSES)), np.nan, dtype=np.float32)
    for row, cell in enumerate(cells):
        try:
            statements = ast.literal_eval(cell)
            items = [(kinds[code], _to_likelihood(value)) for code, value in statements.items()]
        except KeyError:
            raise DataError(f"{path}, line {row + 2}: a statement of scp_codes is not in {STATEMENTS}") from None
        except (ValueError, SyntaxError, AttributeError, TypeError, RecursionError, MemoryError):
            raise DataError(f"{path}, line {row + 2}: scp_codes does not hold statements with likelihoods") from None
        for kind, value in items:
            if kind:
                column = SUPERCLASSES.index(kind)
                likelihood[row, column] = np.fmax(likelihood[row, column], value)
    if len(likelihood) >= MANY and np.isfinite(likelihood).any() and 0 < np.nanmax(likelihood) <= 1:
        raise DataError(f"{path}: the likelihoods of scp_codes are at most 1: write them in %, as the publishers do")
    return likelihood


def _to_likelihood(value: object) -> float:
    """Return a likelihood in %.

    Raises:
        ValueError: it is no number from 0 to 100.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError("no likelihood")
    return float(value)
