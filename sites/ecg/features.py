"""Hand-crafted features of an ECG: the inputs of classical models in place of samples.

A beat is described lead by lead: amplitudes of P, Q, R, S and T and the level of ST against the PR segment, width,
area and slopes of the QRS complex, its coefficients on Hermite functions (Lagerholm, Peterson, Braccini, Edenbrandt,
Sörnmo 2000, IEEE TBME 47(7):838-848), the shares of energy in wavelet bands (Ye, Kumar, Coimbra 2012, IEEE TBME
59(10):2930-2941, use wavelet coefficients), and its difference from the patient's median beat. A strip of several
seconds is described by its median beat in the same way, by each lead's spread, by the rhythm of its R peaks (detected
in lead II, else the first, by sites/ecg/r_peaks.py), and by the electrical axis.

The beats are those of `sites/ecg/beats.py`. A beat of the `kachuee` view starts at its R peak, so samples before an R
peak are read before the next one, 1 / 1.2 of the beat's length later. Amplitudes are in the units of the signal, times
in units of 100 ms. NaN: cannot be measured, because a lead is flat, a strip has no complete beat, or a patient has
fewer than five beats.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.task import Task
from sites.cohort import Cohort, Windows
from sites.ecg import beats, r_peaks

Floats = npt.NDArray[np.float32]

BEFORE, LENGTH = beats.BEFORE / beats.RATE, beats.SAMPLES / beats.RATE
"""Seconds of a window before the R peak, and its length in seconds."""
MIN_STRIP_SECONDS = 2.5
"""A signal of at least this length is a strip."""
PR, ST, QRS, P, T = (-96, -56), (80, 120), (-120, 160), (-240, -96), (160, 440)
"""Regions in ms from the R peak."""
HERMITE, SIGMA = 6, 0.024
"""Hermite functions, and their width in seconds."""
WAVELET = "db2"
MEDIAN_BEATS = 400
"""A median beat is computed from at most this many beats of a patient, evenly spaced, and at least MIN_BEATS."""
MIN_BEATS = 5
SHAPE = ("r", "q", "s", "t", "t_time", "p", "st", "qrs_width", "qrs_area", "qrs_size", "rise", "fall")
RELATION = ("correlation", "difference")
SPREAD = ("sd", "low", "high")
RHYTHM = ("rr", "rr_sd", "rr_change", "beats", "sameness", "qrs_width")
AXIS = ("axis_sin", "axis_cos")
MAX_IQRS = 50.0
"""`scale_to_own_spread` clips values to this many interquartile ranges from the median."""
RELATIVE = "minus median beat"
"""Suffix of the names of channels that are another view of other channels."""


def signal_kind(task: Task) -> str:
    """Return the kind of the signal: `window` or `kachuee` (beats), or `strip`.

    Raises:
        DataError: it is none of them.
    """
    if task.channels and task.rate_hz >= 50:
        if task.samples / task.rate_hz >= MIN_STRIP_SECONDS:
            return "strip"
        views = {beats.SAMPLES: "window", beats.KACHUEE_SAMPLES: "kachuee"}
        if task.rate_hz == beats.RATE and task.samples in views:
            return views[task.samples]
    raise DataError(f"{task.name}: no hand-crafted features for {task.samples} samples at {task.rate_hz:g} Hz")


def feature_names(task: Task) -> tuple[str, ...]:
    """Return the names of the columns of `feature_table`."""
    kind, leads = signal_kind(task), [task.channel_names[i] for i in _leads(task)]
    each = (*SHAPE, *(f"hermite_{i}" for i in range(HERMITE)), *(f"band_{i}" for i in range(_level(task.rate_hz) + 1)))
    each += SPREAD if kind == "strip" else RELATION
    once = {"window": (), "kachuee": ("rr",), "strip": RHYTHM + AXIS * (_axis_leads(task) is not None)}[kind]
    return (*(f"{lead} {name}" for lead in leads for name in each), *once)


def feature_table(cohort: Cohort, block: int = 8192) -> Floats:
    """Return `(examples, features)`: hand-crafted features of a cohort's signals, `block` examples at a time.

    Raises:
        DataError: the signals are neither beats nor strips of an ECG.
    """
    task = cohort.task
    kind, n = signal_kind(task), len(cohort.y)
    if isinstance(cohort.x, Windows):
        raise DataError(f"{task.name}: no hand-crafted features for windows of a table")
    out = np.empty((n, len(feature_names(task))), dtype=np.float32)
    usual = None if kind == "strip" else _median_beats(cohort, kind)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        x = cohort.x[rows][:, _leads(task)]
        if kind == "strip":
            out[rows] = _strips(x, task)
            continue
        window, rr = _window(x, kind)
        parts = [_beat(window, round(BEFORE * beats.RATE), beats.RATE)]
        assert usual is not None
        parts.append(_relation(window, usual[cohort.patient[rows]]))
        flat = np.concatenate(parts, axis=2).reshape(len(x), -1)
        out[rows] = np.concatenate([flat, rr], axis=1)
    return out


def beat_feature_names(leads: int) -> tuple[str, ...]:
    """Return the names of the columns of `measure_beats` for a number of leads."""
    each = (*SHAPE, *(f"hermite_{i}" for i in range(HERMITE)), *(f"band_{i}" for i in range(_level(beats.RATE) + 1)))
    return tuple(f"own_{name}_{lead + 1}" for lead in range(leads) for name in (*each, *RELATION))


def measure_beats(x: Floats, usual: Floats) -> Floats:
    """Return the hand-crafted features of one recording's beats, `(beats, features)`.

    Args:
        x: beats of the `window` view, `(beats, leads, samples)`.
        usual: the recording's median beat, `(leads, samples)`.
    """
    if not len(x):
        return np.zeros((0, len(beat_feature_names(x.shape[1]))), dtype=np.float32)
    parts = [_beat(x, beats.BEFORE, beats.RATE), _relation(x, np.broadcast_to(usual, x.shape))]
    return np.concatenate(parts, axis=2).reshape(len(x), -1)


def scale_to_own_spread(values: Floats) -> Floats:
    """Return one recording's features `(beats, features)` relative to its own spread; NaN becomes 0. Needs no labels.

    `asinh((value - median) / interquartile range) / 2`: a patient's usual beats are near 0 whatever the patient and the
    gain, so that no scaling over patients is needed; an unusual beat is far from 0, but not by orders of magnitude.
    """
    return scale_by_spread(values, *measure_spread(values))


def measure_spread(values: Floats) -> tuple[Floats, Floats]:
    """Return the median and the interquartile range of each feature of one recording's beats `(beats, features)`.

    The range is slightly enlarged, so that it is never 0; both are NaN where fewer than MIN_BEATS could be measured.
    """
    median = np.full(values.shape[1], np.nan, dtype=np.float32)
    spread = median.copy()
    some = np.flatnonzero(np.isfinite(values).sum(0) >= MIN_BEATS)
    if len(some):
        low, middle, high = np.nanpercentile(values[:, some], [25, 50, 75], axis=0)
        median[some], spread[some] = middle, high - low + 1e-3 * np.abs(middle) + 1e-6
    return median, spread


def scale_by_spread(values: Floats, median: Floats, spread: Floats) -> Floats:
    """Return features `(beats, features)` relative to a median and spread of each; what cannot be compared is 0."""
    z = (values - median) / spread
    return np.asarray(np.nan_to_num(np.arcsinh(np.clip(z, -MAX_IQRS, MAX_IQRS)) / 2), dtype=np.float32)


def _leads(task: Task) -> list[int]:
    return [i for i, name in enumerate(task.channel_names) if not name.endswith(RELATIVE)]


def _upper(task: Task) -> list[str]:
    return [task.channel_names[i].upper() for i in _leads(task)]


def _level(rate: float) -> int:
    """Return the wavelet level whose approximation holds frequencies below about 4 Hz."""
    return max(1, 4 + round(math.log2(rate / beats.RATE)))


def _region(region: tuple[int, int], before: int, rate: float) -> slice:
    first, last = (before + round(ms * rate / 1000) for ms in region)
    return slice(max(first, 0), last + 1)


def _beat(x: Floats, before: int, rate: float) -> Floats:
    """Return `(beats, leads, features)` of windows `(beats, leads, samples)` with the R peak at `before`."""
    at = {
        name: _region(region, before, rate) for name, region in {"pr": PR, "st": ST, "qrs": QRS, "p": P, "t": T}.items()
    }
    y = x - x[..., at["pr"]].mean(-1, keepdims=True)
    qrs, slope = y[..., at["qrs"]], np.diff(x[..., at["qrs"]]) * np.float32(rate / 10)
    first, last = at["qrs"].start, at["qrs"].stop
    t = y[..., at["t"]]
    t_at = np.abs(t).argmax(-1)
    near = slice(before - round(0.06 * rate), before + round(0.06 * rate) + 1)
    ahead, behind = slice(near.start, before + 1), slice(before, before + round(0.08 * rate) + 1)
    width = _width(slope.astype(np.float64) ** 2)
    columns = [
        y[..., near].max(-1),
        y[..., ahead].min(-1),
        y[..., behind].min(-1),
        np.take_along_axis(t, t_at[..., None], -1)[..., 0],
        np.where(np.isfinite(width), t_at + (at["t"].start - before), np.nan) / (0.1 * rate),
        y[..., at["p"]].max(-1),
        y[..., at["st"]].mean(-1),
        width / (0.1 * rate),
        qrs.sum(-1) / (0.1 * rate),
        np.abs(qrs).sum(-1) / (0.1 * rate),
        slope.max(-1),
        slope.min(-1),
    ]
    time = (np.arange(first, last) - before) / rate
    shape = np.stack(columns, axis=-1)
    return np.concatenate([shape, qrs @ _hermite(time).T, _bands(x, _level(rate))], axis=-1).astype(np.float32)


def _width(energy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the width, in samples, of the middle nine tenths of an energy `(..., samples)`; NaN if all is 0."""
    sums = np.concatenate([np.zeros_like(energy[..., :1]), energy.cumsum(-1)], axis=-1)
    total = sums[..., -1:]
    with np.errstate(invalid="ignore"):
        share = sums / np.where(total > 0, total, np.nan)
    edges = []
    for quantile in (0.05, 0.95):
        after = np.minimum((share < quantile).sum(-1, keepdims=True), energy.shape[-1])
        low, high = (np.take_along_axis(share, index, -1) for index in (np.maximum(after - 1, 0), after))
        edges.append((after - 1 + (quantile - low) / np.maximum(high - low, 1e-12))[..., 0])
    return np.asarray(edges[1] - edges[0], dtype=np.float64)


