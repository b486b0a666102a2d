"""One WFDB recording: the ECG leads of `NAME.hea` and its signal files, in mV, and the beats of `NAME.atr`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.ecg.annotations import Annotations, read_annotations
from sites.ecg.headers import NO_FILE, Header, read_header
from sites.ecg.signals import read_channels

_PACKED = re.compile(r"[^.].*\.hea\.(?:gz|zip|bz2|xz)")
MIN_RATE = 50.0
"""Hz; a QRS complex of 0.1 s is not to be seen at a lower sampling rate."""
MAX_MILLIVOLTS, MIN_MILLIVOLTS = 50.0, 0.02
"""Of the movement of an ECG in a second; more, or less, is another unit. Of 6,075 leads of public recordings (PTB-XL,
PTB, MIT-BIH) the least moves by 0.14 mV in its largest seconds, and the most by 7.6 mV in half of all."""


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
        note: the text of each annotation, "" for none.
    """

    name: str
    rate: float
    leads: tuple[str, ...]
    signal: npt.NDArray[np.float32]
    sample: npt.NDArray[np.int64]
    symbol: npt.NDArray[np.str_]
    comments: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    note: tuple[str, ...] = ()

    def take_leads(self, columns: Sequence[int]) -> Recording:
        """Return the recording with some of its leads, in that order."""
        return replace(self, leads=tuple(self.leads[i] for i in columns), signal=self.signal[:, list(columns)])


def recording_names(folder: Path) -> tuple[str, ...]:
    """Return the recordings of a folder: those that RECORDS lists, or else every `.hea` file, sorted.

    RECORDS may list recordings in other folders, and folders whose recordings are then taken. A segment of a record
    that is made of several is no recording.

    Raises:
        DataError: the folder does not exist or holds no recording; RECORDS is no text, or names a recording twice,
            one that is missing, or one outside of the folder.
    """
    names = _all_names(folder)
    listing = folder / "RECORDS"
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{listing} names {twice[0]} twice: every recording counts once")
    for name in names:
        if not (folder / f"{name}.hea").is_file():
            if listing.is_file():
                raise DataError(f"{listing} names {name}, but {name}.hea is not in {folder}")
            read_header(folder / f"{name}.hea")
    return names


def listed_names(folder: Path) -> tuple[str, ...]:
    """Return the recordings of a folder as `recording_names` does, each once, and those that only RECORDS lists."""
    return tuple(dict.fromkeys(_all_names(folder)))


def _all_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the recordings (.hea, .dat, .atr)")
    listing = folder / "RECORDS"
    names = _expand_listing(folder, listing) if listing.is_file() else _headers_in(folder)
    if not names:
        raise DataError(f"no recordings in {folder}: it holds no .hea file")
    return names


