"""One WFDB recording: the ECG leads of `NAME.hea` and its signal files, in mV, and the beats of `NAME.atr`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.ecg.annotations import Annotations, read_annotations
from sites.ecg.headers import NO_FILE, Header, read_header
from sites.ecg.signals import read_channels


@dataclass(frozen=True)
class Recording:
    """The ECG leads of a recording with its annotations.

    Attributes:
        name: its name.
        rate: sampling rate (Hz).
        leads: names of the leads.
        signal: float32 `(samples, leads)` in mV; a missing sample is NaN.
        sample: int64 `(annotations,)`, in order of time.
        symbol: `(annotations,)`, WFDB's codes.
        comments: comment lines of the header.
        dropped: number of annotations that were not used, by reason.
    """

    name: str
    rate: float
    leads: tuple[str, ...]
    signal: npt.NDArray[np.float32]
    sample: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.str_]
    comments: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)


def recording_names(folder: Path) -> tuple[str, ...]:
    """Return the recordings of a folder: those that RECORDS lists, or else every `.hea` file, sorted.

    RECORDS may list recordings in other folders, and folders whose recordings are then taken. A segment of a record
    that is made of several is no recording.

    Raises:
        DataError: the folder does not exist or holds no recording; RECORDS is no text, or names a recording twice or
            one that is missing.
    """
    names = _all_names(folder)
    listing = folder / "RECORDS"
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{listing} names {twice[0]} twice: every recording counts once")
    for name in names:
        if not (folder / f"{name}.hea").is_file():
            raise DataError(f"{listing} names {name}, but {name}.hea is not in {folder}")
    return names


def listed_names(folder: Path) -> tuple[str, ...]:
    """Return the recordings of a folder as `recording_names` does, each once, and those that only RECORDS lists."""
    return tuple(dict.fromkeys(_all_names(folder)))


def _all_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the recordings (.hea, .dat, .atr)")
    listing = folder / "RECORDS"
    names = _read_listing(folder, listing) if listing.is_file() else _headers_in(folder)
    if not names:
        raise DataError(f"no recordings in {folder}: it holds no .hea file")
    return names


def _read_listing(folder: Path, listing: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{listing} is not a list of recordings, one name a line: fetch it again") from None
    names: list[str] = []
    for line in filter(None, lines):
        if line.endswith("/") and (folder / line).is_dir():
            names += [f"{line}{name}" for name in _all_names(folder / line)]
        else:
            names.append(line.rstrip("/"))
    return tuple(names)


def _headers_in(folder: Path) -> tuple[str, ...]:
    names = sorted(path.stem for path in folder.glob("*.hea") if not path.name.startswith("."))
    segments: set[str] = set()
    for name in names:
        try:
            segments |= {segment.name for segment in read_header(folder / f"{name}.hea").segments}
        except DataError:
            continue  # named when it is read
    return tuple(name for name in names if name not in segments)


def recording_files(folder: Path, name: str, annotator: str | None = "atr") -> tuple[Path, ...]:
    """Return the files of one recording: headers, signal files, and the annotations if an annotator is named.

    Raises:
        DataError: one of them is missing; the message names it and the file that refers to it.
    """
    path = folder / f"{name}.hea"
    header = read_header(path)
    files = [path]
    for segment in header.segments:
        if segment.name != NO_FILE:
            files += recording_files(path.parent, segment.name, None)
    files += header.signal_files()
    if annotator is None:
        return tuple(files)
    beats = path.with_name(f"{path.stem}.{annotator}")
    if not beats.is_file():
        raise DataError(f"no beat annotations {beats} next to {path}")
    return (*files, beats)


def read_recording(folder: Path, name: str, annotator: str | None = "atr") -> Recording:
    """Read the ECG leads of one recording, with an annotator's beats or with none.

    Raises:
        DataError: a file is missing, truncated or damaged, the recording holds no ECG, or the annotations belong to
            another signal.
    """
    *_, last = recording_files(folder, name, annotator)
    header = read_header(folder / f"{name}.hea")
    if header.segments:
        rate, leads, signal = _read_segments(header)
    else:
        rate, leads, signal = _read_ecg(header)
    annotations = Annotations(np.zeros(0, np.int64), np.zeros(0, "<U1"))
    if annotator is not None:
        annotations = read_annotations(last, len(signal), rate, header.rate)
    return Recording(
        name, rate, leads, signal, annotations.sample, annotations.symbol, header.comments, annotations.dropped
    )


def _read_ecg(header: Header) -> tuple[float, tuple[str, ...], npt.NDArray[np.float32]]:
    """Return the sampling rate, the names and the signals of the ECG leads."""
    columns = header.ecg_columns()
    channels = [header.channels[i] for i in columns]
    rate = header.rate * channels[0].samples_per_frame
    return rate, tuple(channel.name for channel in channels), read_channels(header, columns)


def _read_segments(header: Header) -> tuple[float, tuple[str, ...], npt.NDArray[np.float32]]:
    """Return the ECG leads of a record of segments; what a segment lacks is NaN."""
    pieces: list[tuple[int, tuple[str, ...], npt.NDArray[np.float32]]] = []
    rates: set[float] = set()
    frame = 0
    for segment in header.segments:
        if segment.name != NO_FILE and segment.frames:
            rate, leads, signal = _read_ecg(read_header(header.path.with_name(f"{segment.name}.hea")))
            per_frame = round(rate / header.rate)
            if len(signal) != segment.frames * per_frame:
                raise DataError(
                    f"{header.path}: segment {segment.name} has {len(signal)} samples, not {segment.frames * per_frame}"
                )
            rates.add(rate)
            pieces.append((frame * per_frame, leads, signal))
        frame += segment.frames
    if len(rates) != 1:
        raise DataError(f"{header.path}: its segments hold no ECG of one sampling rate; read the segments one by one")
    rate = rates.pop()
    names = tuple(dict.fromkeys(lead for _, leads, _ in pieces for lead in leads))
    whole = np.full((frame * round(rate / header.rate), len(names)), np.nan, dtype=np.float32)
    for first, leads, signal in pieces:
        whole[first : first + len(signal), [names.index(lead) for lead in leads]] = signal
    return rate, names, whole
