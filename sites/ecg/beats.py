"""Beats cut from recordings: the two views of a beat, and features relative to the patient's own normal beats.

`window`: a window around the R peak at 125 Hz, 96 samples (0.288 s before to 0.48 s after), each lead divided by the
recording's own typical beat height, with RR-interval features (de Chazal, O'Dwyer, Reilly 2004, IEEE TBME 51(7), use
previous, next, local and record averages). RR intervals are given only as ratios, because the rate itself identifies
patients rather than beats; and the irregularity of the surrounding rhythm is given, because a beat is premature only
against a regular rhythm. With `relative`, the recording's median beat, which needs no labels because most beats are
normal, is subtracted to give further channels, and the difference from it (beat, P region, QRS) becomes features.

`kachuee`: as in the Kaggle "heartbeat" set (Kachuee, Fazeli, Sarrafzadeh 2018, ICHI, arXiv:1805.00794): at 125 Hz, from
the R peak for 1.2 times the median RR interval of its 10 s stretch, scaled to [0, 1], zero padded to 187 samples. The
last beat of a recording has no next one and is left out, which gives the published counts exactly.

A beat that has no class (WFDB's `?`) is cut like the others and counts in the RR intervals of its neighbours.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from sites.ecg.annotations import AAMI_CLASSES, UNCLASSED
from sites.ecg.filtering import fill_gaps, resample_and_filter
from sites.ecg.recordings import Recording

RATE = 125.0
BEFORE, SAMPLES = 36, 96
KACHUEE_SAMPLES = 187
VERSION = 10
"""Part of the cache's key; increase it when the prepared beats change."""

CLASS_TITLES = {
    "N": "normal or bundle branch block",
    "S": "supraventricular ectopic",
    "V": "ventricular ectopic",
    "F": "fusion",
    "Q": "paced or unknown",
}
P_REGION, QRS_REGION = slice(6, 29), slice(20, 60)
"""Samples of a window: 240 to 64 ms before the R peak, and 128 ms before to 184 ms after it."""
RR_FEATURES = ("rr_prev/rr_local", "rr_next/rr_local", "rr_prev/rr_next", "rr_prev/rr_before", "irregularity")
RELATIVE_FEATURES = ("rr_prev/rr_record", "rr_next/rr_record")
BEAT_FEATURES = ("correlation", "difference", "height")
LEAD_FEATURES = (*BEAT_FEATURES, "p_correlation", "p_difference", "qrs_width", "qrs_slope")


@dataclass(frozen=True)
class Beats:
    """The beats of one recording.

    Attributes:
        x: float32 `(beats, leads, samples)`.
        template: float32 `(leads, samples)`, the median beat.
        features: float32 `(beats, features)`.
        label: `(beats,)`, one of "NSVFQ", or "?" of a beat without a class.
        symbol: `(beats,)`, the code of each in its annotations.
        sample: int64 `(beats,)`, position in the recording.
        excluded: number of beats left out, by reason.
    """

    x: npt.NDArray[np.float32]
    template: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    label: npt.NDArray[np.str_]
    symbol: npt.NDArray[np.str_]
    sample: npt.NDArray[np.int64]
    excluded: dict[str, int]


def window_feature_names(leads: int) -> tuple[str, ...]:
    """Return the names of all features of the window view; those relative to the median beat are last."""
    per_lead = tuple(f"{name}_{lead + 1}" for lead in range(leads) for name in LEAD_FEATURES)
    return (*RR_FEATURES, *RELATIVE_FEATURES, *per_lead)


def choose_leads(recording: Recording, wanted: int) -> list[int]:
    """Return the indices of the leads to use: MLII first if present, else II, else the first lead."""
    order = list(range(len(recording.leads)))
    for name in ("II", "MLII"):
        if name in recording.leads:
            order.remove(recording.leads.index(name))
            order.insert(0, recording.leads.index(name))
    return order[:wanted]