def read_listing(listing: Path) -> tuple[str, ...]:
    """Return what a RECORDS file names, each with `/` between folders; a name that ends in `/` is a folder.

    Raises:
        DataError: it is no text, or names something outside of its folder.
    """
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{listing} is not a list of recordings, one name a line: fetch it again") from None
    names = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        path = PurePosixPath(line.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise DataError(f"{listing} names {line[:60]!r}, which is not below {listing.parent}: correct the list")
        name = path.as_posix().removesuffix(".hea")
        folder = line[-1] in "/\\" or not (listing.parent / f"{name}.hea").is_file()
        names.append(f"{name}/" if folder and (listing.parent / name).is_dir() else name)
    return tuple(names)


def _expand_listing(folder: Path, listing: Path) -> tuple[str, ...]:
    names: list[str] = []
    for name in read_listing(listing):
        names += [f"{name}{inner}" for inner in _all_names(folder / name)] if name.endswith("/") else [name]
    return tuple(names)


def _headers_in(folder: Path) -> tuple[str, ...]:
    """Return the recordings of the headers in a folder; a header in capitals too, which reading it then names."""
    names = sorted(p.stem for p in folder.iterdir() if p.suffix.lower() == ".hea" and not p.name.startswith("."))
    if packed := sorted(p.name for p in folder.iterdir() if _PACKED.fullmatch(p.name.lower())):
        raise DataError(f"{folder}: {len(packed)} headers are packed, such as {packed[0]}: unpack the recordings")
    segments: set[str] = set()
    for name in names:
        try:
            segments |= {segment.name for segment in read_header(folder / f"{name}.hea").segments}
        except DataError:
            continue  # named when it is read
    return tuple(name for name in dict.fromkeys(names) if name not in segments)


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
            files += _segment_files(header, segment.name)
    files += header.signal_files()
    if annotator is None:
        return tuple(files)
    beats = path.with_name(f"{path.stem}.{annotator}")
    if not beats.is_file():
        raise DataError(f"no beat annotations {beats} next to {path}")
    return (*files, beats)


def _segment_files(whole: Header, name: str) -> tuple[Path, ...]:
    """Return the files of one segment of a record.

    Raises:
        DataError: one is missing, or the segment is itself made of segments.
    """
    header = read_header(whole.path.with_name(f"{name}.hea"))
    if header.segments:
        raise DataError(f"{whole.path}: its segment {name} is itself made of segments: correct the header")
    return (header.path, *header.signal_files())


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
    if rate < MIN_RATE:
        raise DataError(f"{header.path}: {rate:g} Hz is too low a sampling rate for an ECG: leave the recording out")
    annotations = Annotations(np.zeros(0, np.int64), np.zeros(0, "<U1"))
    if annotator is not None:
        annotations = read_annotations(last, len(signal), rate, header.rate)
    return Recording(
        name,
        rate,
        leads,
        signal,
        annotations.sample,
        annotations.symbol,
        header.comments,
        annotations.dropped,
        annotations.note,
    )


def check_amplitudes(recording: Recording, path: Path) -> None:
    """Check that the leads of a recording can be in millivolts, as `check_millivolts` does."""
    check_millivolts(path, recording.rate, recording.leads, recording.signal)


def check_millivolts(path: Path, rate: float, leads: Sequence[str], signal: npt.NDArray[np.float32]) -> None:
    """Check that leads `(samples, leads)` can be in millivolts; a lead that does not move at all is not judged.

    Raises:
        DataError: in half of the seconds a lead moves by more than an ECG, or in nearly all by less.
    """
    width = round(rate)
    count = len(signal) // width
    for lead, values in zip(leads, signal.T, strict=True):
        seconds = values[: count * width].reshape(count, width)
        moved = np.ptp(seconds[np.isfinite(seconds).all(1)], axis=1)
        if not len(moved) or not moved.max() > 0:
            continue
        if np.median(moved) > MAX_MILLIVOLTS or np.quantile(moved, 0.95) < MIN_MILLIVOLTS:
            side = f"more than {MAX_MILLIVOLTS:g}" if np.median(moved) > 1 else f"less than {MIN_MILLIVOLTS:g}"
            raise DataError(f"{path}: lead {lead} moves by {side} mV in a second: correct its gain or its unit")


def _read_ecg(header: Header) -> tuple[float, tuple[str, ...], npt.NDArray[np.float32]]:
    """Return the sampling rate, the names and the signals of the ECG leads."""
    columns = header.ecg_columns()
    channels = [header.channels[i] for i in columns]
    rate = header.rate * channels[0].samples_per_frame
    return rate, tuple(channel.name for channel in channels), read_channels(header, columns)


def _read_segments(whole: Header) -> tuple[float, tuple[str, ...], npt.NDArray[np.float32]]:
    """Return the ECG leads of a record of segments; what a segment lacks is NaN."""
    if whole.samples != sum(segment.frames for segment in whole.segments):
        raise DataError(f"{whole.path}: its segments do not add up to its {whole.samples} samples: correct the header")
    pieces: list[tuple[int, tuple[str, ...], npt.NDArray[np.float32]]] = []
    rates: set[float] = set()
    frame = 0
    for segment in whole.segments:
        if segment.name != NO_FILE and segment.frames:
            header = read_header(whole.path.with_name(f"{segment.name}.hea"))
            if header.rate != whole.rate or header.samples != segment.frames:
                raise DataError(
                    f"{whole.path}: segment {segment.name} has {header.samples} samples at {header.rate:g} Hz, not "
                    f"{segment.frames} at {whole.rate:g} Hz: correct the headers"
                )
            if header.may_hold_ecg:
                rate, leads, signal = _read_ecg(header)
                if len(set(leads)) < len(leads):
                    raise DataError(f"{header.path} names a lead twice, so that segments cannot be joined: rename it")
                rates.add(rate)
                pieces.append((frame * round(rate / whole.rate), leads, signal))
        frame += segment.frames
    if len(rates) != 1:
        raise DataError(f"{whole.path}: its segments hold no ECG of one sampling rate; read the segments one by one")
    rate = rates.pop()
    names = tuple(dict.fromkeys(lead for _, leads, _ in pieces for lead in leads))
    joined = np.full((frame * round(rate / whole.rate), len(names)), np.nan, dtype=np.float32)
    for first, leads, signal in pieces:
        joined[first : first + len(signal), [names.index(lead) for lead in leads]] = signal
    return rate, names, joined
