"""Whether a signal can be used, second by second: what cannot be is said to be unusable, and no alarm rests on it.

Each lead is judged in windows of one second of raw samples, which start at whole seconds of the stream, so that the
size of packets changes nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sites.unlabelled.recordings import FLAT, MISSING, RAIL, RAIL_SECONDS

HUM, NOISE, LEAD_OFF = "mains hum", "noise", "lead off"
FLAT_MILLIVOLTS = 0.01
"""A lead that moves by less in a second is flat: an isoelectric line between beats of a second has more noise."""
OFF_MILLIVOLTS = 10.0
"""Mean beyond which an electrode has no contact: the offset leaves the amplifier's range."""
HUM_HZ, HUM_MILLIVOLTS = (50.0, 60.0), 0.25
"""Mains frequencies, and the amplitude at one of them above which no wave is to be trusted."""
NOISE_MILLIVOLTS = 0.15
"""Median size of the second difference over 16 ms: steep slopes of a clean ECG are in the QRS alone, a tenth of it."""


def judge_second(samples: npt.NDArray[np.floating], rate: float) -> tuple[str, ...]:
    """Return for each lead why it cannot be used, or "".

    Args:
        samples: one second, `(samples, leads)`, mV; NaN where missing.
        rate: sampling rate, Hz.
    """
    return tuple(_judge_lead(np.asarray(lead, dtype=np.float64), rate) for lead in samples.T)


def _judge_lead(lead: npt.NDArray[np.float64], rate: float) -> str:
    if not np.isfinite(lead).all():
        return MISSING
    span = float(np.ptp(lead))
    if abs(float(np.median(lead))) > OFF_MILLIVOLTS:
        return LEAD_OFF
    if span < FLAT_MILLIVOLTS:
        return FLAT
    if _is_saturated(lead, span, rate):
        return RAIL
    time = np.arange(len(lead)) / rate
    centred = lead - lead.mean()
    for frequency in HUM_HZ:
        if frequency < rate / 2:
            wave = np.exp(-2j * np.pi * frequency * time) * np.hanning(len(lead))
            if 4 * abs(wave @ centred) / len(lead) > HUM_MILLIVOLTS:
                return HUM
    step = max(1, round(0.016 * rate))
    bend = lead[2 * step :] - 2 * lead[step:-step] + lead[: -2 * step]
    return NOISE if float(np.median(np.abs(bend))) > NOISE_MILLIVOLTS else ""


def _is_saturated(lead: npt.NDArray[np.float64], span: float, rate: float) -> bool:
    """Return whether the lead keeps its largest or smallest value too long, far from its median, and jumps there."""
    starts = np.flatnonzero(np.concatenate([[True], lead[1:] != lead[:-1]]))
    length = np.diff(starts, append=len(lead))
    value = lead[starts]
    extreme = (value == lead.max()) | (value == lead.min())
    far = np.abs(value - np.median(lead)) > span / 4
    return bool((extreme & far & (length >= max(3, RAIL_SECONDS * rate)) & (span > 0.2)).any())


class QualityWatch:
    """Judges the seconds of one stream."""

    def __init__(self, rate: float, leads: int) -> None:
        self._rate = rate
        self._held = np.zeros((0, leads))
        self._second = 0
        self._start = 0

    def push(self, samples: npt.NDArray[np.floating]) -> list[tuple[int, tuple[str, ...]]]:
        """Take raw samples `(samples, leads)`, and return each complete second with what is wrong with each lead."""
        self._held = np.concatenate([self._held, samples])
        out: list[tuple[int, tuple[str, ...]]] = []
        while True:
            end = round((self._second + 1) * self._rate) - self._start
            if len(self._held) < end:
                return out
            out.append((self._second, judge_second(self._held[:end], self._rate)))
            self._held, self._start = self._held[end:], self._start + end
            self._second += 1
