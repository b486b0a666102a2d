"""Rows for scoring: the described columns without the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common.errors import DataError
from sites import synthetic_folder
from sites.datasets import Source
from sites.datasets.table.ahead import TimedRows, look_ahead
from sites.datasets.table.description import FILE_NAME, Description
from sites.datasets.table.files import is_table_file
from sites.datasets.table.inputs import apply_own_reading, build_task
from sites.datasets.table.rows import read_rows
from sites.unlabelled_rows import Exclusion, ScorableRows, unlabelled_cohort

NOT_NAMED = "a table that the run's read.files does not name: give its folder a table.yaml, or move it away"


def read_unlabelled(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, a hospital at a time."""
    options = _reading_for_scores(source)
    rows = read_rows(source.folder, options, labelled=False)
    none = np.zeros(0, np.float32)
    timed = look_ahead(rows, options, labelled=False) if options.time else TimedRows(rows, none, none)
    rows = timed.rows
    unread = tuple(Exclusion(name, NOT_NAMED) for name in _unread_tables(source.folder, rows.files))
    for number, hospital in enumerate(rows.hospitals):
        chosen = np.flatnonzero(rows.hospital[rows.patient] == number)
        own, owner = np.unique(rows.patient[chosen], return_inverse=True)
        names = tuple(rows.patients[i] for i in own)
        cohort = unlabelled_cohort(
            build_task(options),
            np.zeros((len(chosen), 0, 0), np.float32),
            rows.take_features(chosen),
            names,
            options.synthetic or synthetic_folder.is_marked(source.folder),
            owner.astype(np.int64),
        )
        columns = {
            "record": np.asarray(names, dtype=object)[owner],
            "file": np.asarray(rows.files, dtype=object)[rows.file[chosen]],
            "row": rows.row[chosen],
        }
        if options.time:
            columns["hours"] = rows.hours[chosen]
        excluded = zip(rows.exclusions, rows.excluded[number].tolist(), strict=True)
        cleared = zip(rows.reasons, rows.cleared[own].sum(0).tolist(), strict=True)
        yield ScorableRows(
            cohort,
            columns,
            (*(unread if number == 0 else ()), *(Exclusion(hospital, why, rows=n) for why, n in excluded if n)),
            about={"hospital": hospital},
            cleared={why: n for why, n in cleared if n},
        )


def _unread_tables(folder: Path, read: Sequence[str]) -> list[str]:
    """Return the tables of a folder without a description of its own that are not among those that were read."""
    if (folder / FILE_NAME).is_file():
        return []
    return sorted(path.name for path in folder.iterdir() if is_table_file(path) and path.name not in read)


def _reading_for_scores(source: Source) -> Description:
    """Return the run's description with the folder's own reading, or else for whatever tables the folder holds."""
    options: Description = source.options
    folder = source.folder
    if (folder / FILE_NAME).is_file():
        return apply_own_reading(folder, options)
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the table's files")
    if any(path.is_file() for pattern in options.read.files for path in folder.glob(pattern)):
        return options
    files = tuple(sorted(path.name for path in folder.iterdir() if is_table_file(path)))
    if not files:
        raise DataError(f"no recordings in {folder}: it holds no CSV or Parquet file")
    return options.model_copy(update={"read": options.read.model_copy(update={"files": files})})
