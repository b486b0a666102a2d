"""The beats of a patient as the samples arrive, and the inputs of a model for many patients' beats at once.

A beat is ready when its window has passed the filter and the next beat is known, or did not come for
`context.MAX_NEXT` seconds: about a second and a half after its R peak. Gaps are the caller's: it fills them, and marks
the beats that they touch.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sites.ecg import beats, features
from sites.ecg.streaming import context
from sites.ecg.streaming.context import Context, Floats
from sites.ecg.streaming.filtering import StreamingFilter, design_filter
from sites.ecg.streaming.r_peaks import BAND, HALF_SECONDS, Peak, PeakFinder, measure_energy
from sites.ecg.streaming.whole import WAVE_BAND, WAVE_HALF_SECONDS, CausalBeats, locate_r


@dataclass
class _Waves:
    """Measures of a patient's waves: those of the last beats, and the spread that new ones are compared with."""

    values: list[Floats] = field(default_factory=list)
    first: int = 0
    number: int = -1
    spread: tuple[Floats, Floats] = field(default_factory=lambda: (np.zeros(0, np.float32), np.zeros(0, np.float32)))


@dataclass(frozen=True)
class StreamedBeat:
    """A beat that is ready to be scored.

    Attributes:
        number: number of the beat in its stream, from 0.
        seconds: its R peak, since the start of the stream.
        window: `(leads, samples)`, mV.
        rr: its RR features.
        rate: beats a minute, from the RR interval before it; NaN for the first.
        irregular: whether the rhythm before it is irregular.
        context: what it is compared with.
        made_after: after how many beats that was made.
        waves: measures of the patient's waves.
    """

    number: int
    seconds: float
    window: Floats
    rr: list[float]
    rate: float
    irregular: bool
    context: Context
    made_after: int
    waves: _Waves


class BeatStream:
    """Turns one patient's samples into beats."""

    def __init__(self, rate: float, leads: int) -> None:
        """Prepare a stream of `leads` leads at `rate` Hz; R peaks are sought in the first lead."""
        self._wave_filter = StreamingFilter(design_filter(rate, beats.RATE, WAVE_BAND, WAVE_HALF_SECONDS))
        self._peak_filter = StreamingFilter(design_filter(rate, beats.RATE, BAND, HALF_SECONDS))
        self._finder = PeakFinder()
        self._wave = np.zeros((0, leads))
        self._first = 0
        self._peaks: list[Peak] = []
        self._times = array("d")
        self._before = 0  # beats that left `_times`
        self._cut = 0  # beats whose window was cut
        self._windows: list[Floats] = []
        self._ready: list[StreamedBeat] = []
        self._held: list[tuple[int, float, Floats, list[float], float, bool]] = []
        self._context: Context | None = None
        self._made_after = 0
        self._waves = _Waves()

    @property
    def wave(self) -> tuple[int, npt.NDArray[np.float64]]:
        """The filtered samples that are held, `(samples, leads)` at 125 Hz, and the number of the first."""
        return self._first, self._wave

    @property
    def certain(self) -> float:
        """Seconds up to which every beat is known."""
        return self._finder.certain / beats.RATE

    @property
    def latest(self) -> float | None:
        """Seconds of the last R peak that was detected, scored or not."""
        return self._times[-1] if self._times else None

    def push(self, samples: npt.NDArray[np.floating]) -> list[StreamedBeat]:
        """Take samples `(samples, leads)` in mV, finite, and return the beats that are ready."""
        wave = self._wave_filter.push(samples)
        energy = measure_energy(self._peak_filter.push(samples[:, :1])[:, 0])
        return self._advance(wave, energy, last=False)

    def finish(self) -> list[StreamedBeat]:
        """Return the beats that were waiting for further samples: there are none."""
        wave, energy = self._wave_filter.finish(), self._peak_filter.finish()
        if not wave.size:
            return []
        return self._advance(wave, measure_energy(energy[:, 0]), last=True)

    def _advance(self, wave: npt.NDArray[np.float64], energy: npt.NDArray[np.int64], last: bool) -> list[StreamedBeat]:
        self._wave = np.concatenate([self._wave, wave]) if len(self._wave) else wave
        self._peaks += self._finder.push(energy, last)
        end = self._first + len(self._wave)
        while self._peaks and (self._peaks[0].end < end or last):
            self._times.append(locate_r(self._wave[:, 0], self._peaks.pop(0), self._first)[1])
        certain = (self._peaks[0].start if self._peaks else self._finder.certain) / beats.RATE
        while self._cut < self._before + len(self._times):
            at = self._cut - self._before
            time = self._times[at]
            known = at + 1 < len(self._times)
            if not known and not last and certain < time + context.MAX_NEXT:
                break
            following = self._times[at + 1] - time if known else context.MAX_NEXT
            centre = round(time * beats.RATE)
            if centre - beats.BEFORE + beats.SAMPLES > end and not last:
                break
            self._add_beat(at, centre, following)
        out = self._emit(last)
        self._trim()
        return out

    def _add_beat(self, at: int, centre: int, following: float) -> None:
        index = np.clip(np.arange(beats.SAMPLES) + centre - beats.BEFORE - self._first, 0, len(self._wave) - 1)
        window = self._wave[index].T.astype(np.float32)
        times = np.asarray(self._times[: at + 1])
        rate = 60 / (times[-1] - times[-2]) if at else float("nan")
        rr = context.rr_features(times, at, following)
        self._held.append((self._cut, times[-1], window, rr, rate, context.is_irregular(times, at)))
        self._windows.append(window)
        self._cut += 1
        if self._cut == context.context_number(self._cut) or self._cut == context.FIRST:
            self._renew()

    def _renew(self) -> None:
        """Make a new context, after the beats before it were given theirs."""
        if self._context is not None:
            self._give_context()
        self._windows = self._windows[-context.REMEMBERED :]
        self._context, self._made_after = context.build_context(np.stack(self._windows)), self._cut

    def _give_context(self) -> None:
        assert self._context is not None
        for number, seconds, window, rr, rate, irregular in self._held:
            self._ready.append(
                StreamedBeat(number, seconds, window, rr, rate, irregular, self._context, self._made_after, self._waves)
            )
        self._held = []

    def _emit(self, last: bool) -> list[StreamedBeat]:
        if last and self._context is None and self._windows:
            self._renew()
        if self._context is not None:
            self._give_context()
        out, self._ready = self._ready, []
        return out

    def _trim(self) -> None:
        """Forget times and samples that no later beat needs."""
        if (drop := len(self._times) - context.RECORD - 8) > 64:
            drop = min(drop, self._cut - self._before - context.RECORD - 2)
            self._times, self._before = self._times[drop:], self._before + drop
        waiting = [time * beats.RATE for time in self._times[self._cut - self._before :]]
        waiting += [float(peak.start) for peak in self._peaks]
        waiting.append(float(self._finder.earliest))
        keep = int(min([*waiting, self._first + len(self._wave)])) - beats.BEFORE - 2
        if (drop := keep - self._first) > 0:
            self._wave, self._first = self._wave[drop:], keep