def _hermite(time: npt.NDArray[np.float64]) -> Floats:
    """Return `(HERMITE, samples)`: the first Hermite functions of width SIGMA at times in seconds, of unit energy.

    By the recurrence of the normalised functions: `f_n = sqrt(2/n) t f_(n-1) - sqrt((n-1)/n) f_(n-2)`.
    """
    t = time / SIGMA
    functions = [np.exp(-(t**2) / 2) * np.pi**-0.25, np.sqrt(2) * t * np.exp(-(t**2) / 2) * np.pi**-0.25]
    for n in range(2, HERMITE):
        functions.append(np.sqrt(2 / n) * t * functions[-1] - np.sqrt((n - 1) / n) * functions[-2])
    step = float(time[1] - time[0]) / SIGMA
    return np.asarray(np.stack(functions) * np.sqrt(step), dtype=np.float32)


def _bands(x: Floats, level: int) -> Floats:
    """Return `(..., level + 1)`: the log share of energy in each wavelet band, the lowest frequencies first."""
    import pywt

    centred = x - x.mean(-1, keepdims=True)
    energy = np.stack([(part**2).sum(-1) for part in pywt.wavedec(centred, WAVELET, "periodization", level)], axis=-1)
    total = energy.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log(energy / np.where(total > 0, total, np.nan) + 1e-4), dtype=np.float32)


