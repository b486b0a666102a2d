"""Whether a signal can be used, second by second: what cannot be is said to be unusable, and no alarm rests on it.

Each lead is judged in windows of one second of raw samples, which start at whole seconds of the stream, so that the
size of packets changes nothing.
"""

from __future__ import annotations

from functools import lru_cache

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
NOISE_MILLIVOLTS = 0.5
"""Median size of the fourth difference over 16 ms, which amplifies white noise by the square root of 70, and waves of
10 Hz and less by 0.9 at most: steep slopes of a clean ECG are in the QRS alone, and tall wide beats that follow one
another without a pause, as in a ventricular run, are no noise."""


def judge_second(samples: npt.NDArray[np.floating], rate: float) -> tuple[str, ...]:
    """Return for each lead why it cannot be used, or "".

    Args:
        samples: one second, `(samples, leads)`, mV; NaN where missing.
        rate: sampling rate, Hz.
    """
    values = np.asarray(samples, dtype=np.float64)
    known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=0))
    values = np.where(known, values, 0.0)
    span, middle = np.ptp(values, axis=0), np.abs(np.median(values, axis=0))
    railed = _may_be_saturated(values, rate)
    hum = np.abs(_mains_waves(len(values), rate) @ (values - values.mean(axis=0)))
    humming = (4 * hum / len(values) > HUM_MILLIVOLTS).any(axis=0)
    step = max(1, round(0.016 * rate))
    noisy = np.median(np.abs(_difference(_difference(values, step), step)), axis=0) > NOISE_MILLIVOLTS
    out = []
    for i in range(values.shape[1]):
        faults = (
            (MISSING, not known[i]),
            (LEAD_OFF, middle[i] > OFF_MILLIVOLTS),
            (FLAT, span[i] < FLAT_MILLIVOLTS),
            (RAIL, railed[i] and _is_saturated(values[:, i], float(span[i]), rate)),
            (HUM, humming[i]),
            (NOISE, noisy[i]),
        )
        out.append(next((name for name, present in faults if present), ""))
    return tuple(out)


def _difference(values: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
    """Return the second difference over `step` samples."""
    return values[2 * step :] - 2 * values[step:-step] + values[: -2 * step]


@lru_cache(maxsize=32)
def _mains_waves(count: int, rate: float) -> npt.NDArray[np.complex128]:
    """Return the tapered waves `(frequencies, samples)` of the mains frequencies that a rate can show."""
    time = np.arange(count) / rate
    frequencies = np.asarray([frequency for frequency in HUM_HZ if frequency < rate / 2])
    angle = -2 * np.pi * frequencies[:, None] * time
    return np.asarray((np.cos(angle) + 1j * np.sin(angle)) * np.hanning(count), dtype=np.complex128)


def _may_be_saturated(values: npt.NDArray[np.float64], rate: float) -> npt.NDArray[np.bool_]:
    """Return for each lead whether it has its largest or smallest value often enough for a run of it."""
    most = np.maximum((values == values.max(axis=0)).sum(axis=0), (values == values.min(axis=0)).sum(axis=0))
    return np.asarray(most >= max(3, RAIL_SECONDS * rate))


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
