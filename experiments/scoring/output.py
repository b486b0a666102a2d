"""Score files: a tidy table, a table of exclusions, a summary, and WFDB annotations for ECG viewers.

Rows are written to a temporary file, record by record, which gets the table's name at the end, also after Ctrl-C: the
table holds complete records only. The annotations of a record are one file, written whole or not at all.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError, UsageError
from common.files import replace_file, temporary_path, write_atomically
from experiments.scoring.score import Scored, ScoringModel, Tally, synthetic_notice, to_json
from sites.unlabelled_rows import Exclusion

SYMBOLS = {name: name for name in "NSVFQ"} | {"normal": "N", "abnormal": "?", "NORM": "N", "": "Q"}
"""WFDB's symbol of each class; Q is a beat without a class; other classes get "?", with the class as a note."""
NOTE, SIGNATURE = '"', "wardround"
RESERVED_SUFFIXES = ("hea", "dat", "xyz", "csv", "json", "edf", "mat", "xws")
DIGITS = 6
"""Significant digits of a probability or of log odds."""


def check_extension(extension: str, annotator: str) -> None:
    """Raise `UsageError` if annotations must not have this suffix, such as that of reference annotations."""
    if not (extension.isascii() and extension.isalpha() and len(extension) <= 16):
        raise UsageError(f"--extension {extension}: use 1 to 16 letters, as WFDB programs require")
    if extension in ("atr", annotator, *RESERVED_SUFFIXES):
        raise UsageError(f"--extension {extension}: other files have that suffix; choose another, such as wrd")


def _name_factors(effects: npt.NDArray[np.float64], names: Sequence[str], count: int) -> dict[str, Any]:
    """Return columns with the inputs of the largest effects, and these effects, largest in size first."""
    order = np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :count]
    columns: dict[str, Any] = {}
    for rank in range(order.shape[1]):
        columns[f"factor_{rank + 1}"] = np.asarray(names, object)[order[:, rank]]
        columns[f"effect_{rank + 1}"] = np.take_along_axis(effects, order[:, rank : rank + 1], 1)[:, 0]
    return columns


