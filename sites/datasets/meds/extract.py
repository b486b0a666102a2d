"""The Parquet files of a MEDS extract: events, subject splits and labels.

The form is that of the Medical Event Data Standard 0.4 (https://github.com/Medical-Event-Data-Standard/meds; Arnrich et
al., ICLR 2024 workshop TS4H): `data/**/*.parquet` with `subject_id` (int64), `time` (timestamp, null for what has no
time), `code` (string) and optionally `numeric_value` (float32); all events of a subject in one file, in order of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, DataError
from sites.datasets.meds.checks import Kind, check_kind, check_one_task

SPLITS = {"train": "train", "tuning": "validation", "held_out": "test"}
"""Names of the published splits here, by MEDS's names."""
SPLIT_FILE = Path("metadata") / "subject_splits.parquet"
_NEARLY_SPLITS = {*SPLITS, "training", "validation", "valid", "val", "test", "tune", "held-out", "heldout", "held out"}
NO_TIME = np.iinfo(np.int64).min
"""Time of an event that has none."""
LABEL_COLUMNS = ("boolean_value", "integer_value", "categorical_value")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """The events of one file, in order of subject and time.

    Attributes:
        subject: int64 `(events,)`.
        time: int64 `(events,)`, microseconds since 1970; NO_TIME without a time.
        code: int32 `(events,)`, index into `codes`.
        codes: the distinct codes.
        value: float64 `(events,)`, NaN without a number.
        hospital: `(events,)`, index into `hospitals`, -1 unknown; empty without a column.
        hospitals: the distinct hospitals.
    """

    subject: Ints
    time: Ints
    code: npt.NDArray[np.int32]
    codes: tuple[str, ...]
    value: npt.NDArray[np.float64]
    hospital: npt.NDArray[np.int32]
    hospitals: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Labels of subjects at times.

    Attributes:
        subject: int64 `(labels,)`.
        time: int64 `(labels,)`, microseconds since 1970.
        value: the label of each as text.
    """

    subject: Ints
    time: Ints
    value: tuple[str, ...]


def list_shards(folder: Path, data: str) -> list[Path]:
    """Return the Parquet files of events.

    Raises:
        DataError: there are none.
        ConfigError: `data` leaves the folder.
    """
    root = _inside(folder, data, "read.data")
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder of the MEDS extract, which holds {data}/")
    shards = sorted(path for path in root.rglob("*.parquet") if path.is_file())
    if not shards:
        raise DataError(f"no recordings in {folder}: {data}/ holds no Parquet file of MEDS events")
    return shards


def list_labels(folder: Path, labels: str) -> list[Path]:
    """Return the Parquet files of labels.

    Raises:
        DataError: there are none.
        ConfigError: `labels` leaves the folder.
    """
    path = _inside(folder, labels, "read.labels")
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise DataError(f"{path}: no Parquet file of labels")
    if path.is_dir():
        check_one_task(path, files)
    return files


def _inside(folder: Path, name: str, key: str) -> Path:
    if name.startswith("/") or ".." in Path(name).parts:
        raise ConfigError(f"{key}: {name} leaves the data folder: name something in it")
    return folder / name


def read_events(path: Path, hospital: str | None) -> Events:
    """Return the events of a file, sorted by subject and time where they are not yet.

    Raises:
        DataError: it is no Parquet file of MEDS events.
    """
    import pyarrow as pa

    wanted = {"subject_id": pa.int64(), "time": pa.timestamp("us"), "code": pa.string()}
    table = _read(path, wanted, {"numeric_value": pa.float32()} | ({hospital: pa.string()} if hospital else {}))
    if hospital and hospital not in table.column_names:
        raise DataError(f"{path}: no column {hospital}, which read.hospital names")
    _require_filled(path, table, ("subject_id", "code"))
    subject = table.column("subject_id").to_numpy()
    time = table.column("time").cast(pa.int64()).fill_null(int(NO_TIME)).to_numpy()
    code, codes = _encode(table.column("code"))
    value = (
        table.column("numeric_value").to_numpy().astype(np.float64)
        if "numeric_value" in table.column_names
        else np.full(len(subject), np.nan)
    )
    hospitals: tuple[str, ...] = ()
    home = np.zeros(0, np.int32)
    if hospital:
        home, hospitals = _encode(table.column(hospital))
        unknown = [number for number, name in enumerate(hospitals) if not name.strip()]
        home = np.where(np.isin(home, unknown), -1, home).astype(np.int32)
    if ((np.diff(subject) < 0) | ((np.diff(subject) == 0) & (np.diff(time) < 0))).any():
        order = np.lexsort((time, subject))
        subject, time, code, value = subject[order], time[order], code[order], value[order]
        home = home[order] if len(home) else home
    return Events(subject, time, code, codes, value, home, hospitals)


def read_splits(folder: Path) -> dict[int, str]:
    """Return the published split of each subject, empty without the file; other names than MEDS's are no split.

    Raises:
        DataError: the file is not in the form of MEDS.
    """
    import pyarrow as pa

    path = folder / SPLIT_FILE
    if not path.is_file():
        return {}
    table = _read(path, {"subject_id": pa.int64(), "split": pa.string()}, {})
    _require_filled(path, table, ("subject_id", "split"))
    result: dict[int, str] = {}
    names = table.column("split").to_pylist()
    if wrong := [name for name in sorted(set(names)) if name not in SPLITS and name.strip().lower() in _NEARLY_SPLITS]:
        raise DataError(f"{path}: a split is called {wrong[0]}; MEDS calls them {', '.join(SPLITS)}")
    for subject, name in zip(table.column("subject_id").to_pylist(), names, strict=True):
        if result.setdefault(subject, name) != name:
            raise DataError(f"{path}: a subject is in two splits: keep one row of each")
    return {subject: SPLITS[name] for subject, name in result.items() if name in SPLITS}


def read_labels(paths: Sequence[Path]) -> Labels:
    """Return labels in the form of MEDS: the first of a boolean, an integer and a categorical value that is there.

    Raises:
        DataError: a file is not in that form.
    """
    import pyarrow as pa

    subjects, times = [], []
    values: list[str] = []
    for path in paths:
        wanted = {"subject_id": pa.int64(), "prediction_time": pa.timestamp("us")}
        table = _read(path, wanted, dict.fromkeys(LABEL_COLUMNS))
        _require_filled(path, table, ("subject_id", "prediction_time"))
        columns = [name for name in LABEL_COLUMNS if name in table.column_names and not table.column(name).null_count]
        if not columns:
            raise DataError(f"{path}: none of the columns {', '.join(LABEL_COLUMNS)} is there and filled in every row")
        subjects.append(table.column("subject_id").to_numpy())
        times.append(table.column("prediction_time").cast(pa.int64()).to_numpy())
        values += [
            str(value).lower() if isinstance(value, bool) else str(value).strip()
            for value in table.column(columns[0]).to_pylist()
        ]
    return Labels(np.concatenate(subjects).astype(np.int64), np.concatenate(times).astype(np.int64), tuple(values))


def _read(path: Path, wanted: dict[str, Any], optional: dict[str, Any]) -> Any:
    """Return an Arrow table with the wanted columns, and the optional ones that are there, in their types."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names = parquet.read_schema(str(path)).names
        if missing := [name for name in wanted if name not in names]:
            raise DataError(f"{path}: no column {missing[0]}: not in the form of MEDS")
        given = [*wanted, *(name for name in optional if name in names)]
        table = parquet.ParquetFile(str(path)).read(columns=given)
        kinds = wanted | optional
        for i, name in enumerate(table.column_names):
            own = table.column(i).type
            check_kind(path, name, own, _describe_kind(kinds[name]))
            if kinds[name] is not None and own != kinds[name]:
                exact = not (
                    pa.types.is_floating(kinds[name]) or own in (pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
                )
                table = table.set_column(i, name, table.column(i).cast(kinds[name], safe=exact))
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not in the form of MEDS"
        raise DataError(f"{path}: cannot be read: {reason}") from None
    return table


def _describe_kind(kind: Any) -> Kind:
    """Return what a column of an Arrow type must hold."""
    import pyarrow as pa

    kinds: dict[Any, Kind] = {
        pa.int64(): "number of a person",
        pa.timestamp("us"): "time",
        pa.string(): "text",
        pa.float32(): "number",
    }
    return kinds.get(kind, "any")


def _require_filled(path: Path, table: Any, names: Sequence[str]) -> None:
    for name in names:
        if table.column(name).null_count:
            raise DataError(f"{path}: column {name}: a row without one, which MEDS forbids")


def _encode(column: Any) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Return a column of texts as indices and distinct texts; -1: null."""
    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if hasattr(encoded, "combine_chunks") else encoded
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return indices, tuple(encoded.dictionary.to_pylist())