def cut_beats(
    recording: Recording, view: Literal["window", "kachuee"], leads: int, codes: Collection[str] = AAMI_CLASSES
) -> Beats:
    """Return the beats of a recording.

    Args:
        recording: its signal and annotations.
        view: one of the two that the module's docstring describes.
        leads: the largest number of leads to use.
        codes: codes of the annotations that are beats; WFDB's unless the annotations have their own.
    """
    chosen = choose_leads(recording, leads)
    signal, missing = fill_gaps(recording.signal[:, chosen])
    marked = np.isin(recording.symbol, list(codes))
    sample = recording.sample[marked]
    symbol = recording.symbol[marked]
    label = np.asarray([AAMI_CLASSES.get(mark, UNCLASSED) for mark in symbol], dtype="<U1")
    scale = RATE / recording.rate
    peaks = np.rint(sample * scale).astype(np.int64)
    excluded = dict(recording.dropped)
    if len(sample) < 3:
        return _empty(len(chosen), view, excluded | {"recordings with fewer than three beats": 1})
    band = (0.5, 40.0) if view == "window" else None
    x = resample_and_filter(signal, recording.rate, RATE, band)
    if view == "window":
        beats, template, height = _windows(x, peaks)
        features = _features(np.diff(sample) / recording.rate, beats, template, height)
        beats = beats / height[:, None]
        template = template / height[:, None]
        keep = np.ones(len(sample), dtype=np.bool_)
        start, end = peaks - BEFORE, peaks - BEFORE + SAMPLES
    else:
        beats, start, end = _kachuee(x, peaks)
        template = np.zeros((len(chosen), KACHUEE_SAMPLES), dtype=np.float32)
        features = np.zeros((len(sample), 0), dtype=np.float32)
        keep = np.arange(len(sample)) < len(sample) - 1
    if not keep.all():
        excluded["last beat of a recording"] = int((~keep).sum())
    if missing.any():
        before = np.concatenate([[0], np.cumsum(missing)])
        first = np.clip((start / scale).astype(np.int64), 0, len(missing))
        last = np.clip((end / scale).astype(np.int64) + 1, 0, len(missing))
        broken = keep & (before[last] > before[first])
        if broken.any():
            excluded["beats with missing samples"] = int(broken.sum())
        keep &= ~broken
    if not keep.all():
        beats, features, label, sample = beats[keep], features[keep], label[keep], sample[keep]
        symbol = symbol[keep]
    beats, template = np.ascontiguousarray(beats, dtype=np.float32), template.astype(np.float32)
    return Beats(beats, template, features, label, symbol, sample, excluded)


def _empty(leads: int, view: str, excluded: dict[str, int]) -> Beats:
    samples = SAMPLES if view == "window" else KACHUEE_SAMPLES
    width = len(window_feature_names(leads)) if view == "window" else 0
    return Beats(
        np.zeros((0, leads, samples), np.float32),
        np.zeros((leads, samples), np.float32),
        np.zeros((0, width), np.float32),
        np.zeros(0, "<U1"),
        np.zeros(0, "<U1"),
        np.zeros(0, np.int64),
        excluded,
    )


