"""The Kaggle "heartbeat" files: beats of MIT-BIH and of PTB as rows of numbers; `CARD` describes the data.

A row is one beat of lead II: 187 samples at 125 Hz from the R peak on, scaled to [0, 1], zero padded, then the label.
`set: mitbih`: 0 N, 1 S, 2 V, 3 F, 4 Q of ANSI/AAMI EC57; `set: ptbdb`: 0 normal, 1 abnormal.

The files have no patient ids. Each row counts as a separate patient, named by its file and line, so no split here is
a split between patients, and intervals over "patients" are intervals over beats. The card's warning is shown with
every figure. The same beats with their patients are in mitdb (view kachuee) and ptbdb.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.heartbeat_csv import simulate
from sites.ecg import beat_reader, beats

CARD = DataCard(
    name="heartbeat_csv",
    title='ECG Heartbeat Categorization Dataset (Kaggle "heartbeat")',
    inputs="beats of 187 samples at 125 Hz from the R peak on, scaled to [0, 1], zero padded, of MIT-BIH "
    "(109,446) or of PTB (14,552)",
    labels="beat classes N, S, V, F, Q of ANSI/AAMI EC57; or normal and abnormal",
    sites="none known; hospitals are made by partition of rows, so one patient's beats are at several of them",
    splits="mitbih_train.csv and mitbih_test.csv, of beats, with the same patients in both; ptbdb: none",
    source="https://www.kaggle.com/datasets/shayanfazeli/heartbeat",
    citation="Kachuee M, Fazeli S, Sarrafzadeh M. IEEE ICHI 2018, arXiv:1805.00794; Moody GB, Mark RG 2001; "
    "Bousseljot R et al. 1995",
    licence="as stated on Kaggle; the recordings: Open Data Commons Attribution License v1.0",
    warning="Patients overlap: the files do not say which patient a beat is from, so the same patients are in training "
    "and test, and every figure is too good to hold for a new patient.",
)

VERSION = 2
MAX_SHARED = 0.05
"""Share of a file's beats that may equal beats of the other: a copy, so that training beats are tested."""
FILES: dict[str, dict[str, tuple[str | None, tuple[int, ...]]]] = {
    "mitbih": {
        "mitbih_train": ("train", (0, 1, 2, 3, 4)),
        "mitbih_test": ("test", (0, 1, 2, 3, 4)),
    },
    "ptbdb": {"ptbdb_normal": (None, (0,)), "ptbdb_abnormal": (None, (1,))},
}
"""Files of each set, with their side of the published split and the labels they may hold."""
COLUMNS = beats.KACHUEE_SAMPLES + 1


class Options(Section):
    """Options of the set, and of generated data."""

    set: Literal["mitbih", "ptbdb"] = Field("mitbih", description="which of the two pairs of files")
    simulated: bool = Field(False, description="without data.path: write such files from generated recordings")
    patients: int = Field(24, ge=4, le=500, description="simulated: people")