def _window(x: Floats, kind: str) -> tuple[Floats, Floats]:
    """Return beats as windows, and the features of their length: `(beats, 0)`, or `(beats, 1)`, the log RR interval."""
    if kind == "window":
        return x, np.zeros((len(x), 0), dtype=np.float32)
    before = round(BEFORE * beats.RATE)
    length = x.shape[2] - (x[:, :, ::-1] != 0).any(axis=1).argmax(axis=1)
    rr = np.rint(length / 1.2).astype(np.int64)
    index = np.concatenate(
        [
            np.maximum(rr[:, None] + np.arange(-before, 0), 0),
            np.broadcast_to(np.arange(beats.SAMPLES - before), (len(x), beats.SAMPLES - before)),
        ],
        axis=1,
    )
    seconds = np.log(np.maximum(rr, 1) / beats.RATE)[:, None].astype(np.float32)
    return np.take_along_axis(x, index[:, None, :], axis=2), seconds


def _median_beats(cohort: Cohort, kind: str) -> Floats:
    """Return each patient's median window `(patients, leads, samples)`; NaN if there are too few beats."""
    assert not isinstance(cohort.x, Windows)
    leads = _leads(cohort.task)
    out = np.full((len(cohort.patients), len(leads), beats.SAMPLES), np.nan, dtype=np.float32)
    order = np.argsort(cohort.patient, kind="stable")
    owner, first, count = np.unique(cohort.patient[order], return_index=True, return_counts=True)
    for patient, start, size in zip(
        owner[count >= MIN_BEATS], first[count >= MIN_BEATS], count[count >= MIN_BEATS], strict=True
    ):
        some = order[start : start + size][:: max(1, size // MEDIAN_BEATS)]
        out[patient] = np.median(_window(cohort.x[some][:, leads], kind)[0], axis=0)
    return out


def _relation(x: Floats, usual: Floats) -> Floats:
    """Return `(beats, leads, 2)`: Fisher's z of the correlation with the median beat, and the log of the difference."""
    centred, norm = (values - values.mean(-1, keepdims=True) for values in (x, usual))
    energy = (norm**2).sum(-1)
    size = np.sqrt((centred**2).sum(-1) * energy)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.arctanh(np.clip((centred * norm).sum(-1) / np.where(size > 0, size, np.nan), -0.999, 0.999))
        share = ((centred - norm) ** 2).sum(-1) / np.where(energy > 0, energy, np.nan)
    return np.stack([z, np.log(share + 1e-3)], axis=-1)


def _strips(x: Floats, task: Task) -> Floats:
    """Return `(strips, features)` of strips `(strips, leads, samples)`."""
    rate, n = task.rate_hz, len(x)
    before, length = round(BEFORE * rate), round(LENGTH * rate)
    typical = np.full((*x.shape[:2], length), np.nan, dtype=np.float32)
    rhythm = np.full((n, len(RHYTHM)), np.nan, dtype=np.float32)
    upper = _upper(task)
    searched = upper.index("II") if "II" in upper else 0
    for i, strip in enumerate(x):
        peaks = r_peaks.detect_qrs(strip[searched], rate)
        rr = np.diff(peaks) / rate
        rhythm[i, 3] = len(peaks) * rate / x.shape[2]
        if len(rr):
            rhythm[i, 0] = np.log(np.median(rr))
        if len(rr) > 1:
            rhythm[i, 1:3] = rr.std() / rr.mean(), np.abs(np.diff(rr)).mean() / rr.mean()
        whole = peaks[(peaks >= before) & (peaks - before + length <= x.shape[2])]
        if len(whole):
            strip_beats = strip[:, whole[:, None] - before + np.arange(length)]
            typical[i] = np.median(strip_beats, axis=1)
            rhythm[i, 4] = _sameness(strip_beats, typical[i])
    shape = _beat(typical, before, rate)
    qrs = np.diff(typical[..., _region(QRS, before, rate)]).astype(np.float64)
    rhythm[:, 5] = _width((qrs**2).sum(1)) / (0.1 * rate)
    low, middle, high = np.percentile(x, [1, 50, 99], axis=-1).astype(np.float32)
    spread = np.stack([x.std(-1), low - middle, high - middle], axis=-1)
    parts = [np.concatenate([shape, spread], axis=-1).reshape(n, -1), rhythm]
    if (limbs := _axis_leads(task)) is not None:
        area = shape[:, :, SHAPE.index("qrs_area")]
        angle = np.arctan2(2 / np.sqrt(3) * area[:, limbs[1]], area[:, limbs[0]])
        parts.append(np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32))
    return np.concatenate(parts, axis=1)


def _sameness(strip_beats: Floats, typical: Floats) -> float:
    """Return the mean over beats `(leads, beats, samples)` of their correlation with the median beat."""
    centred = strip_beats - strip_beats.mean(-1, keepdims=True)
    norm = (typical - typical.mean(-1, keepdims=True))[:, None]
    size = np.sqrt((centred**2).sum((0, 2)) * (norm**2).sum())
    return float(((centred * norm).sum((0, 2)) / np.where(size > 0, size, np.nan)).mean())


def _axis_leads(task: Task) -> tuple[int, int] | None:
    """Return the indices of leads I and aVF among the leads, if both are present.

    By Einthoven's triangle a dipole at angle a gives I = cos a and aVF = (II + III) / 2 = sqrt(3) / 2 sin a.
    """
    upper = _upper(task)
    return (upper.index("I"), upper.index("AVF")) if {"I", "AVF"} <= set(upper) else None