def stack_beats(streamed: Sequence[StreamedBeat], shape: int = 0) -> CausalBeats:
    """Return the inputs of a model for beats of any patients; those of one patient are in order.

    All beats of one `push` must be given together: the first beats of a patient are compared with one another.

    Args:
        streamed: at least one beat, all with the same leads.
        shape: number of leads whose waves are measured.
    """
    windows = np.stack([beat.window for beat in streamed])
    template = np.stack([beat.context.template for beat in streamed])
    height = np.stack([beat.context.height for beat in streamed])
    rr = np.asarray([beat.rr for beat in streamed], dtype=np.float32)
    columns = context.beat_features(windows, rr, template, height)
    scaled = np.zeros((len(streamed), 0), dtype=np.float32)
    if shape:
        scaled = _compare_waves(streamed, context.measure_waves(windows, template, height, shape))
    scale = height[:, :, None]
    seconds = np.asarray([beat.seconds for beat in streamed])
    irregular = np.asarray([beat.irregular for beat in streamed])
    return CausalBeats(windows / scale, template / scale, columns, scaled, seconds, irregular)


def _compare_waves(streamed: Sequence[StreamedBeat], measured: Floats) -> Floats:
    """Return measures of waves `(beats, features)` relative to the spread of each patient's earlier ones."""
    for beat, values in zip(streamed, measured, strict=True):
        beat.waves.values.append(values.copy())  # a view would hold the measures of all patients of the batch
    scaled = np.empty_like(measured)
    for i, beat in enumerate(streamed):
        waves = beat.waves
        if waves.number != beat.made_after:
            low = max(0, beat.made_after - context.REMEMBERED) - waves.first
            earlier = np.stack(waves.values[max(low, 0) : beat.made_after - waves.first])
            waves.spread, waves.number = features.measure_spread(earlier), beat.made_after
        scaled[i] = features.scale_by_spread(measured[i : i + 1], *waves.spread)[0]
    for waves in {id(beat.waves): beat.waves for beat in streamed}.values():
        if (drop := len(waves.values) - context.REMEMBERED - context.EVERY) > 0:
            waves.values, waves.first = waves.values[drop:], waves.first + drop
    return scaled
