"""Reading one WFDB recording, with the checks that the library leaves to its caller.

A recording is `NAME.hea` and the signal files it names, and `NAME.atr` with the beats. Signals come back in
mV; missing samples are NaN. The header's checksum is compared, so that a damaged signal is not trained on. An
annotation file that was cut off reads as a shorter one, so its end mark is looked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from common.errors import DataError

MISSING_VALUES = {"80": -(2**7), "310": -(2**9), "311": -(2**9), "212": -(2**11), "24": -(2**23), "32": -(2**31)}
"""What marks a missing sample in a WFDB storage format (signal(5) of the WFDB manual); else -(2**15)."""

MILLIVOLTS = {"mV": 1.0, "uV": 1e-3, "\N{MICRO SIGN}V": 1e-3, "V": 1e3}
"""Units of a header, in mV; another unit, of a lead that is no ECG, is left as it is."""

END_OF_ANNOTATIONS = b"\0\0"
_PERSON = re.compile(r"#\s*(?:age:\s*)?(?P<age>-?\d+(?:\.\d+)?)\s+(?:sex:\s*)?(?P<sex>[MF])\b")


@dataclass(frozen=True)
class Recording:
    """A recording: `signal` float32 `(samples, leads)` in mV, and its annotations in the order of time."""

    name: str
    rate: float
    leads: tuple[str, ...]
    signal: npt.NDArray[np.float32]
    sample: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.str_]
    comments: tuple[str, ...]


def recording_names(folder: Path) -> tuple[str, ...]:
    """Return the recordings of a folder: those RECORDS lists, or else every `.hea` file, sorted.

    Raises:
        DataError: the folder is not there or holds no recording; RECORDS is no text, or names a recording
            twice or one that is missing.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the recordings (.hea, .dat, .atr)")
    listing = folder / "RECORDS"
    if listing.is_file():
        try:
            lines = listing.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise DataError(f"{listing} is not a list of recordings, one name a line: fetch it again") from None
        found = tuple(line.strip() for line in lines if line.strip())
        if twice := sorted({name for name in found if found.count(name) > 1}):
            raise DataError(f"{listing} names {twice[0]} twice: every recording counts once")
        for name in found:
            if not (folder / f"{name}.hea").is_file():
                raise DataError(f"{listing} names {name}, but {name}.hea is not in {folder}")
    else:
        found = tuple(sorted(path.stem for path in folder.glob("*.hea")))
    if not found:
        raise DataError(f"no recordings in {folder}: it holds no .hea file")
    return found


def recording_files(folder: Path, name: str, annotator: str | None = "atr") -> tuple[Path, ...]:
    """Return the files of one recording: header, signal files, and the annotator's beats where one is named.

    Raises:
        DataError: one of them is missing; the message names it and who names it.
    """
    header = folder / f"{name}.hea"
    try:
        lines = header.read_text(encoding="latin-1").splitlines()
    except FileNotFoundError:
        raise DataError(f"no header {header}") from None
    body = [line for line in lines if line.strip() and not line.startswith("#")]
    signals = dict.fromkeys(line.split()[0] for line in body[1:])
    found = [header]
    for signal in signals:
        path = folder / signal
        if not path.is_file():
            raise DataError(f"{header} names the signal file {signal}, which is not in {folder}")
        found.append(path)
    if annotator is None:
        return tuple(found)
    beats = folder / f"{name}.{annotator}"
    if not beats.is_file():
        raise DataError(f"no beat annotations {beats} beside {header}")
    return (*found, beats)


def read_age_and_sex(folder: Path, name: str) -> tuple[float, int]:
    """Return age (years, NaN unknown) and sex (0 female, 1 male, -1 unknown) from a header's comments.

    As in the MIT-BIH Arrhythmia Database (`# 69 M ...`, -1 for an unknown age), or `# age: 69 sex: M`.
    """
    for line in (folder / f"{name}.hea").read_text(encoding="latin-1").splitlines():
        if found := _PERSON.match(line):
            age = float(found["age"])
            return age if age >= 0 else float("nan"), {"F": 0, "M": 1}[found["sex"]]
    return float("nan"), -1


