"""What a beat is compared with when only earlier beats are known, shared by whole recordings and streams.

A patient's median beat, the typical height of each lead and the spread of the measures of waves come from the beats
before, and are renewed after 8, 16, 32 and then every 32 beats, from the last 128. The first 8 beats wait for the
first median beat. RR intervals are compared with earlier ones, and with the next one, for which a beat waits at most
`MAX_NEXT` seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sites.ecg import beats, features
from sites.ecg.rhythm import INTERVALS, MIN_INTERVALS, THRESHOLD, sample_entropy_coefficient

FIRST, EVERY, REMEMBERED, SAMPLED = 8, 32, 128, 64
"""Beats before the first median beat, between later ones, those it is made of, and how many of them at most."""
MAX_NEXT, MIN_RR, MAX_RR = 2.0, 0.15, 4.0
"""Seconds to which the next RR interval, and every RR interval, is limited."""
LOCAL, CHANGES, RECORD = 10, 33, 301
"""Earlier RR intervals that are averaged: as in `sites/ecg/beats.py`, but none after the beat."""

Floats = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Context:
    """What a patient's beats are compared with.

    Attributes:
        template: the median beat `(leads, samples)`, mV.
        height: typical height of each lead `(leads,)`, mV.
    """

    template: Floats
    height: Floats


def context_number(beat: int, total: int | None = None) -> int:
    """Return after how many beats the context of a beat was made.

    Args:
        beat: number of the beat, from 0.
        total: beats of the recording, if it has ended.
    """
    after = FIRST if beat < 2 * FIRST else 2 * FIRST if beat < EVERY else beat // EVERY * EVERY
    return after if total is None else min(after, total)


def build_context(windows: Floats) -> Context:
    """Return the context made from windows `(beats, leads, samples)`, the last REMEMBERED before it."""
    some = windows[-REMEMBERED:]
    some = some[:: max(1, len(some) // SAMPLED)]
    height = np.median(np.ptp(some, axis=2), axis=0)
    template = np.median(some, axis=0)
    return Context(template.astype(np.float32), np.where(height > 1e-3, height, 1.0).astype(np.float32))


def rr_features(times: Times, beat: int, following: float) -> list[float]:
    """Return the RR features of one beat (RR_FEATURES and RELATIVE_FEATURES of `sites/ecg/beats.py`).

    Args:
        times: seconds of all beats up to this one, or of the last RECORD + 2 at least.
        beat: the number of the beat in `times`.
        following: seconds to the next beat.
    """
    first = max(0, beat - RECORD)
    rr = np.clip(np.diff(times[first : beat + 1]), MIN_RR, MAX_RR)
    following = min(max(following, MIN_RR), MAX_NEXT)
    if not len(rr):
        rr = np.asarray([following])
    previous, before = rr[-1], rr[-2] if len(rr) > 1 else rr[-1]
    recent = rr[-CHANGES - 1 :]
    change = np.minimum(np.abs(np.diff(np.log(recent))), 0.5)
    irregular = change.mean() if len(change) else 0.0
    local, record = rr[-LOCAL:].mean(), rr[-RECORD:].mean()
    ratios = [previous / local, following / local, previous / following, previous / before]
    values = [*np.log(ratios), max(np.log(irregular + 0.02) + 2, 0.0)]
    values += [np.log(previous / record), np.log(following / record)]
    return [float(np.clip(value / 0.2, -10, 10)) for value in values]


def is_irregular(times: Times, beat: int) -> bool:
    """Return whether the last INTERVALS RR intervals before a beat are irregular (`sites/ecg/rhythm.py`)."""
    intervals = np.diff(times[max(0, beat - INTERVALS) : beat + 1])
    if len(intervals) < MIN_INTERVALS:
        return False
    return bool(sample_entropy_coefficient(intervals[None].astype(np.float64))[0] > THRESHOLD)


def beat_features(windows: Floats, rr: Floats, template: Floats, height: Floats) -> Floats:
    """Return the features of the window view, `(beats, features)`; see `sites/ecg/beats.py`.

    Args:
        windows: `(beats, leads, samples)`, mV.
        rr: `(beats, 7)`, of `rr_features`.
        template: median beat of each, `(beats, leads, samples)`.
        height: typical heights of each, `(beats, leads)`.
    """
    shape = np.clip(beats.shape_features(windows, template, height), -10, 10)
    return np.concatenate([rr, shape], axis=1).astype(np.float32)


def measure_waves(windows: Floats, template: Floats, height: Floats, leads: int) -> Floats:
    """Return the measures of the waves of the first leads, `(beats, features)` (`sites/ecg/features.py`).

    Args:
        windows: `(beats, leads, samples)`, mV.
        template: median beat of each, as `windows`.
        height: typical heights of each, `(beats, leads)`.
        leads: how many leads are measured.
    """
    scale = height[:, :leads, None]
    return features.measure_beats(windows[:, :leads] / scale, template[:, :leads] / scale)
