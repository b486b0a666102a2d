"""The Kaggle "heartbeat" files: beats of MIT-BIH and of PTB as rows of numbers, with no word on whose they are.

Data card
    Inputs    one beat of lead II a row: 187 samples at 125 Hz from the R peak on, scaled to [0, 1], zero padded.
    Labels    column 188. `set: mitbih`: 0 N, 1 S, 2 V, 3 F, 4 Q of ANSI/AAMI EC57; `set: ptbdb`: 0 normal, 1 abnormal.
    Sites     none known: hospitals are made by a partition of rows, so one patient's beats lie in several of them.
    Splits    mitbih_train.csv and mitbih_test.csv, of beats: the same patients are in both. ptbdb: none.
    Source    https://www.kaggle.com/datasets/shayanfazeli/heartbeat
    Citation  Kachuee, Fazeli, Sarrafzadeh 2018, IEEE ICHI, arXiv:1805.00794; Moody, Mark 2001; Bousseljot et al. 1995.
    Licence   as Kaggle states it for the files; the recordings: Open Data Commons Attribution License 1.0

The files have no patient ids. Each row counts in name as a patient of its own, called by its file and line, so no
split here is a split between patients, and intervals over "patients" are intervals over beats. The warning of the
card stands beside every figure. The same beats with their patients are in mitdb (view kachuee) and ptbdb.
"""

from __future__ import annotations

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

from common.errors import ConfigError, DataError
from common.settings import Section
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.heartbeat_csv import simulate
from sites.ecg import beat_reader, beats

CARD = DataCard(
    name="heartbeat_csv",
    title='ECG Heartbeat Categorization Dataset (Kaggle "heartbeat")',
    inputs="beats of 187 samples at 125 Hz, scaled to [0, 1], of MIT-BIH (109,446) or of PTB (14,552)",
    labels="beat classes N, S, V, F, Q of ANSI/AAMI EC57; or normal and abnormal",
    sites="none known; hospitals are made by partition of rows",
    splits="mitbih_train.csv and mitbih_test.csv, of beats and not of patients",
    source="https://www.kaggle.com/datasets/shayanfazeli/heartbeat",
    citation="Kachuee M, Fazeli S, Sarrafzadeh M. IEEE ICHI 2018, arXiv:1805.00794",
    licence="as stated on Kaggle; the recordings: Open Data Commons Attribution License v1.0",
    warning="Patients overlap: the files do not say whose a beat is, so the same patients are in training and "
    "test, and every figure is too good to hold for a new patient.",
)

VERSION = 1
FILES: dict[str, dict[str, tuple[str | None, tuple[int, ...]]]] = {
    "mitbih": {
        "mitbih_train": ("train", (0, 1, 2, 3, 4)),
        "mitbih_test": ("test", (0, 1, 2, 3, 4)),
    },
    "ptbdb": {"ptbdb_normal": (None, (0,)), "ptbdb_abnormal": (None, (1,))},
}
"""Of each set the files, their side of the published split, and the labels they may hold."""
COLUMNS = beats.KACHUEE_SAMPLES + 1


class Options(Section):
    """Which of the two sets, and how much is generated where asked for."""

    set: Literal["mitbih", "ptbdb"] = Field("mitbih", description="which of the two pairs of files")
    simulated: bool = Field(False, description="without data.path: write such files from generated recordings")
    patients: int = Field(24, ge=4, le=500, description="simulated: people")


