"""A writer of small WFDB records whose headers and annotations differ from the plain case in one respect.

The signal is a sum of Gaussians at known times, so that beats, seconds and millivolts of a reading can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import wfdb

Digital = npt.NDArray[np.int64]

RATE, SECONDS, GAIN = 250, 20, 200
SAMPLES = RATE * SECONDS
BEATS = np.arange(150, SAMPLES - 150, 205)
"""R peaks, in samples at 250 Hz."""
HEIGHT = 1.2
"""mV, of the R peak in the first lead; in the second half of it."""


def _pulses(height: float, width: float, delay: int = 0) -> npt.NDArray[np.float64]:
    time = np.arange(SAMPLES)[:, None]
    return np.asarray(height * np.exp(-0.5 * ((time - BEATS - delay) / width) ** 2).sum(1))


def ecg() -> Digital:
    """Return an ECG as converter values of 200 per mV."""
    noise = 0.01 * np.random.default_rng(5).standard_normal(SAMPLES)
    return np.rint(GAIN * (_pulses(HEIGHT, 3) + _pulses(-0.2, 3, 8) + _pulses(0.25, 12, 65) + noise)).astype(np.int64)


def pressure() -> Digital:
    """Return an arterial pressure as converter values of 10 per mmHg, 80 mmHg subtracted."""
    return np.rint(10 * _pulses(45, 20, 60)).astype(np.int64)


@dataclass
class Channel:
    """One signal line of a header and its samples; `checksum`: None for the right one, "" to end before it."""

    values: Digital
    name: str = "II"
    unit: str = "mV"
    gain: str = "200"
    form: str = "16"
    checksum: int | str | None = None
    initial: int | None = None
    file: str | None = None

    def line(self, file: str) -> str:
        start = f"{self.file or file} {self.form} {self.gain}/{self.unit}"
        if self.checksum == "":
            return start
        total = int(self.values.sum()) & 0xFFFF if self.checksum is None else self.checksum
        first = int(self.values[0]) if self.initial is None else self.initial
        return f"{start} 16 0 {first} {total} 0 {self.name}"


@dataclass
class OddRecord:
    """A record in a folder: two leads, II and V5 of half its height, and beats N at BEATS, unless told otherwise."""

    folder: Path
    name: str = "r"
    channels: list[Channel] = field(default_factory=lambda: [Channel(ecg()), Channel(ecg() // 2, "V5")])
    first: str | None = None
    lines: Sequence[str] | None = None
    comments: Sequence[str] = ()
    encoding: str = "utf-8"
    end: str = "\n"
    data: npt.NDArray[Any] | None = None
    """Values of the signal file; else the channels side by side."""

    def write(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        data = np.stack([channel.values for channel in self.channels], 1) if self.data is None else self.data
        np.ascontiguousarray(data.astype("<i2")).tofile(self.folder / f"{self.name}.dat")
        first = self.first or f"{self.name} {len(self.channels)} {RATE} {len(self.channels[0].values)}"
        signals = self.lines or [channel.line(f"{self.name}.dat") for channel in self.channels]
        text = "".join(f"{line}{self.end}" for line in (first, *signals, *self.comments))
        (self.folder / f"{self.name}.hea").write_bytes(text.encode(self.encoding))
        return self.folder

    def annotate(
        self, sample: Sequence[int] | npt.NDArray[Any] = BEATS, symbol: Sequence[str] | None = None, **more: Any
    ) -> Path:
        wfdb.wrann(
            self.name,
            "atr",
            np.asarray(sample, dtype=np.int64),
            list(symbol or ["N"] * len(sample)),
            write_dir=str(self.folder),
            **more,
        )
        return self.folder
