"""The tables of the eICU database as frames: only the columns requested, with every number checked."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from common.errors import DataError

STAY_ID = "patientunitstayid"
SEX_OF_WORD = {"female": 0.0, "f": 0.0, "male": 1.0, "m": 1.0}
SEX_UNKNOWN = ("other", "unknown")


def find_table(folder: Path, name: str) -> Path:
    """Return the file of a table: `name`.csv.gz or `name`.csv, in any case.

    Raises:
        DataError: there is none, there are two, or no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the tables of eICU (patient.csv.gz, ...)")
    wanted = {f"{name}{end}".lower() for end in (".csv.gz", ".csv")}
    files = sorted(path for path in folder.iterdir() if path.name.lower() in wanted)
    if len(files) > 1:
        raise DataError(f"{folder}: {files[0].name} and {files[1].name} are two copies of one table; remove one")
    if not files:
        raise DataError(f"{folder}: no table {name}.csv.gz; copy it from the eICU release into the same folder")
    return files[0]


def read_table(folder: Path, name: str, numbers: Sequence[str], texts: Sequence[str] = ()) -> pd.DataFrame:
    """Return some columns of a table: `numbers` as float64 (NaN: an empty cell), `texts` as written, or None.

    Raises:
        DataError: the table or a column is missing or damaged, or a cell that should hold a number does not.
    """
    path = find_table(folder, name)
    wanted = [*numbers, *texts]
    try:
        header = pd.read_csv(path, dtype=str, header=None, nrows=1).iloc[0].fillna("").str.strip().str.lower().tolist()
        frame = pd.read_csv(path, dtype=str, usecols=[i for i, column in enumerate(header) if column in wanted])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise DataError(f"{path}: cannot be read as a table; fetch the file again") from None
    if repeated := [column for column in wanted if header.count(column) > 1]:
        raise DataError(
            f"{path}: {header.count(repeated[0])} columns are called {repeated[0]}, in some spelling; remove one"
        )
    frame.columns = frame.columns.str.strip().str.lower()
    if absent := [column for column in wanted if column not in frame]:
        raise DataError(f"{path}: no column {', '.join(absent)}; use the table as eICU publishes it")
    return pd.DataFrame(
        {column: _parse_numbers(frame[column], path) for column in numbers}
        | {column: frame[column].astype(object).where(frame[column].notna(), None) for column in texts}
    )


def _parse_numbers(cells: pd.Series[str], path: Path) -> pd.Series[float]:
    numbers: pd.Series[float] = pd.to_numeric(cells, errors="coerce").astype(float)
    if wrong := int((numbers.isna() & cells.notna()).sum()):
        raise DataError(f"{path}: {wrong} cells of the column {cells.name} are not numbers")
    return numbers


def index_by_stay(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table indexed by the stay's number, in rising order.

    Raises:
        DataError: a row without a number, or two rows of one stay.
    """
    if missing := int(frame[STAY_ID].isna().sum()):
        raise DataError(f"{path}: {missing} rows have no {STAY_ID}")
    if twice := int(frame[STAY_ID].duplicated().sum()):
        raise DataError(f"{path}: {twice} rows repeat the {STAY_ID} of another row; a stay may have one row")
    check_whole(frame[STAY_ID], path)
    return frame.assign(**{STAY_ID: frame[STAY_ID].astype("int64")}).set_index(STAY_ID).sort_index()


def check_whole(numbers: pd.Series[float], path: Path) -> None:
    """Check that a column of identifiers holds whole numbers.

    Raises:
        DataError: a cell has a fraction; names the column, never the cell.
    """
    if wrong := int((numbers % 1 != 0).sum()):
        raise DataError(f"{path}: {wrong} cells of the column {numbers.name} are not whole numbers")


def check_words(cells: pd.Series[str], known: Collection[str], path: Path) -> None:
    """Check that a column holds only the known words and empty cells.

    Raises:
        DataError: it holds another; names the column and the words, never the cell.
    """
    if wrong := int((cells.notna() & ~cells.isin(list(known))).sum()):
        raise DataError(f"{path}: {wrong} cells of the column {cells.name} are none of {', '.join(sorted(known))}")


def parse_sex(cells: pd.Series[str], path: Path) -> pd.Series[float]:
    """Return 0 for Female or F, 1 for Male or M, in any case, NaN where unknown.

    Raises:
        DataError: the column holds another word; names the column, never the cell.
    """
    words = cells.str.strip().str.lower().replace("", None)
    check_words(words, (*SEX_OF_WORD, *SEX_UNKNOWN), path)
    return words.map(SEX_OF_WORD).astype(float)
