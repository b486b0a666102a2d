"""WFDB headers, as wfdb's grammar reads them, with checks that it leaves to its caller.

wfdb's patterns (`wfdb.io.header`) split the lines; `wfdb.rdheader` itself is not used, because it drops every byte that
is not ASCII (a microvolt then reads as a volt), reads no further than it understands, and takes 3 ms a header, which
for PTB-XL is a minute. A field that is not understood is named in the error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import DataError
from sites.ecg.leads import VOLTS, lead_name, millivolts_per_unit, names_ecg, names_other_signal

DEFAULT_RATE, DEFAULT_GAIN = 250.0, 200.0
"""Hz and converter units per physical unit where a header gives none (header(5) of the WFDB manual)."""

BYTES_PER_SAMPLE = {
    "8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0, "212": 1.5, "310": 4 / 3, "311": 4 / 3,
}  # fmt: skip
"""Of the storage formats whose samples are of one length."""
_GAIN = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:\(-?\d+\))?")
LARGEST = 1e30
"""Converter units per physical unit; a larger gain makes every sample 0, and one below its inverse, infinite."""
NUMBERED = re.compile(r"lead \d+", re.IGNORECASE)
"""Name of a channel that has none, or no other."""
NO_FILE = "~"
"""File name of a signal, and name of a segment, that has no samples."""


@dataclass(frozen=True)
class Channel:
    """One signal line of a header.

    Attributes:
        name: the lead in its usual spelling, another name as it is written, or "lead 1" and on without a name.
        file: name of the signal file.
        format: storage format.
        samples_per_frame: samples of this channel in a frame.
        skew: frames by which the channel was sampled late.
        byte_offset: bytes of the signal file before the first frame.
        gain: converter units per physical unit.
        baseline: converter value of 0 physical units.
        unit: physical unit.
        initial: first converter value, if given.
        checksum: sum of all converter values modulo 65,536, if given.
    """

    name: str
    file: str
    format: str
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    baseline: int
    unit: str
    initial: int | None
    checksum: int | None

    @property
    def millivolts(self) -> float | None:
        """Millivolts per physical unit; None: the channel is not a voltage."""
        return millivolts_per_unit(self.unit)

    def __str__(self) -> str:
        """Return name and unit, for messages."""
        return f"{self.name} in {self.unit}"


@dataclass(frozen=True)
class Segment:
    """One segment of a record that is made of several.

    Attributes:
        name: the segment's record, or NO_FILE for a gap.
        frames: its length in frames; 0 for the header that lists the channels.
    """

    name: str
    frames: int


@dataclass(frozen=True)
class Header:
    """A header file.

    Attributes:
        path: the file.
        rate: frames per second (Hz).
        samples: length in frames; 0 if it is neither given nor known from the signal files.
        channels: its channels; none in a record of segments.
        segments: its segments; none in an ordinary record.
        comments: comment lines without `#`.
    """

    path: Path
    rate: float
    samples: int
    channels: tuple[Channel, ...]
    segments: tuple[Segment, ...]
    comments: tuple[str, ...]

    @property
    def may_hold_ecg(self) -> bool:
        """Whether a channel is named as an ECG, or is a voltage that is not named after another signal."""
        return any(
            names_ecg(channel.name) or (channel.millivolts is not None and not names_other_signal(channel.name))
            for channel in self.channels
        )

    @property
    def leads(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(channel.name for channel in self.channels)

    def columns(self, wanted: Sequence[str]) -> list[int]:
        """Return the indices of the wanted leads.

        Raises:
            DataError: the recording has no such lead, two of them, or not as a voltage.
        """
        for lead in wanted:
            if (count := self.leads.count(lead)) != 1:
                problem = f"names the lead {lead} {count} times" if count else f"has no lead {lead}"
                raise DataError(f"{self.path} {problem}: leave the recording out, or ask for other leads")
        columns = [self.leads.index(lead) for lead in wanted]
        self._require_voltages([self.channels[i] for i in columns])
        return columns

    def ecg_columns(self) -> list[int]:
        """Return the indices of the channels that are ECG leads.

        Those are voltages that have no name, or that of a lead or an ECG; where there is none, all voltages that are
        not named after another signal.

        Raises:
            DataError: there is none, or a lead of an ECG is given in a unit that is no voltage.
        """
        self._require_voltages([channel for channel in self.channels if names_ecg(channel.name)])
        voltages = [i for i, c in enumerate(self.channels) if c.millivolts is not None]
        columns = [i for i in voltages if names_ecg(name := self.channels[i].name) or NUMBERED.fullmatch(name)]
        columns = columns or [i for i in voltages if not names_other_signal(self.channels[i].name)]
        if not columns:
            channels = ", ".join(map(str, self.channels))
            raise DataError(f"{self.path} holds no ECG, which is in {VOLTS}: its channels are {channels}")
        return columns

    def signal_files(self, wanted: Sequence[str] | None = None) -> list[Path]:
        """Return the files that hold the wanted leads, by default all.

        Raises:
            DataError: one of them is missing.
        """
        columns = range(len(self.channels)) if wanted is None else self.columns(wanted)
        names = dict.fromkeys(self.channels[i].file for i in columns)
        files = [self.path.parent / name for name in names if name != NO_FILE]
        for file in files:
            if not file.is_file():
                raise DataError(f"{self.path} names the signal file {file.name}, which is not in {file.parent}")
        return files

    @property
    def has_checksums(self) -> bool:
        """Whether the checksums are to be compared: a header whose checksums and first values are all 0 gives none."""
        return any(channel.checksum or channel.initial for channel in self.channels)

    def _require_voltages(self, channels: Sequence[Channel]) -> None:
        wrong = [str(channel) for channel in channels if channel.millivolts is None]
        if wrong:
            raise DataError(
                f"{self.path}: {', '.join(wrong)}: the unit of an ECG lead must be {VOLTS}; correct the header"
            )


def read_header(path: Path) -> Header:
    """Read a header file.

    Raises:
        DataError: it does not exist, or something in it is not understood.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError):
        raise DataError(_describe_absence(path)) from None
    from wfdb.io.header import parse_header_content, rx_record  # with pandas; who holds prepared data reads no header

    lines, comments = parse_header_content(_decode(content))
    if not lines:
        raise DataError(f"{path} is empty: fetch it again")
    match = rx_record.match(lines[0])
    if match is None:
        raise _error(
            path, lines[0], "the first line must be a name of letters, digits, - and _, and a number of signals"
        )
    rest = lines[0][match.end("n_sig") if not match["fs"] else match.end("sig_len") :]
    if re.match(r"\s*\S" if not match["fs"] else r"\S", rest):
        raise _error(path, rest.split()[0], "expected a sampling frequency and a length")
    rate = _number(path, match["fs"], DEFAULT_RATE)
    if not 0 < rate < float("inf"):
        raise DataError(f"{path} gives a sampling frequency of {rate:g} Hz: correct the header")
    described, expected = lines[1:], int(match["n_seg"] or match["n_sig"])
    what = "segments" if match["n_seg"] else "signals"
    if len(described) != expected or not expected:
        raise DataError(f"{path} announces {expected} {what}, but describes {len(described)}: fetch it again")
    samples = int(match["sig_len"] or 0)
    texts = tuple(line.strip(" \t#") for line in comments)
    if match["n_seg"]:
        segments = tuple(_read_segment(path, line) for line in described)
        return Header(path, rate, samples or sum(s.frames for s in segments), (), segments, texts)
    channels = tuple(_read_channel(path, line, number) for number, line in enumerate(described, 1))
    return Header(path, rate, samples or _frames_in_file(path, channels), channels, (), texts)