class ScoreWriter:
    """Writes scores into a folder.

    Args:
        folder: the folder to write to, created where needed.
        table: the name of the table; its suffix, .csv or .parquet, is its format.
        model: the model whose scores are written.
        extension: suffix of the annotations; None: no annotations.
        factors: how many of a row's inputs with the largest Shapley values are named.

    Raises:
        DataError: the folder cannot be written, or the table's name is a folder's.
        UsageError: the table has another suffix.
    """

    def __init__(self, folder: Path, table: str, model: ScoringModel, extension: str | None, factors: int = 0) -> None:
        self.path, self.model, self.extension, self.factors = folder / table, model, extension, factors
        if self.path.suffix not in (".csv", ".parquet"):
            raise UsageError(f"{self.path.name}: scores are written as .csv or .parquet")
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder: choose another name with --out")
        self.tally, self.synthetic = Tally(), False
        self._excluded: list[Exclusion] = []
        self._records: list[dict[str, Any]] = []
        self._part = temporary_path(self.path)
        self._parquet: Any = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")
        except OSError as error:
            raise DataError(f"cannot write {folder}: {error.strerror}; see --out") from None
        self._has_rows = False

    def add(self, scored: Scored | Exclusion) -> None:
        """Write the scores of a record, or note why it has none."""
        if isinstance(scored, Exclusion):
            self.tally.add_exclusion(scored)
            self._excluded.append(scored)
            return
        rows = scored.rows
        self.synthetic |= rows.cohort.synthetic
        frame = self._frame(scored)
        if self.extension and rows.rate and len(frame):
            self._annotate(scored)
        self._write(frame)
        self.tally.add(scored)
        self._excluded += rows.exclusions
        if rows.rate:
            name = rows.cohort.patients[0]
            self._records.append({"record": name, "rows": len(frame), "left out": len(rows.exclusions), **rows.about})

    def close(self, complete: bool) -> dict[str, Any]:
        """Finish the files and return the summary, which is also written to their folder.

        Raises:
            DataError: nothing could be scored; excluded.csv gives the reason for each record.
        """
        self._end()
        if self._has_rows:
            replace_file(self._part, self.path, durable=True)
        else:
            self._part.unlink(missing_ok=True)
        stem = self.path.stem
        left = self.path.with_name("excluded.csv" if stem == "scores" else f"{stem}.excluded.csv")
        with write_atomically(left) as part, part.open("w", encoding="utf-8", newline="") as out:
            write = csv.writer(out)
            write.writerow(("record", "sample", "seconds", "rows", "reason"))
            for item in self._excluded:
                seconds = None if item.seconds is None else f"{item.seconds:.4f}"
                write.writerow((item.record, item.sample, seconds, item.rows or "all", item.reason))
        tally = self.tally
        summary: dict[str, Any] = {
            "run": self.model.run,
            "model": self.model.name,
            "complete": complete,
            "notice": synthetic_notice(self.model, self.synthetic),
            "records": tally.records,
            "rows": tally.rows,
            "classes": dict(sorted(tally.classes.items())),
            "threshold": self.model.threshold,
            "beats": dict(tally.beats),
            "rhythm": tally.rhythm.summary(),
            "left out": dict(tally.left.most_common()),
            "cells read as not measured": dict(tally.cleared.most_common()),
            "to check": dict(tally.suspicions.most_common()),
            "records without a score": sum(tally.without.values()),
            "scores": str(self.path) if self._has_rows else None,
            "excluded": str(left),
            "annotations": f"*.{self.extension}" if self.extension and self._records else None,
        }
        with write_atomically(self.path.with_name("score.json" if stem == "scores" else f"{stem}.json")) as part:
            part.write_text(to_json(summary | {"each": self._records}), encoding="utf-8")
        if not tally.rows and complete:
            first = next(iter(tally.without), None) or next(iter(tally.left), "it holds no row")
            raise DataError(f"nothing could be scored ({first}); see {left} for every reason")
        return summary

    def _frame(self, scored: Scored) -> pd.DataFrame:
        rows, task = scored.rows, self.model.task
        names = rows.columns.get("record", np.full(len(scored.predicted), rows.cohort.patients[0], dtype=object))
        columns: dict[str, Any] = {"record": names}
        columns |= {key: value for key, value in rows.columns.items() if key not in ("record", "reference")}
        columns["class"] = scored.predicted
        if task.anomaly:
            columns["log_anomaly"] = scored.odds[:, 1]
        else:
            columns |= {f"p_{name}": scored.probability[:, k] for k, name in enumerate(task.classes)}
            if task.binary:
                columns["log_odds"] = scored.odds[:, 1]
        if scored.effects is not None:
            columns |= _name_factors(scored.effects, task.features, self.factors)
        if "reference" in rows.columns:
            columns["reference"] = rows.columns["reference"]
        elif rows.rate:
            columns["reference"] = ""
        columns["synthetic"] = bool(rows.cohort.synthetic or self.model.synthetic)
        return pd.DataFrame(columns)

    def _write(self, frame: pd.DataFrame) -> None:
        if self.path.suffix == ".csv":
            digits = f"%.{DIGITS}g"
            text = frame.to_csv(index=False, header=not self._has_rows, float_format=digits, lineterminator="\n")
            try:
                self._file.write(text.encode())
            except OSError as error:
                raise DataError(f"cannot write {self.path}: {error.strerror}; see --out") from None
        else:
            import pyarrow as pa
            from pyarrow import parquet

            table = pa.Table.from_pandas(frame, preserve_index=False)
            if self._parquet is None:
                self._parquet = parquet.ParquetWriter(self._file, table.schema)
            self._parquet.write_table(table.cast(self._parquet.schema))
        self._has_rows = True

    def _end(self) -> None:
        try:
            if self._parquet is not None:
                self._parquet.close()
            if not self._file.closed:
                self._file.close()
        except OSError as error:
            self._part.unlink(missing_ok=True)
            raise DataError(f"cannot write {self.path}: {error.strerror}; see --out") from None

    def _annotate(self, scored: Scored) -> None:
        rows, task = scored.rows, self.model.task
        location = rows.about.get("beats", "strips")
        warning = synthetic_notice(self.model, rows.cohort.synthetic).partition(":")[0]
        rhythm = f"rhythm {rows.about['rhythm']}" if "rhythm" in rows.about else ""
        parts = (SIGNATURE, warning, "not for clinical use", self.model.run, self.model.name, location, rhythm)
        head = "; ".join(filter(None, parts))
        beats = location != "strips"
        symbols = [SYMBOLS.get(name, "?") if beats else NOTE for name in scored.predicted]
        notes = ["" if name in SYMBOLS else name for name in scored.predicted]
        if task.anomaly:  # notes on every beat would hide the signal: only abnormal ones get one
            threshold = np.inf if self.model.threshold is None else self.model.threshold
            notes = [f"{value:.2f}" if not beats or value >= threshold else "" for value in scored.odds[:, 1]]
        elif not beats:
            best = scored.probability.max(1)
            notes = [f"{name or 'none'} {p:.2f}" for name, p in zip(scored.predicted, best, strict=True)]
        path = self.path.parent / f"{rows.cohort.patients[0]}.{self.extension}"
        # wfdb hides a note at sample 0, because definitions of the file are stored there.
        sample = np.concatenate([rows.columns["sample"] if beats else np.maximum(rows.columns["sample"], 1), [1]])
        order = np.argsort(sample, kind="stable")
        symbols, notes = [*symbols, NOTE], [*notes, head]
        write_annotations(path, sample[order], [symbols[i] for i in order], [notes[i] for i in order], rows.rate)


def write_annotations(path: Path, sample: Any, symbol: Sequence[str], note: Sequence[str], rate: float) -> None:
    """Write a WFDB annotation file whole or not at all.

    Raises:
        DataError: another program has written a file of this name.
    """
    import wfdb

    if path.is_file() and not _is_own_file(path):
        raise DataError(f"{path} was not written by this program: choose another --extension or --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wardround-", dir=path.parent) as scratch:
        name, extension = path.stem, path.suffix[1:]
        wfdb.wrann(
            name,
            extension,
            np.asarray(sample),
            symbol=list(symbol),
            aux_note=[text[:255] for text in note],
            fs=rate,
            write_dir=scratch,
        )
        replace_file(Path(scratch) / path.name, path)


def _is_own_file(path: Path) -> bool:
    return SIGNATURE.encode() in path.read_bytes()[:256]
