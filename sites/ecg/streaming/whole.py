"""The beats of a whole recording, each described by earlier beats only: what `stream.py` gives, in one pass.

Hospitals train on these, so that the monitor at the bedside gives a model the inputs that it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sites.ecg import beats, features
from sites.ecg.streaming import context
from sites.ecg.streaming.filtering import design_filter, filter_signal
from sites.ecg.streaming.r_peaks import Peak, detect_streaming

WAVE_BAND, WAVE_HALF_SECONDS = (0.5, 40.0), 1.0
"""Band of the windows (Hz), as in `sites/ecg/beats.py`, and the seconds that the filter waits."""
DEEP = 1.5
"""A QRS points down if it is more than this many times as deep as it is high."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CausalBeats:
    """The beats of a recording or stream, ready for a model.

    Attributes:
        x: `(beats, leads, samples)`, each lead divided by the patient's typical height so far.
        template: `(beats, leads, samples)`, the median beat that each is compared with, divided likewise.
        features: `(beats, features)`, as `beats.window_feature_names`.
        shape: `(beats, features)`, measures of the waves of some leads (`features.beat_feature_names`).
        seconds: `(beats,)`, since the start of the signal.
        irregular: `(beats,)`, whether the rhythm before the beat is irregular.
    """

    x: Floats
    template: Floats
    features: Floats
    shape: Floats
    seconds: npt.NDArray[np.float64]
    irregular: npt.NDArray[np.bool_]


def locate_r(wave: npt.NDArray[np.floating], peak: Peak, first: int = 0) -> tuple[int, float]:
    """Return the R peak in the block of a peak: its sample, and its time in seconds between the samples.

    Args:
        wave: the filtered lead at 125 Hz, mV, `(samples,)`.
        peak: the peak.
        first: number of the first sample of `wave`.
    """
    start, end = max(peak.start - first, 0), min(peak.end - first, len(wave))
    part = wave[start:end]
    top, bottom = int(part.argmax()), int(part.argmin())
    sample = start + (bottom if -part[bottom] > DEEP * part[top] else top)
    shift = 0.0
    if 0 < sample < len(wave) - 1:
        before, here, after = (float(wave[sample + step]) for step in (-1, 0, 1))
        bend = before - 2 * here + after
        if abs(bend) > 1e-9:
            shift = min(max((before - after) / (2 * bend), -0.5), 0.5)
    return first + sample, float((first + sample + shift) / beats.RATE)


def filter_waves(signal: npt.NDArray[np.floating], rate: float) -> npt.NDArray[np.float64]:
    """Return a signal `(samples, leads)` at 125 Hz in the band of the windows, mV."""
    return filter_signal(signal, design_filter(rate, beats.RATE, WAVE_BAND, WAVE_HALF_SECONDS))


def detect_beats(signal: npt.NDArray[np.floating], rate: float) -> npt.NDArray[np.float64]:
    """Return the seconds of the beats of a signal `(samples, leads)` in mV, by its first lead."""
    wave = filter_waves(signal[:, :1], rate)[:, 0]
    return np.asarray([locate_r(wave, peak)[1] for peak in detect_streaming(signal[:, 0], rate)])


def cut_causal_beats(
    signal: npt.NDArray[np.floating], rate: float, seconds: npt.NDArray[np.float64], shape: int = 0
) -> CausalBeats:
    """Return the beats of a whole signal.

    Args:
        signal: `(samples, leads)`, mV, finite.
        rate: sampling rate, Hz.
        seconds: `(beats,)`, R peaks in order, at least three.
        shape: number of leads whose waves are measured.
    """
    wave = filter_waves(signal, rate)
    centre = np.clip(np.rint(seconds * beats.RATE).astype(np.int64), 0, len(wave) - 1)
    padded = np.pad(wave, ((beats.BEFORE, beats.SAMPLES), (0, 0)), mode="edge").T
    windows = padded[:, centre[:, None] + np.arange(beats.SAMPLES)].transpose(1, 0, 2).astype(np.float32)
    count = len(seconds)
    following = np.append(np.diff(seconds), context.MAX_NEXT)
    rr = np.asarray([context.rr_features(seconds, i, float(following[i])) for i in range(count)], np.float32)
    parts: list[tuple[Floats, ...]] = []
    waves = np.zeros((0, 0), np.float32)
    numbers = np.asarray([context.context_number(i, count) for i in range(count)])
    for number in np.unique(numbers):
        own = numbers == number
        current = context.build_context(windows[: int(number)])
        template = np.broadcast_to(current.template, windows[own].shape)
        height = np.broadcast_to(current.height, windows[own].shape[:2])
        measured = np.zeros((int(own.sum()), 0), np.float32)
        scaled = measured
        if shape:
            measured = context.measure_waves(windows[own], template, height, shape)
            waves = waves.reshape(-1, measured.shape[1])
            earlier = waves[max(0, int(number) - context.REMEMBERED) : int(number)]
            spread = features.measure_spread(earlier if len(earlier) else measured[: int(number)])
            scaled = features.scale_by_spread(measured, *spread)
            waves = np.concatenate([waves, measured])
        scale = height[:, :, None]
        columns = context.beat_features(windows[own], rr[own], template, height)
        parts.append((windows[own] / scale, template / scale, columns, scaled))
    x, template, columns, measured = (np.concatenate(part) for part in zip(*parts, strict=True))
    irregular = np.asarray([context.is_irregular(seconds, i) for i in range(count)])
    return CausalBeats(x, template, columns, measured, seconds, irregular)