def _windows(
    x: npt.NDArray[np.float32], peaks: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return windows `(beats, leads, samples)`, their median `(leads, samples)`, each lead's typical height (mV)."""
    padded = np.pad(x, ((BEFORE, SAMPLES), (0, 0)), mode="edge").T
    index = peaks[:, None] + np.arange(SAMPLES)
    beats = padded[:, index].transpose(1, 0, 2)
    some = beats[:: max(1, len(beats) // 400)]
    template = np.median(some, axis=0)
    height = np.median(np.ptp(some, axis=2), axis=0)
    height = np.where(height > 1e-3, height, 1.0)
    return beats, template.astype(np.float32), height.astype(np.float32)


def _features(
    rr: npt.NDArray[np.float64],
    beats: npt.NDArray[np.float32],
    template: npt.NDArray[np.float32],
    height: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Return features of about unit size: log ratios in units of 20 %, Fisher's z, log differences.

    Irregularity is the log of the mean |log RR/previous RR| over 33 beats, each limited to 0.5 so that one pause does
    not dominate; a mean change below about 12 %, as in a regular rhythm with some ectopic beats, counts as 0.
    """
    rr = np.clip(rr, 0.15, 4.0)
    count = len(rr) + 1
    previous = np.concatenate([[rr[0]], rr])
    following = np.concatenate([rr, [rr[-1]]])
    before = np.concatenate([previous[:1], previous[:-1]])
    cumulative = np.concatenate([[0.0], np.cumsum(previous)])
    first = np.maximum(np.arange(count) - 9, 0)
    local = (cumulative[np.arange(count) + 1] - cumulative[first]) / (np.arange(count) + 1 - first)
    running = uniform_filter1d(previous, size=min(301, count), mode="nearest")
    change = np.minimum(np.abs(np.log(previous / before)), 0.5)
    columns = [
        np.log(previous / local),
        np.log(following / local),
        np.log(previous / following),
        np.log(previous / before),
        np.maximum(np.log(uniform_filter1d(change, size=min(33, count)) + 0.02) + 2, 0),
        np.log(previous / running),
        np.log(following / running),
    ]
    out = np.stack([column / 0.2 for column in columns], axis=1)
    return np.asarray(np.clip(np.concatenate([out, shape_features(beats, template, height)], 1), -10, 10), np.float32)


def shape_features(
    beats: npt.NDArray[np.float32], template: npt.NDArray[np.float32], height: npt.NDArray[np.float32]
) -> npt.NDArray[np.floating]:
    """Return how the shape of each beat differs from the median beat, `(beats, leads x LEAD_FEATURES)`, not clipped.

    Args:
        beats: windows `(beats, leads, samples)` in mV.
        template: the median beat `(leads, samples)`, or one for each beat `(beats, leads, samples)`.
        height: typical height of each lead `(leads,)`, or for each beat `(beats, leads)`.
    """
    out: list[npt.NDArray[np.floating]] = []
    for lead in range(beats.shape[1]):
        window, normal = beats[:, lead], template[..., lead, :]
        difference = (window - normal) ** 2
        steep, steep_normal = (np.abs(np.diff(signal[..., QRS_REGION])) for signal in (window, normal))
        out += [
            _correlation(window, normal) - 1.5,
            np.log(difference.sum(1) / ((normal**2).sum(-1) + 1e-9) + 1e-3) / 2 + 1,
            np.log((np.ptp(window, 1) + 1e-6) / (np.ptp(normal, -1) + 1e-6)) / 0.2,
            _correlation(window[:, P_REGION], normal[..., P_REGION]) - 1.5,
            np.log(np.sqrt(difference[:, P_REGION].mean(1)) / height[..., lead] + 0.01) + 3,
            np.log(_spread(steep) / _spread(steep_normal)) / 0.2,
            np.log((steep.max(1) + 1e-6) / (steep_normal.max(-1) + 1e-6)) / 0.2,
        ]
    return np.stack(out, axis=1)


def _correlation(windows: npt.NDArray[np.float32], normal: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return Fisher's z of each window's correlation with `normal`, which may be one for each window."""
    centred = windows - windows.mean(1, keepdims=True)
    norm = normal - normal.mean(-1, keepdims=True)
    size = np.sqrt((centred**2).sum(1) * (norm**2).sum(-1)) + 1e-9
    product = centred @ norm if norm.ndim == 1 else (centred * norm).sum(1)
    return np.asarray(np.arctanh(np.clip(product / size, -0.999, 0.999)), dtype=np.float32)


def _spread(steep: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the standard deviation in time, in samples, of the slopes' energy: the width of the QRS."""
    energy = steep**2 + 1e-9
    energy = energy / energy.sum(-1, keepdims=True)
    time = np.arange(energy.shape[-1], dtype=np.float32)
    return np.asarray(np.sqrt(energy @ time**2 - (energy @ time) ** 2 + 1e-3), dtype=np.float32)


def _kachuee(
    x: npt.NDArray[np.float32], peaks: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return beats `(beats, leads, 187)` and the start and end of each, in samples at 125 Hz."""
    stretch = peaks // int(10 * RATE)
    gaps = np.diff(peaks)
    same = stretch[1:] == stretch[:-1]
    typical = float(np.median(gaps))
    period = np.full(len(peaks), typical)
    inside, owner = gaps[same], stretch[:-1][same]
    starts = np.searchsorted(owner, np.unique(stretch))
    for number, values in zip(np.unique(stretch), np.split(inside, starts[1:]), strict=True):
        if len(values):
            period[stretch == number] = np.median(values)
    length = np.clip(np.rint(1.2 * period).astype(np.int64), 2, KACHUEE_SAMPLES)
    length = np.minimum(length, np.maximum(len(x) - peaks, 1))
    grid = np.arange(KACHUEE_SAMPLES)
    index = np.minimum(peaks[:, None] + grid, len(x) - 1)
    beats = x.T[:, index].transpose(1, 0, 2)
    valid = (grid < length[:, None])[:, None, :]
    low = np.where(valid, beats, np.inf).min(-1, keepdims=True)
    high = np.where(valid, beats, -np.inf).max(-1, keepdims=True)
    scaled = np.where(valid, (beats - low) / np.maximum(high - low, 1e-6), 0)
    return scaled.astype(np.float32), peaks, peaks + length