def task(options: Options) -> Task:
    """Return what is predicted from what: of mitbih what mitdb's kachuee view of one lead predicts."""
    same = beat_reader.beat_task(beat_reader.Options(view="kachuee", leads=1, classes="NSVFQ"))
    if options.set == "mitbih":
        return replace(same, name="heartbeat CSV, AAMI classes")
    titles = ("beat of a healthy control", "beat of an ill person")
    return replace(same, name="heartbeat CSV, normal and abnormal", classes=("normal", "abnormal"), class_titles=titles)


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of generated files, writing them first where they are not there.

    Raises:
        ConfigError: no generated data were asked for.
    """
    if not options.simulated:
        raise ConfigError(
            "data.path: say where heartbeat_csv lies on this machine, as in --set data.path=data/heartbeat, "
            "or data.options.simulated=true for SYNTHETIC data"
        )
    folder = store / f"heartbeat-{options.set}-{options.patients}-seed{seed}-v{simulate.VERSION}"
    simulate.generate(folder, which=options.set, patients=options.patients, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return the rows as patients of their own: what the files do not say cannot be kept apart."""
    rows = np.eye(len(task(options).classes), dtype=np.int64)
    every = [tuple(row) for row in rows.tolist()]
    return [
        Patient(f"{name}:{line}", f"{name}:{line}", every[label], published=side)
        for name, (side, _) in _present(folder, options).items()
        for line, label in enumerate(_load(folder, name, options, store)["y"].tolist(), 1)
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the rows `ids`, in that order, without a split."""
    if not ids:
        raise DataError(f"no examples of {folder} to read")
    what = task(options)
    x = np.zeros((len(ids), 1, beats.KACHUEE_SAMPLES), dtype=np.float32)
    y = np.zeros(len(ids), dtype=np.int64)
    names = np.asarray([name.partition(":")[0] for name in ids])
    lines = np.asarray([int(name.partition(":")[2]) - 1 for name in ids])
    for name in _present(folder, options):
        wanted = np.flatnonzero(names == name)
        if len(wanted):
            held = _load(folder, name, options, store)
            x[wanted, 0] = held["x"][lines[wanted]]
            y[wanted] = held["y"][lines[wanted]]
    return Cohort(
        what,
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


def _present(folder: Path, options: Options) -> dict[str, tuple[str | None, tuple[int, ...]]]:
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the CSV files")
    wanted = FILES[options.set]
    found = {name: about for name, about in wanted.items() if (folder / f"{name}.csv").is_file()}
    if not found:
        raise DataError(f"no recordings in {folder}: it holds neither {' nor '.join(f'{name}.csv' for name in wanted)}")
    return found


def _load(folder: Path, name: str, options: Options, store: Path) -> cache.Arrays:
    """Return `x` float32 `(rows, 187)` and `y` int64 `(rows,)` of a file, parsed once."""
    path = folder / f"{name}.csv"
    labels = FILES[options.set][name][1]
    about = path.stat()
    key = _key(path.resolve(), about.st_mtime_ns, about.st_size, labels)
    return cache.load_or_make(store, key, lambda: (_parse(path, labels), {}))[0]


@lru_cache(maxsize=16)
def _key(path: Path, changed: int, size: int, labels: tuple[int, ...]) -> str:
    """Return the cache's key; a process reads the 400 MB of a file for it once, not once a hospital."""
    return cache.content_key([path], {"version": VERSION, "labels": labels})


def _parse(path: Path, labels: Sequence[int]) -> cache.Arrays:
    names = [f"{i}" for i in range(COLUMNS)]
    try:
        table = pa.csv.read_csv(
            path,
            pa.csv.ReadOptions(column_names=names),
            pa.csv.ParseOptions(quote_char=False, newlines_in_values=False),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float32()), null_values=[]),
        )
    except pa.ArrowInvalid:
        raise DataError(_fault(path, labels)) from None
    values: npt.NDArray[np.float32] = np.stack([column.to_numpy() for column in table.columns], axis=1)
    x, y = values[:, :-1], values[:, -1]
    # Comparisons with NaN are false, so this also finds what is not a number.
    if not ((x >= 0) & (x <= 1)).all() or not np.isin(y, labels).all() or not len(y):
        raise DataError(_fault(path, labels))
    return {"x": np.ascontiguousarray(x), "y": y.astype(np.int64)}


def _fault(path: Path, labels: Sequence[int]) -> str:
    """Return what is wrong with the first wrong line of a file."""
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
                    return f"{where}, column {column}: a sample is not between 0 and 1, as these files hold them"
            if value not in labels:
                return f"{where}: the label is none of {', '.join(map(str, labels))}, as this file must hold"
    return f"{path} is empty, or no text: fetch it again"
