"""R peaks of a lead as it arrives, after Elgendi 2013 (PLoS ONE 8(9):e73557), and the same whatever the packets.

As in `sites/ecg/r_peaks.py`, a QRS is where the moving average of the squared 8 to 20 Hz band over 97 ms exceeds that
over 611 ms by a share of the mean. What is not causal there is causal here: the filter has a fixed delay
(`sites/ecg/streaming/filtering.py`), and the mean is that of the last 10 s. Four rules are added:

- a block of less than 5 % of the median strength of the last 8 beats is noise or a P wave, unless 1.5 s passed: then of
  less than 1 %;
- so is one of less than 15 times the median energy of the last 9.6 s, if it has less than 25 % of that strength: what
  raises the energy between beats is noise, or a rhythm of wide waves, and those soon have the usual strength;
- within 360 ms of a beat, one of less than 10 % of its strength is its T wave (after Pan, Tompkins 1985, IEEE TBME
  32(3):230-236);
- of the first three blocks, those of less than 5 % of their median strength are no beats either: a stream often starts
  with a P wave. They wait for one another, 3 s at most.

Of two blocks within 240 ms the stronger is kept. Energies are whole numbers (0.1 uV squared), so that their running
sums are exact. A peak is known `DELAY_SECONDS` after it at the latest, one of the first three 3 s after the first.

Sensitivity and positive predictivity on the MIT-BIH Arrhythmia Database are in docs/how-to/monitor.md; all
settings were chosen on its records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sites.ecg.streaming.filtering import StreamingFilter, design_filter

RATE = 125.0
"""Sampling rate of the energies, Hz."""
BAND, HALF_SECONDS = (8.0, 20.0), 0.25
SHORT, LONG, OFFSET, MEAN = 12, 77, 0.16, 1250
"""Samples of both moving averages, the share of the mean, and the samples of the mean."""
MIN_WIDTH, REFRACTORY, T_WAVE, PAUSE = 12, 30, 45, 187
WEAK, WEAK_AFTER_PAUSE, WEAK_T = 0.05, 0.01, 0.10
NOISE, WEAK_IN_NOISE, FLOOR, MIN_FLOOR = 15, 0.25, 1200, 125
"""Multiple of the median energy, share of the usual strength, and samples of the median, at most and at least."""
REMEMBERED, LEARNED, LEARNING = 8, 3, 375
"""Beats whose strength is the usual one, those from which it is known, and samples that the first ones wait for it."""
MICROVOLTS = 1e4
"""Units of 0.1 uV in a mV."""
LARGEST = 2e6
"""Of a sample, in those units: larger ones (200 mV) are cut off, so that no sum overflows."""
DELAY_SECONDS = HALF_SECONDS + (LONG // 2 + 1 + REFRACTORY + 25) / RATE
"""Seconds after a peak until it is reported; a block is taken to last at most 25 samples after its peak."""

Energies = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Peak:
    """A QRS complex.

    Attributes:
        sample: its largest energy, in samples at RATE.
        start: where its block starts.
        end: where its block ends, exclusive.
        strength: its largest energy.
    """

    sample: int
    start: int
    end: int
    strength: int


class PeakFinder:
    """Finds QRS complexes in energies at RATE, block by block."""

    def __init__(self) -> None:
        self._energy: Energies = np.zeros(0, dtype=np.int64)
        self._first = 0  # the sample of the first energy held
        self._next = 0  # the next sample to decide
        self._open: int | None = None
        self._waiting: list[Peak] = []
        self._last: Peak | None = None
        self._strengths: list[int] = []
        self._learned = False

    def push(self, energy: Energies, last: bool = False) -> list[Peak]:
        """Take further energies, and return the peaks that nothing can change any more.

        Args:
            energy: whole numbers, `(samples,)`.
            last: whether the signal ends here.
        """
        self._energy = np.concatenate([self._energy, energy])
        end = self._first + len(self._energy)
        ready = end if last else end - (LONG - LONG // 2)
        if ready > self._next:
            self._decide(ready, end)
        if last and self._open is not None:
            self._close(self._open, end)
            self._open = None
        return self._release(ready, last)

    @property
    def certain(self) -> int:
        """The sample before which no further peak will be reported."""
        frontier = self._next if self._open is None else self._open
        return min([frontier - REFRACTORY, *(peak.sample for peak in self._waiting)])

    @property
    def earliest(self) -> int:
        """The first sample of a block that may still be reported."""
        starts = [peak.start for peak in self._waiting] + [self._next if self._open is None else self._open]
        return min(starts)

    def _decide(self, ready: int, end: int) -> None:
        """Find the edges of blocks between the next sample and `ready`."""
        sums = np.concatenate([[0], np.cumsum(self._energy)])
        at = np.arange(self._next, ready)

        def total(first: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            low, high = (np.clip(index, 0, end) - self._first for index in (first, after))
            return np.asarray(sums[high] - sums[np.maximum(low, 0)])

        short = total(at - SHORT // 2, at + SHORT - SHORT // 2)
        long = total(at - LONG // 2, at + LONG - LONG // 2)
        after = np.minimum(at + LONG // 2 + 1, end)
        mean = total(after - MEAN, after) / np.minimum(after, MEAN)
        raised = short / SHORT > long / LONG + OFFSET * mean
        before = self._open is not None
        edges = np.flatnonzero(np.diff(raised, prepend=before)) + self._next
        for edge in edges.tolist():
            if self._open is None:
                self._open = edge
            else:
                self._close(self._open, edge)
                self._open = None
        self._next = ready
        needed = ready + LONG // 2 + 1 - MEAN - 1
        if self._open is not None:
            needed = min(needed, self._open)
        if (drop := needed - self._first) > 0:
            self._energy, self._first = self._energy[drop:], needed

    def _close(self, start: int, end: int) -> None:
        """Judge a block, and compare it with the one before."""
        if end - start < MIN_WIDTH:
            return
        part = self._energy[start - self._first : end - self._first]
        peak = Peak(start + int(part.argmax()), start, end, int(part.max()))
        last = self._waiting[-1] if self._waiting else self._last
        if self._waiting and end >= self._waiting[0].sample + LEARNING:
            self._learned = True
        if len(self._strengths) >= LEARNED and last is not None:
            usual = float(np.median(self._strengths))
            gap = peak.sample - last.sample
            limit = WEAK_AFTER_PAUSE * usual
            if gap < PAUSE:
                limit = max(WEAK * usual, min(NOISE * self._measure_floor(end), WEAK_IN_NOISE * usual))
            if peak.strength < limit or (gap < T_WAVE and peak.strength < WEAK_T * last.strength):
                return
        if self._waiting and peak.sample - last.sample < REFRACTORY:  # type: ignore[union-attr]
            if peak.strength <= self._waiting[-1].strength:
                return
            self._waiting.pop()
            self._strengths.pop()
        self._waiting.append(peak)
        self._strengths = [*self._strengths[1 - REMEMBERED :], peak.strength]
        if not self._learned and len(self._strengths) >= LEARNED:
            self._judge_start()

    def _judge_start(self) -> None:
        """Drop the first beats that are too weak; the usual strength is known if none is."""
        limit = WEAK * float(np.median(self._strengths))
        self._waiting = [peak for peak in self._waiting if peak.strength >= limit]
        self._strengths = [peak.strength for peak in self._waiting]
        self._learned = len(self._strengths) >= LEARNED

    def _measure_floor(self, end: int) -> int:
        """Return the median energy before a sample; 0 if too little is known."""
        before = self._energy[max(0, end - FLOOR - self._first) : end - self._first]
        if len(before) < MIN_FLOOR:
            return 0
        middle = (len(before) - 1) // 2
        return int(np.partition(before, middle)[middle])

    def _release(self, ready: int, last: bool) -> list[Peak]:
        """Return the peaks that no later block can replace."""
        if self._waiting and not self._learned and not last:
            if ready < self._waiting[0].sample + LEARNING:
                return []
            self._learned = True
        frontier = ready if self._open is None else self._open
        count = len(self._waiting)
        while not last and count and self._waiting[count - 1].sample + REFRACTORY > frontier:
            count -= 1
        out, self._waiting = self._waiting[:count], self._waiting[count:]
        if out:
            self._last = out[-1]
        return out


def measure_energy(filtered: npt.NDArray[np.float64]) -> Energies:
    """Return the energy of a lead in the QRS band (mV) as whole numbers of 0.1 uV squared."""
    units = np.rint(np.clip(filtered * MICROVOLTS, -LARGEST, LARGEST)).astype(np.int64)
    return units * units


def detect_streaming(lead: npt.NDArray[np.floating], rate: float, chunk: int | None = None) -> list[Peak]:
    """Return the peaks of a whole lead, as if it had arrived in chunks.

    Args:
        lead: `(samples,)`, mV, finite.
        rate: sampling rate, Hz.
        chunk: samples of a chunk; default: all.
    """
    band_filter, finder = StreamingFilter(design_filter(rate, RATE, BAND, HALF_SECONDS)), PeakFinder()
    peaks: list[Peak] = []
    for start in range(0, len(lead), chunk or max(1, len(lead))):
        samples = lead[start : start + chunk if chunk else None, None]
        peaks += finder.push(measure_energy(band_filter.push(samples)[:, 0]))
    rest = band_filter.finish()
    return peaks + finder.push(measure_energy(rest[:, 0] if rest.size else np.zeros(0)), last=True)
