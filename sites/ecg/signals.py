"""The signals of a WFDB record in mV, with the checks that wfdb leaves to its caller.

Formats of samples that are numbers of whole bytes are read here, among them 16, that of most 12-lead databases, and 61,
which wfdb does not convert; every other format is read by wfdb. Each channel comes at its own sampling rate and aligned
in time (skew). A missing sample is NaN. Checksums are compared, so that a damaged file is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.ecg.headers import BYTES_PER_SAMPLE, Header

MISSING_VALUES = {
    "80": -(2**7), "508": -(2**7), "310": -(2**9), "311": -(2**9), "212": -(2**11),
    "24": -(2**23), "524": -(2**23), "32": -(2**31),
}  # fmt: skip
"""Converter value of a missing sample in a storage format (signal(5) of the WFDB manual); in others -(2**15)."""
WIDE_FORMATS = {"24", "32", "524"}
"""Formats whose samples do not fit 16 bits."""
PLAIN_FORMATS = {"16": ("<i2", 0), "61": (">i2", 0), "32": ("<i4", 0), "80": ("u1", 2**7), "160": ("<u2", 2**15)}
"""Formats whose samples are numbers of whole bytes: their type, and what is subtracted from them."""
FORMATS = (*BYTES_PER_SAMPLE, "508", "516", "524")

Signals = npt.NDArray[np.float32]


def read_leads(header: Header, wanted: Sequence[str]) -> Signals:
    """Return the wanted leads in mV, `(samples, leads)`; a missing sample is NaN.

    Only the files of the wanted leads are opened: PTB's Frank leads are in a file of their own, which a copy may lack.

    Raises:
        DataError: a lead or file is missing, a signal file is truncated or damaged, or the leads have several rates.
    """
    header.signal_files(wanted)
    return read_channels(header, header.columns(wanted))


def read_channels(header: Header, columns: Sequence[int]) -> Signals:
    """Return voltages of one sampling rate in mV, `(samples, channels)`; a missing sample is NaN.

    Raises:
        DataError: a signal file is truncated or damaged, or the channels have several sampling rates.
    """
    channels = [header.channels[i] for i in columns]
    if len({channel.samples_per_frame for channel in channels}) > 1:
        names = ", ".join(f"{c.name} at {header.rate * c.samples_per_frame:g} Hz" for c in channels)
        raise DataError(f"{header.path}: leads of several sampling rates are not read together: {names}")
    values = np.stack(_read_digital(header, columns), axis=1)
    if not len(values):
        raise DataError(f"{header.path} holds no signal")
    for fault in _checksum_faults(header, columns, values.T):
        raise DataError(f"{header.path}: {fault}: the file is damaged; fetch it again")
    units = np.asarray([channel.millivolts for channel in channels], dtype=np.float64)
    wide = WIDE_FORMATS & {channel.format for channel in channels}
    kind: type[np.floating[Any]] = np.float64 if wide else np.float32
    gain = (np.asarray([channel.gain for channel in channels]) / units).astype(kind)
    baseline = np.asarray([channel.baseline for channel in channels], dtype=kind)
    signal: npt.NDArray[np.floating[Any]] = (values.astype(kind) - baseline) / gain
    missing = values == np.asarray([MISSING_VALUES.get(channel.format, -(2**15)) for channel in channels])
    if missing.any():
        signal[missing] = np.nan
    for lead, channel in enumerate(channels):
        if shift := channel.skew * channel.samples_per_frame:
            signal[:-shift, lead] = signal[shift:, lead].copy()
            signal[-shift:, lead] = np.nan
    return np.asarray(signal, dtype=np.float32)


def find_faults(header: Header) -> Iterator[str]:
    """Yield the checksums of a record's channels that do not fit its signal files.

    Raises:
        DataError: a signal file is truncated or damaged.
    """
    columns = range(len(header.channels))
    yield from _checksum_faults(header, columns, _read_digital(header, columns))


def find_longer_files(header: Header) -> Iterator[str]:
    """Yield the signal files that are longer than their header states, by more than a frame and some filling bytes."""
    for path in header.signal_files():
        own = [channel for channel in header.channels if channel.file == path.name]
        width = BYTES_PER_SAMPLE.get(own[0].format)
        if width is None or not header.samples:
            continue
        frame = sum(channel.samples_per_frame for channel in own) * width
        expected, size = int(header.samples * frame) + own[0].byte_offset, path.stat().st_size
        if size > expected + max(frame, 8):
            yield f"{path.name} is longer than it states, {size} of {expected} bytes"


def _checksum_faults(header: Header, columns: Sequence[int], values: Iterable[npt.NDArray[Any]]) -> Iterator[str]:
    if not header.has_checksums:
        return
    for column, samples in zip(columns, values, strict=True):
        channel = header.channels[column]
        if channel.checksum is not None and channel.checksum & 0xFFFF != int(samples.sum(dtype=np.int64)) & 0xFFFF:
            yield f"the checksum of lead {channel.name} does not fit {channel.file}"


def _read_digital(header: Header, columns: Sequence[int]) -> list[npt.NDArray[Any]]:
    """Return the converter values of channels, each `(samples,)` at its own sampling rate and not shifted by skew."""
    for channel in (header.channels[i] for i in columns):
        if channel.format not in FORMATS:
            raise DataError(
                f"{header.path}: {channel.name} is stored in format {channel.format}, which is none of "
                f"{', '.join(FORMATS)}: convert the recording"
            )
    for file in {header.channels[i].file for i in columns}:
        own = [channel for channel in header.channels if channel.file == file]
        if len({channel.format for channel in own}) > 1 or any(
            channel.byte_offset not in (0, own[0].byte_offset) for channel in own
        ):
            raise DataError(
                f"{header.path}: signals of {file} have several formats or byte offsets: correct the header"
            )
    plain = [i for i in columns if header.channels[i].format in PLAIN_FORMATS]
    others = [i for i in columns if header.channels[i].format not in PLAIN_FORMATS]
    values = dict(zip(plain, _read_plain(header, plain), strict=True))
    if others:
        values |= zip(others, _read_with_wfdb(header, others), strict=True)
    return [values[i] for i in columns]


def _read_plain(header: Header, columns: Sequence[int]) -> list[npt.NDArray[Any]]:
    """Return the converter values of channels whose samples are numbers of whole bytes."""
    frames: dict[str, npt.NDArray[Any]] = {}
    digital = []
    for column in columns:
        channel = header.channels[column]
        own = [i for i, other in enumerate(header.channels) if other.file == channel.file]
        widths = [header.channels[i].samples_per_frame for i in own]
        kind, middle = PLAIN_FORMATS[channel.format]
        if channel.file not in frames:
            path = header.path.parent / channel.file
            expected = header.samples * sum(widths)
            values = np.fromfile(path, dtype=kind, count=expected, offset=header.channels[own[0]].byte_offset)
            if len(values) < expected:
                raise _damaged(header, _truncation(header, path) or f"{path.name} is truncated")
            frames[channel.file] = values.reshape(header.samples, sum(widths))
        first = sum(widths[: own.index(column)])
        samples = frames[channel.file][:, first : first + channel.samples_per_frame].ravel()
        digital.append(samples.astype(np.int32) - middle if middle else samples)
    return digital


def _read_with_wfdb(header: Header, columns: Sequence[int]) -> list[npt.NDArray[Any]]:
    """Return the converter values of channels of any format."""
    import wfdb  # with pandas, which a process that holds prepared data does not need

    formats = {header.channels[i].format for i in columns}
    try:
        record = wfdb.rdrecord(
            str(header.path.with_suffix("")),
            channels=list(columns),
            physical=False,
            smooth_frames=False,
            ignore_skew=True,
            return_res=64 if "8" in formats else 32 if WIDE_FORMATS & formats else 16,
        )
        return list(record.e_d_signal)
    except Exception as error:
        truncation = "".join(_truncation(header, path) for path in header.signal_files())
        raise _damaged(header, truncation or f"{type(error).__name__}: damaged or truncated") from None


def _damaged(header: Header, reason: str) -> DataError:
    return DataError(f"cannot read the signal of {header.path}: {reason}; fetch the file again")


def _truncation(header: Header, path: Path) -> str:
    """Return how much shorter a signal file is than its header states, in words; "" if it is not."""
    own = [channel for channel in header.channels if channel.file == path.name]
    width = BYTES_PER_SAMPLE.get(own[0].format)
    if width is None:
        return ""
    expected = int(header.samples * sum(channel.samples_per_frame for channel in own) * width) + own[0].byte_offset
    size = path.stat().st_size
    return f"{path.name} is truncated, {size} of {expected} bytes" if size < expected else ""
