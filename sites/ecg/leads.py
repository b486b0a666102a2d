"""Leads of a WFDB recording by name, in mV: recordings without annotations, as 12-lead databases hold them.

A plain header (format 16, one sample a frame) is parsed here: wfdb takes about 6 ms for a recording of ten
seconds, and PTB-XL has 21,799. Any other header goes through wfdb. Only the signal files of the wanted leads
are opened, because PTB's Frank leads lie in a file of their own that a copy may lack.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import wfdb

from common.errors import DataError
from sites.ecg.recordings import MILLIVOLTS, MISSING_VALUES

Lead = Literal["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
STANDARD: tuple[Lead, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
FRANK = ("vx", "vy", "vz")
_NAMES = {name.lower(): name for name in (*STANDARD, *FRANK)}
_FIRST = re.compile(r"\S+[ \t]+(\d+)[ \t]+(\d+(?:\.\d+)?)[ \t]+(\d+)(?:[ \t].*)?")
_SIGNAL = re.compile(
    r"(\S+)[ \t]+16[ \t]+(\d+(?:\.\d+)?)(?:\((-?\d+)\))?(?:/(\S+))?"
    r"[ \t]+\d+[ \t]+(-?\d+)[ \t]+(-?\d+)[ \t]+(-?\d+)[ \t]+0[ \t]+(\S.*)"
)


@dataclass(frozen=True)
class Header:
    """What a header says: `gain` in converter units per mV; `checksum` none where the header holds none.

    Headers of copies that were cut or converted sometimes hold 0 for every checksum and first value.
    """

    path: Path
    rate: float
    samples: int
    leads: tuple[str, ...]
    files: tuple[str, ...]
    gain: npt.NDArray[np.float32]
    baseline: npt.NDArray[np.float32]
    checksum: tuple[int, ...] | None
    comments: tuple[str, ...]
    plain: bool

    def columns(self, wanted: Sequence[str]) -> list[int]:
        """Return where the wanted leads stand.

        Raises:
            DataError: the recording has no such lead.
        """
        lost = [lead for lead in wanted if lead not in self.leads]
        if lost:
            raise DataError(f"{self.path} has no lead {lost[0]}: leave the recording out, or ask for other leads")
        return [self.leads.index(lead) for lead in wanted]

    def signal_files(self, wanted: Sequence[str]) -> list[Path]:
        """Return the files that hold the wanted leads.

        Raises:
            DataError: one of them is missing.
        """
        found = [self.path.parent / name for name in dict.fromkeys(self.files[i] for i in self.columns(wanted))]
        for file in found:
            if not file.is_file():
                raise DataError(f"{self.path} names the signal file {file.name}, which is not in {file.parent}")
        return found


def read_header(path: Path) -> Header:
    """Read a header file.

    Raises:
        DataError: it is not there, or is no header of one recording.
    """
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError:
        raise DataError(f"no header {path}: fetch the recording again, or take it from the list") from None
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    body = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    first = _FIRST.fullmatch(body[0]) if body else None
    signals = [_SIGNAL.fullmatch(line) for line in body[1:]]
    if first is None or len(signals) != int(first[1]) or not signals or None in signals or int(first[3]) == 0:
        return _by_wfdb(path, comments)
    rows = [signal.groups() for signal in signals if signal is not None]
    unit = np.asarray([MILLIVOLTS.get(row[3] or "mV", 1.0) for row in rows])
    return Header(
        path,
        float(first[2]),
        int(first[3]),
        tuple(_NAMES.get(row[7].lower(), row[7]) for row in rows),
        tuple(row[0] for row in rows),
        ((np.asarray([float(row[1]) or 200.0 for row in rows])) / unit).astype(np.float32),
        np.asarray([float(row[2] if row[2] is not None else row[4]) for row in rows], dtype=np.float32),
        _checksum([int(row[5]) for row in rows], [int(row[6]) for row in rows]),
        comments,
        True,
    )


def _checksum(initial: Sequence[int], sums: Sequence[int]) -> tuple[int, ...] | None:
    return tuple(sums) if any(sums) or any(initial) else None


def _by_wfdb(path: Path, comments: tuple[str, ...]) -> Header:
    try:
        found = wfdb.rdheader(str(path.with_suffix("")))
        unit = np.asarray([MILLIVOLTS.get(unit, 1.0) for unit in found.units])
        gain = (np.asarray(found.adc_gain, dtype=np.float64) / unit).astype(np.float32)
        return Header(
            path,
            float(found.fs),
            int(found.sig_len),
            tuple(_NAMES.get(name.lower(), name) for name in found.sig_name),
            tuple(found.file_name),
            gain,
            np.asarray(found.baseline, dtype=np.float32),
            _checksum(found.init_value, found.checksum),
            comments,
            False,
        )
    except Exception as error:
        raise DataError(f"cannot read the header {path}: {type(error).__name__}; fetch it again") from None


def read_leads(header: Header, wanted: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the wanted leads in mV, `(samples, leads)`; a missing sample is NaN.

    Raises:
        DataError: a lead or file is missing, or a signal file is truncated or damaged.
    """
    columns = header.columns(wanted)
    files = header.signal_files(wanted)
    digital = _plain(header, files) if header.plain else _any_format(header, files)
    chosen = np.stack([digital[i][0] for i in columns], axis=1)
    if header.checksum is not None:
        sums = chosen.sum(axis=0, dtype=np.int64) & 0xFFFF
        for i, found in zip(columns, sums, strict=True):
            if header.checksum[i] & 0xFFFF != int(found):
                raise DataError(
                    f"{header.path}: the checksum of lead {header.leads[i]} does not fit {header.files[i]}: "
                    "the file is damaged; fetch it again"
                )
    signal = (chosen.astype(np.float32) - header.baseline[columns]) / header.gain[columns]
    lost = chosen == np.asarray([digital[i][1] for i in columns])
    if lost.any():
        signal[lost] = np.nan
    return np.asarray(signal, dtype=np.float32)


def _plain(header: Header, files: Sequence[Path]) -> dict[int, tuple[npt.NDArray[np.int64 | np.int16], int]]:
    """Return converter values of every lead in the files, with what marks a missing one."""
    found: dict[int, tuple[npt.NDArray[np.int64 | np.int16], int]] = {}
    for file in files:
        held = [i for i, name in enumerate(header.files) if name == file.name]
        values = np.fromfile(file, dtype="<i2")
        if len(values) < header.samples * len(held):
            want = 2 * header.samples * len(held)
            raise DataError(
                f"cannot read the signal of {header.path}: {file.name} is truncated, "
                f"{file.stat().st_size} of {want} bytes; fetch the file again"
            )
        rows = values[: header.samples * len(held)].reshape(header.samples, len(held))
        found |= {i: (rows[:, k], MISSING_VALUES.get("16", -(2**15))) for k, i in enumerate(held)}
    return found


def _any_format(header: Header, files: Sequence[Path]) -> dict[int, tuple[npt.NDArray[np.int64 | np.int16], int]]:
    names = {file.name for file in files}
    held = [i for i, name in enumerate(header.files) if name in names]
    try:
        record = wfdb.rdrecord(str(header.path.with_suffix("")), channels=held, physical=False, return_res=32)
        marks = [MISSING_VALUES.get(str(form), -(2**15)) for form in record.fmt]
        return {i: (record.d_signal[:, k], marks[k]) for k, i in enumerate(held)}
    except Exception as error:
        raise DataError(
            f"cannot read the signal of {header.path}: {type(error).__name__}: damaged or truncated; fetch it again"
        ) from None