def _describe_absence(path: Path) -> str:
    try:
        alike = [other.name for other in path.parent.iterdir() if other.name.lower() == path.name.lower()]
    except (OSError, ValueError):
        alike = []
    if path.is_dir():
        return f"{path} is a folder, not a header: remove it, or rename it"
    if alike:
        return f"{path.parent}: {alike[0]} must be called {path.name}, in this spelling: rename it"
    return f"no header {path}: fetch the recording again, or take it from the list"


def _decode(content: bytes) -> str:
    content = content.removesuffix(b"\x1a")  # the end of a text file in DOS
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _read_segment(path: Path, line: str) -> Segment:
    from wfdb.io.header import rx_segment

    match = rx_segment.fullmatch(line)
    if match is None:
        raise _error(path, line, "expected the name and the length of a segment")
    return Segment(match["seg_name"], int(match["seg_len"]))


def _read_channel(path: Path, line: str, number: int) -> Channel:
    fields = line.split(None, 8)
    unit = ""
    if len(fields) > 2:  # cut out first: the pattern ends a unit at a character that it does not know
        gain, _, unit = fields[2].partition("/")
        fields[2] = gain.lower()  # the pattern knows an exponent as e alone
    from wfdb.io.header import rx_signal

    match = rx_signal.match(" ".join(fields))
    if match is None:
        raise _error(path, line, "expected a file name of letters, digits, - and _ with one dot, and a format")
    if match.end("byte_offset") != len(" ".join(fields[:2])):
        raise _error(path, fields[1], "expected a format such as 16, 212 or 16x4:5+24")
    if len(fields) > 2:
        size = abs(_number(path, match["adc_gain"], 1.0)) if _GAIN.fullmatch(fields[2]) else LARGEST
        if not 1 / LARGEST < (size or 1.0) < LARGEST:
            raise _error(path, fields[2], "expected a gain such as 200 or 200(0)")
    for text in fields[3 : 8 if len(fields) == 9 else 7]:
        if not text.removeprefix("-").isdecimal():
            raise _error(path, text, "expected a whole number")
    return Channel(
        name=lead_name(match["sig_name"]) or match["sig_name"] or f"lead {number}",
        file=match["file_name"],
        format=match["fmt"],
        samples_per_frame=int(match["samps_per_frame"] or 1),
        skew=int(match["skew"] or 0),
        byte_offset=int(match["byte_offset"] or 0),
        gain=_number(path, match["adc_gain"], DEFAULT_GAIN) or DEFAULT_GAIN,
        baseline=int(match["baseline"] or match["adc_zero"] or 0),
        unit=unit or "mV",
        initial=int(match["init_value"]) if match["init_value"] else None,
        checksum=int(match["checksum"]) if match["checksum"] else None,
    )


def _frames_in_file(path: Path, channels: Sequence[Channel]) -> int:
    """Return the frames of the first signal file, 0 if its format does not determine them."""
    first = channels[0]
    try:
        size = (path.parent / first.file).stat().st_size - first.byte_offset
    except OSError:
        return 0
    samples = sum(channel.samples_per_frame for channel in channels if channel.file == first.file)
    width = BYTES_PER_SAMPLE.get(first.format)
    return 0 if width is None else int(size / (width * samples) + 1e-9)


def _number(path: Path, text: str, default: float) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        raise _error(path, text, "expected a number") from None


def _error(path: Path, text: str, expected: str) -> DataError:
    return DataError(f"{path}: {text[:60]!r} is not understood: {expected}; correct the header")
