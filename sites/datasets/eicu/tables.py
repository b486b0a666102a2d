"""The tables of the eICU database as frames: only the columns requested, with every number checked."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from common.errors import DataError

GZIP_MAGIC, UTF_16_MARKS = b"\x1f\x8b", (b"\xff\xfe", b"\xfe\xff")
MISSING_WORDS = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
"""Words that mean an empty cell, as to pandas."""
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
        DataError: the table or a column is missing or damaged, a row has a cell more or less, or a cell that should
            hold a number does not.
    """
    path = find_table(folder, name)
    wanted = [*numbers, *texts]
    header, frame = _read_cells(path, wanted)
    if repeated := [column for column in wanted if header.count(column) > 1]:
        raise DataError(
            f"{path}: {header.count(repeated[0])} columns are called {repeated[0]}, in some spelling; remove one"
        )
    if absent := [column for column in wanted if column not in header]:
        raise DataError(f"{path}: no column {', '.join(absent)}; use the table as eICU publishes it")
    return pd.DataFrame(
        {column: _parse_numbers(frame[column], path) for column in numbers}
        | {column: frame[column].astype(object).where(frame[column].notna(), None) for column in texts}
    )


def _read_cells(path: Path, wanted: Collection[str]) -> tuple[list[str], pd.DataFrame]:
    """Return the columns of a table in small letters, and the wanted ones with every cell as text or missing.

    pandas does not read the file: it takes a row with a cell more, as from a comma that is not in quotes, as shifted.

    Raises:
        DataError: the file is damaged or no table, or a row has more or fewer cells than the first.
    """
    from pyarrow import ArrowInvalid, csv, types

    try:
        with path.open("rb") as plain:
            start = plain.read(2)
        if start in UTF_16_MARKS:
            raise DataError(f"{path}: cannot be read as a table: its text is not UTF-8; save it as UTF-8")
        with gzip.open(path) if start == GZIP_MAGIC else path.open("rb") as content:
            table = csv.read_csv(
                content,
                csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
                csv.ParseOptions(newlines_in_values=True),
            )
    except ArrowInvalid as error:
        match = re.search(r"Expected (\d+) columns, got (\d+)", str(error))
        problem = "cannot be read as a table of cells between commas, in UTF-8; fetch the file again"
        if match and match[1] != "1":
            problem = f"a row has {match[2]} cells, the first {match[1]}; put text with a comma in quotes"
        raise DataError(f"{path}: {problem}") from None
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path}: cannot be read as a table; fetch the file again") from None
    if any(types.is_binary(column.type) for column in table.columns):
        raise DataError(f"{path}: cannot be read as a table: its text is not UTF-8; save it as UTF-8")
    header = [str(column[0].as_py() or "").strip().lower() for column in table.columns]
    retained = {
        name: column.cast("string") for name, column in zip(header, table.columns, strict=True) if name in wanted
    }
    frame = pd.DataFrame({name: column[1:].to_pandas().astype(object) for name, column in retained.items()})
    frame = frame.map(lambda cell: None if cell is None or cell.strip() in MISSING_WORDS else cell.strip())
    return header, frame


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
    check_whole_numbers(frame[STAY_ID], path)
    return frame.assign(**{STAY_ID: frame[STAY_ID].astype("int64")}).set_index(STAY_ID).sort_index()


def check_whole_numbers(numbers: pd.Series[float], path: Path) -> None:
    """Check that a column of identifiers holds whole numbers.

    Raises:
        DataError: a cell has a fraction, or is so large that it is rounded; names the column, never the cell.
    """
    if wrong := int(((numbers % 1 != 0) | (numbers.abs() >= 2**53)).sum()):
        raise DataError(f"{path}: {wrong} cells of the column {numbers.name} are not whole numbers below 2^53")


def check_words(cells: pd.Series[str], known: Collection[str], path: Path) -> None:
    """Check that a column holds only the known words and empty cells.

    Raises:
        DataError: the column holds another word; the message names the column and the known words, never the cell.
    """
    if wrong := int((cells.notna() & ~cells.isin(list(known))).sum()):
        raise DataError(f"{path}: {wrong} cells of the column {cells.name} are none of {', '.join(sorted(known))}")


def parse_sex(cells: pd.Series[str], path: Path) -> pd.Series[float]:
    """Return 0 for Female or F, 1 for Male or M, in any case, NaN where unknown.

    Raises:
        DataError: the column holds another word; the message names the column, never the cell.
    """
    words = cells.astype(object).where(cells.notna(), None).map(lambda cell: str(cell).strip().lower(), "ignore")
    words = words.replace("", None)
    check_words(words, (*SEX_OF_WORD, *SEX_UNKNOWN), path)
    return words.map(SEX_OF_WORD).astype(float)