def read_rate(folder: Path, name: str) -> float:
    """Return the sampling rate that a header gives, in Hz."""
    lines = (folder / f"{name}.hea").read_text(encoding="latin-1").splitlines()
    first = next(line for line in lines if line.strip() and not line.startswith("#")).split()
    return float(re.split("[/(]", first[2])[0]) if len(first) > 2 else 250.0


def read_recording(folder: Path, name: str, annotator: str | None = "atr") -> Recording:
    """Read one recording, with an annotator's beats or with none.

    Raises:
        DataError: a file is missing, truncated or damaged, or an annotation lies beyond the signal.
    """
    header, *signals = recording_files(folder, name, None)
    beats = None if annotator is None else recording_files(folder, name, annotator)[-1]
    stem = str(folder / name)
    try:
        wide = {"24", "32"} & {str(fmt) for fmt in wfdb.rdheader(stem).fmt or []}
        record = wfdb.rdrecord(stem, physical=False, return_res=32 if wide else 16)
    except Exception as error:
        short = _short_file(folder, name, signals)
        why = short or f"{type(error).__name__}: damaged or truncated"
        raise DataError(f"cannot read the signal of {header}: {why}; fetch the file again") from None
    digital = record.d_signal
    if digital is None or len(digital) == 0:
        raise DataError(f"{header} holds no signal")
    sums = digital.sum(axis=0, dtype=np.int64) & 0xFFFF
    for lead, (want, got) in enumerate(zip(record.checksum or [], sums, strict=False)):
        if want is not None and (int(want) & 0xFFFF) != int(got):
            raise DataError(
                f"{header}: the checksum of lead {record.sig_name[lead]} does not fit {signals[0].name}: "
                "the file is damaged; fetch it again"
            )
    sample, symbol = (np.zeros(0, np.int64), np.zeros(0, "<U1")) if beats is None else _beats(beats, len(digital))
    unit = np.asarray([MILLIVOLTS.get(unit, 1.0) for unit in record.units])
    gain = (np.asarray(record.adc_gain) / unit).astype(np.float32)
    baseline = np.asarray(record.baseline, dtype=np.float32)
    signal = (digital.astype(np.float32) - baseline) / gain
    lost = digital == np.asarray([MISSING_VALUES.get(str(fmt), -(2**15)) for fmt in record.fmt])
    if lost.any():
        signal[lost] = np.nan
    return Recording(
        name,
        float(record.fs),
        tuple(record.sig_name),
        signal,
        sample,
        symbol,
        tuple(record.comments),
    )


def _beats(path: Path, length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Return where the annotations of a signal of so many samples stand, and their symbols."""
    if not path.read_bytes().endswith(END_OF_ANNOTATIONS):
        raise DataError(f"cannot read {path}: it has no end mark, so it is truncated; fetch it again")
    try:
        annotation = wfdb.rdann(str(path.with_suffix("")), path.suffix[1:])
    except Exception as error:
        raise DataError(f"cannot read {path}: {type(error).__name__}: damaged or truncated; fetch it again") from None
    sample = np.asarray(annotation.sample, dtype=np.int64)
    if len(sample) and (sample.max() >= length or sample.min() < 0):
        raise DataError(
            f"{path}: an annotation lies beyond the {length} samples of the signal: the two files "
            "do not belong together"
        )
    if (np.diff(sample) < 0).any():
        raise DataError(f"{path}: the annotations are not in the order of time; sort them or fetch the file again")
    return sample, np.asarray(annotation.symbol, dtype=np.str_)


def _short_file(folder: Path, name: str, signals: list[Path]) -> str:
    """Return what is wrong if the one signal file of the header is shorter than the header says, else ""."""
    try:
        header = wfdb.rdheader(str(folder / name))
        width = {"16": 2.0, "212": 1.5, "80": 1.0, "61": 2.0, "160": 2.0}[str(header.fmt[0])]
        want = int(header.sig_len * header.n_sig * width)
    except Exception:
        return ""
    if len(signals) != 1:
        return ""
    have = signals[0].stat().st_size
    return f"{signals[0].name} is truncated, {have} of {want} bytes" if have < want else ""