def task(options: Options) -> Task:
    """Return the task: its inputs and classes; for mitbih, the task of mitdb's kachuee view of one lead."""
    beats_task = beat_reader.beat_task(beat_reader.Options(view="kachuee", leads=1, classes="NSVFQ"))
    if options.set == "mitbih":
        return replace(beats_task, name="heartbeat CSV, AAMI classes")
    titles = ("beat of a healthy control", "beat of an ill person")
    return replace(
        beats_task, name="heartbeat CSV, normal and abnormal", classes=("normal", "abnormal"), class_titles=titles
    )


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of generated files, writing them first if needed."""
    folder = store / f"heartbeat-{options.set}-{options.patients}-seed{seed}-v{simulate.VERSION}"
    simulate.generate(folder, which=options.set, patients=options.patients, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return each row as a separate patient.

    Raises:
        DataError: a file is not as published, or one is a copy of the other.
    """
    files = {name: _load(folder, name, options, store) for name in _find_files(folder, options)}
    if len(files) > 1:
        one, other = (np.unique(rows["digest"]) for rows in files.values())
        shared = len(np.intersect1d(one, other))
        if shared > max(1, MAX_SHARED * min(len(one), len(other))):
            names = " and ".join(f"{name}.csv" for name in files)
            raise DataError(f"{folder}: {names} hold {shared} equal beats: one is a copy, or holds rows of the other")
    one_hot = np.eye(len(task(options).classes), dtype=np.int64)
    examples = [tuple(row) for row in one_hot.tolist()]
    return [
        Patient(f"{name}:{line}", f"{name}:{line}", examples[label], published=side)
        for name, (side, _) in _find_files(folder, options).items()
        for line, label in enumerate(files[name]["y"].tolist(), 1)
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the rows `ids`, in that order."""
    if not ids:
        raise DataError(f"no examples of {folder} to read")
    inputs = task(options)
    x = np.zeros((len(ids), 1, beats.KACHUEE_SAMPLES), dtype=np.float32)
    y = np.zeros(len(ids), dtype=np.int64)
    names = np.asarray([name.partition(":")[0] for name in ids])
    lines = np.asarray([int(name.partition(":")[2]) - 1 for name in ids])
    for name in _find_files(folder, options):
        wanted = np.flatnonzero(names == name)
        if len(wanted):
            rows = _load(folder, name, options, store)
            x[wanted, 0] = rows["x"][lines[wanted]]
            y[wanted] = rows["y"][lines[wanted]]
    return Cohort(
        inputs,
        x,
        np.zeros((len(ids), 0), dtype=np.float32),
        y,
        np.arange(len(ids)),
        tuple(ids),
        tuple(ids),
        np.full(len(ids), -1, np.int8),
        {},
        synthetic_folder.is_marked(folder),
    )


def _find_files(folder: Path, options: Options) -> dict[str, tuple[str | None, tuple[int, ...]]]:
    """Return the files of the set that are there, as in FILES."""
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the CSV files")
    wanted = FILES[options.set]
    files = {name: entry for name, entry in wanted.items() if (folder / f"{name}.csv").is_file()}
    if not files:
        raise DataError(f"no recordings in {folder}: it holds neither {' nor '.join(f'{name}.csv' for name in wanted)}")
    return files


def _load(folder: Path, name: str, options: Options, store: Path) -> cache.Arrays:
    """Return `x` float32 `(rows, 187)` and `y` int64 `(rows,)` of a file, parsed once."""
    path = folder / f"{name}.csv"
    labels = FILES[options.set][name][1]
    status = path.stat()
    key = _key(path.resolve(), status.st_mtime_ns, status.st_size, labels)
    return cache.load_or_make(store, key, lambda: (_parse(path, labels), {}))[0]


@lru_cache(maxsize=16)
def _key(path: Path, changed: int, size: int, labels: tuple[int, ...]) -> str:
    """Return the cache's key, computed once a process, because it needs all 400 MB of a file."""
    return cache.content_key([path], {"version": VERSION, "labels": labels})


def _parse(path: Path, labels: Sequence[int]) -> cache.Arrays:
    """Return the samples and labels of a file.

    Raises:
        DataError: names the first wrong line and its column.
    """
    names = [f"{i}" for i in range(COLUMNS)]
    try:
        table = pa.csv.read_csv(
            path,
            pa.csv.ReadOptions(column_names=names),
            pa.csv.ParseOptions(quote_char=False, newlines_in_values=False),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float32()), null_values=[]),
        )
    except pa.ArrowInvalid:
        raise DataError(_describe_first_error(path, labels)) from None
    values: npt.NDArray[np.float32] = np.stack([column.to_numpy() for column in table.columns], axis=1)
    x, y = values[:, :-1], values[:, -1]
    # Comparisons with NaN are false, so this also refuses NaN.
    if not ((x >= 0) & (x <= 1)).all() or not np.isin(y, labels).all() or not len(y):
        raise DataError(_describe_first_error(path, labels))
    digest = np.asarray([zlib.crc32(row.tobytes()) for row in np.ascontiguousarray(x)], dtype=np.uint32)
    return {"x": np.ascontiguousarray(x), "y": y.astype(np.int64), "digest": digest}


def _describe_first_error(path: Path, labels: Sequence[int]) -> str:
    """Return the error message of the first wrong line of a file."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            cells = line.rstrip("\r\n").split(",")
            where = f"{path}, line {number}"
            if len(cells) != COLUMNS:
                return f"{where}: {len(cells)} columns, not the {COLUMNS} of 187 samples and a label"
            for column, cell in enumerate(cells, 1):
                try:
                    value = float(cell)
                except ValueError:
                    return f"{where}, column {column}: not a number (these files have no header and no empty cell)"
                if column < COLUMNS and not 0 <= value <= 1:
                    return f"{where}, column {column}: a sample is not between 0 and 1, as in the published files"
            if value not in labels:
                return f"{where}: the label is none of {', '.join(map(str, labels))}"
    return f"{path} is empty or not text: fetch it again"
