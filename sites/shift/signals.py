"""Disturbances of an ECG by electrodes, amplifier and recorder.

A disturbance arises at the electrodes and reaches the leads as they are wired, so Einthoven's and Goldberger's
equations hold for twelve disturbed leads as for clean ones. A lead and the same lead minus its median beat are changed
alike. An amplitude in mV is that at the input, before any filter that the data passed: the root of the mean square over
the leads.

For slow waves and hum the examples of a recording follow one another in time without gaps: true of a whole recording,
an approximation for beats, which overlap or have gaps. Features computed from the signal are not computed again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from common.sections.shift import ShiftConfig, Where
from common.task import Task
from sites.cohort import Cohort, Windows
from sites.ecg import beats
from sites.ecg.filtering import resample_and_filter
from sites.shift import tables
from sites.shift.site_shift import IN_WORDS, Mask, Notes, SiteShift, selected_rows

OPTIONS = ("lead_swap", "wander", "hum", "emg", "gain", "sampling_rate", "resolution")
RELATIVE = " minus median beat"
WANDER_HZ, EMG_FROM_HZ = (0.05, 0.5), 20.0
WAVES = 8
SCALED_BEAT_MV = 1.5
"""mV of one unit where sites/ecg/beats.py divided by the height of the beat (its median over MIT-BIH)."""
_CHUNK = 1 << 16

Floats = npt.NDArray[np.float64]
Signals = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_AVERAGE = {"RA": 1 / 3, "LA": 1 / 3, "LL": 1 / 3}
WIRING: dict[str, dict[str, float]] = {
    "i": {"LA": 1, "RA": -1},
    "ii": {"LL": 1, "RA": -1},
    "iii": {"LL": 1, "LA": -1},
    "avr": {"RA": 1, "LA": -0.5, "LL": -0.5},
    "avl": {"LA": 1, "RA": -0.5, "LL": -0.5},
    "avf": {"LL": 1, "RA": -0.5, "LA": -0.5},
    **{f"v{i}": {f"C{i}": 1.0, **{limb: -share for limb, share in _AVERAGE.items()}} for i in range(1, 7)},
}
"""The standard leads as differences of electrode potentials (Kligfield et al. 2007, Circulation 115:1306-1324)."""
SWAPPED = {"i": ("i", -1.0), "ii": ("iii", 1.0), "iii": ("ii", 1.0), "avr": ("avl", 1.0), "avl": ("avr", 1.0)}
"""The lead, with its sign, that each lead shows after the electrodes of both arms were exchanged."""


@dataclass(frozen=True)
class _Leads:
    """The leads of a signal.

    Attributes:
        channels: channel of each lead.
        relative: channel of each lead minus its median beat, -1 if there is none.
        mixing: `(leads, electrodes)`, scaled so that electrodes of root mean square 1 give leads of mean square 1.
        unit: mV of one unit of the signal.
        band: edges in Hz of the filter that the data passed, if any.
        rate: sampling rate in Hz.
    """

    channels: list[int]
    relative: list[int]
    mixing: Floats
    unit: float
    band: tuple[float, float] | None
    rate: float

    def passes(self, hz: Floats | float) -> Floats:
        """Return the gain of the data's filter at a frequency (sites/ecg/filtering.py)."""
        f = np.maximum(np.asarray(hz, dtype=np.float64), 1e-9)
        if self.band is None:
            return np.ones_like(f)
        low, high = self.band
        return np.asarray(1 / (1 + (low / f) ** 4) / (1 + (f / high) ** 4))

    def add(self, x: Signals, rows: npt.NDArray[np.int64], change: npt.NDArray[Any]) -> None:
        """Add `(rows, leads, samples)` to the leads, and to the same leads minus their median beat."""
        for lead, (channel, relative) in enumerate(zip(self.channels, self.relative, strict=True)):
            x[rows, channel] += change[:, lead].astype(np.float32)
            if relative >= 0:
                x[rows, relative] += change[:, lead].astype(np.float32)


def disturb_signals(cohort: Cohort, at: SiteShift, notes: Notes) -> Cohort:
    """Return the cohort with its ECG as another hospital would have recorded it."""
    given = [name for name in OPTIONS if getattr(at.options, name) is not None]
    if not given:
        return cohort
    task = cohort.task
    if isinstance(cohort.x, Windows) or not task.channels or task.rate_hz < tables.SLOW_HZ:
        raise at.error(given[0], f"needs an ECG, and {task.name} is none")
    leads = _find_leads(task, at.options)
    _check_rates(task, at)
    x, features = cohort.x.copy(), cohort.features
    scaled = len(x) > 0 and bool(x.min() == 0 and x.max() == 1)
    if at.options.lead_swap is not None:
        features = _swap_leads(cohort, x, at, leads, notes)
    _add_noise(cohort, x, at, leads, notes)
    _change_gain(cohort, x, at, notes)
    _resample(cohort, x, at, notes)
    _round_to_steps(cohort, x, at, leads, notes)
    if scaled:
        touched = np.logical_or.reduce([selected_rows(cohort, getattr(at.options, name).where) for name in given])
        _rescale(cohort.x, x, np.flatnonzero(touched))
    return replace(cohort, x=x, features=features)


def _find_leads(task: Task, options: ShiftConfig) -> _Leads:
    names = task.channel_names
    channels = [i for i, name in enumerate(names) if not name.endswith(RELATIVE)]
    relative = [names.index(names[i] + RELATIVE) if names[i] + RELATIVE in names else -1 for i in channels]
    own = [WIRING.get(names[i].lower(), {f"own {i}": 1.0}) for i in channels]
    electrodes = sorted({name for wires in own for name in wires})
    mixing = np.asarray([[wires.get(name, 0.0) for name in electrodes] for wires in own], dtype=np.float64)
    mixing /= np.sqrt((mixing**2).sum() / len(channels))
    cut = task.rate_hz == beats.RATE
    signal = options.signal
    unit = signal.unit_mv if signal else None
    band = signal.band if signal else None
    if cut and task.samples == beats.SAMPLES:
        band = band or (0.5, 40.0)
    if unit is None:
        unit = SCALED_BEAT_MV if cut and task.samples in (beats.SAMPLES, beats.KACHUEE_SAMPLES) else 1.0
    return _Leads(channels, relative, mixing, unit, band, task.rate_hz)


def _check_rates(task: Task, at: SiteShift) -> None:
    hum, emg, slow = at.options.hum, at.options.emg, at.options.sampling_rate
    if emg is not None and task.rate_hz <= 2 * EMG_FROM_HZ:
        raise at.error("emg", f"data at {task.rate_hz:g} Hz cannot hold muscle noise above {EMG_FROM_HZ:g} Hz")
    if hum is not None and hum.mains >= task.rate_hz / 2:
        raise at.error(
            "hum",
            f"data at {task.rate_hz:g} Hz cannot hold {hum.mains} Hz: a recorder's own filter would have removed it",
        )
    if slow is not None and slow.hz >= task.rate_hz:
        raise at.error("sampling_rate", f"{slow.hz:g} Hz is not below the {task.rate_hz:g} Hz of the data")


def _recordings(
    cohort: Cohort, where: Where, at: SiteShift, option: str
) -> Iterator[tuple[Rows, Mask, np.random.Generator]]:
    """Yield each recording's examples in order, which of them may be changed (at least one), and its generator."""
    allowed = selected_rows(cohort, where)
    order = np.argsort(cohort.patient, kind="stable")
    edges = np.searchsorted(cohort.patient[order], np.arange(len(cohort.patients) + 1))
    for index, name in enumerate(cohort.patients):
        rows = order[edges[index] : edges[index + 1]]
        if allowed[rows].any():
            yield rows, allowed[rows], at.rng(option, name)


def _swap_leads(cohort: Cohort, x: Signals, at: SiteShift, leads: _Leads, notes: Notes) -> Signals:
    """Exchange leads in place; return the features with those of the exchanged leads."""
    option = at.options.lead_swap
    assert option is not None
    task = cohort.task
    lower = [task.channel_names[i].lower() for i in leads.channels]
    source, sign = list(range(task.channels)), np.ones(task.channels, dtype=np.float32)
    features = cohort.features.copy()
    columns = list(range(len(task.features)))
    if set(SWAPPED) <= set(lower):
        moves = [(lower.index(name), lower.index(old), factor) for name, (old, factor) in SWAPPED.items()]
    elif len(leads.channels) == 2:
        moves = [(0, 1, 1.0), (1, 0, 1.0)]
        partner = {name: re.sub(r"_([12])$", lambda m: "_" + "21"[int(m[1]) - 1], name) for name in task.features}
        columns = [task.features.index(partner.get(name, name)) for name in task.features]
    else:
        raise at.error("lead_swap", "needs the leads I, II, III, aVR and aVL, or a record of two leads")
    for new, old, factor in moves:
        for channels in (leads.channels, leads.relative):
            if channels[new] >= 0:
                source[channels[new]], sign[channels[new]] = channels[old], factor
    swapped = total = 0
    for rows, allowed, rng in _recordings(cohort, option.where, at, "lead_swap"):
        total += 1
        if rng.random() < option.probability:
            swapped += 1
            changed = rows[allowed]
            x[changed] = x[changed][:, source] * sign[:, None]
            features[changed] = features[changed][:, columns]
    notes["lead_swap"] = f"{swapped} of {total} recordings{IN_WORDS[option.where]}"
    return features


def _add_noise(cohort: Cohort, x: Signals, at: SiteShift, leads: _Leads, notes: Notes) -> None:
    """Add wander, hum and muscle noise to each recording, its examples taken one after another."""
    wander, hum, emg = at.options.wander, at.options.hum, at.options.emg
    if wander is not None:
        for rows, allowed, rng in _recordings(cohort, wander.where, at, "wander"):
            hz = rng.uniform(*WANDER_HZ, WAVES)
            tones = np.sqrt(2 / WAVES) * (_phases(rng, WAVES, leads) @ leads.mixing.T)
            _add_tones(x, rows, allowed, leads, hz, wander.mv * tones)
        notes["wander"] = _words(cohort, leads, wander.where, f"{wander.mv:g} mV rms")
    if hum is not None:
        hz = np.asarray([float(hum.mains)])
        for rows, allowed, rng in _recordings(cohort, hum.where, at, "hum"):
            tones = _phases(rng, 1, leads) @ leads.mixing.T
            _add_tones(x, rows, allowed, leads, hz, hum.mv * tones / np.sqrt((np.abs(tones) ** 2).mean()))
        notes["hum"] = _words(cohort, leads, hum.where, f"{hum.mv:g} mV at {hum.mains} Hz")
    if emg is not None:
        for rows, allowed, rng in _recordings(cohort, emg.where, at, "emg"):
            noise = emg.mv / leads.unit * _muscle_noise(leads, len(rows) * x.shape[2], rng)
            leads.add(x, rows[allowed], noise.reshape(len(leads.channels), -1, x.shape[2]).transpose(1, 0, 2)[allowed])
        notes["emg"] = _words(cohort, leads, emg.where, f"{emg.mv:g} mV rms")


def _words(cohort: Cohort, leads: _Leads, where: Where, amount: str) -> str:
    filtered = f", then the data's filter of {leads.band[0]:g} to {leads.band[1]:g} Hz" if leads.band else ""
    unit = f", one unit of the signal counted as {leads.unit:g} mV" if leads.unit != 1 else ""
    return f"{amount}{filtered}{unit}; {_count_recordings(cohort, where)}"


def _count_recordings(cohort: Cohort, where: Where) -> str:
    return f"{len(np.unique(cohort.patient[selected_rows(cohort, where)]))} recordings{IN_WORDS[where]}"


def _phases(rng: np.random.Generator, tones: int, leads: _Leads) -> npt.NDArray[np.complex128]:
    """Return unit phasors `(tones, electrodes)`."""
    return np.asarray(np.exp(2j * np.pi * rng.random((tones, leads.mixing.shape[1]))))


def _add_tones(
    x: Signals, rows: Rows, allowed: Mask, leads: _Leads, hz: Floats, tones: npt.NDArray[np.complex128]
) -> None:
    """Add sinusoids of complex amplitude `(tones, leads)` in mV, as the data's filter leaves them."""
    samples = x.shape[2]
    size = tones * leads.passes(hz)[:, None] / leads.unit
    inside = np.exp(2j * np.pi * hz[:, None] * np.arange(samples) / leads.rate)
    basis = np.concatenate([inside.real, -inside.imag])
    start = np.exp(2j * np.pi * np.arange(len(rows))[allowed, None] * hz * samples / leads.rate)
    changed = rows[allowed]
    step = max(1, _CHUNK // samples)
    for first in range(0, len(changed), step):
        phase = start[first : first + step, None] * size.T  # (examples, leads, tones)
        leads.add(x, changed[first : first + step], np.concatenate([phase.real, phase.imag], axis=2) @ basis)


def _muscle_noise(leads: _Leads, length: int, rng: np.random.Generator) -> Signals:
    """Return noise `(leads, length)` of root mean square 1 before the data's filter, from 20 Hz upwards."""
    whole = scipy.fft.next_fast_len(max(length, int(leads.rate)), real=True)
    hz = scipy.fft.rfftfreq(whole, 1 / leads.rate)
    spectrum = scipy.fft.rfft(rng.standard_normal((leads.mixing.shape[1], whole), dtype=np.float32), axis=1)
    passed = hz >= EMG_FROM_HZ
    power = np.where(passed, np.where((hz == 0) | (2 * hz >= leads.rate), 1.0, 2.0), 0.0).sum() / whole
    spectrum *= np.where(passed, leads.passes(hz), 0.0).astype(np.float32) / np.float32(np.sqrt(power))
    return np.asarray(leads.mixing.astype(np.float32) @ scipy.fft.irfft(spectrum, n=whole, axis=1)[:, :length])


def _change_gain(cohort: Cohort, x: Signals, at: SiteShift, notes: Notes) -> None:
    option = at.options.gain
    if option is None:
        return
    for rows, allowed, rng in _recordings(cohort, option.where, at, "gain"):
        x[rows[allowed]] *= np.float32(option.factor * np.exp(option.spread * rng.standard_normal()))
    spread = f", spread {option.spread:g} between recordings" if option.spread else ""
    notes["gain"] = f"factor {option.factor:g}{spread}; {_count_recordings(cohort, option.where)}"


def _resample(cohort: Cohort, x: Signals, at: SiteShift, notes: Notes) -> None:
    """Resample down and back up; frequencies below half the lower rate stay."""
    option = at.options.sampling_rate
    if option is None:
        return
    rows, (channels, samples), rate = (
        np.flatnonzero(selected_rows(cohort, option.where)),
        x.shape[1:],
        cohort.task.rate_hz,
    )
    step = max(1, 16 * _CHUNK // (channels * samples))
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        fast = np.ascontiguousarray(x[part].reshape(-1, samples).T)
        slow = resample_and_filter(fast, rate, option.hz, None)
        x[part] = resample_and_filter(slow, option.hz, rate, None)[:samples].T.reshape(len(part), channels, samples)
    notes["sampling_rate"] = f"{option.hz:g} Hz; {_count_recordings(cohort, option.where)}"


def _round_to_steps(cohort: Cohort, x: Signals, at: SiteShift, leads: _Leads, notes: Notes) -> None:
    """Round the leads to the converter's steps, and change the leads minus their median beat by the same amounts."""
    option = at.options.resolution
    if option is None:
        return
    step, top = option.range_mv / 2**option.bits / leads.unit, 2 ** (option.bits - 1)
    rows = np.flatnonzero(selected_rows(cohort, option.where))
    clipped = 0
    for first in range(0, len(rows), 4096):
        part = rows[first : first + 4096]
        old = x[part][:, leads.channels].astype(np.float64)
        code = np.rint(old / step)
        clipped += int(((code < -top) | (code > top - 1)).sum())
        leads.add(x, part, np.clip(code, -top, top - 1) * step - old)
    lost = f", {clipped} samples clipped" if clipped else ""
    notes["resolution"] = (
        f"{option.bits} bits over {option.range_mv:g} mV, steps of {1000 * option.range_mv / 2**option.bits:.3g} uV"
        f"{lost}; {_count_recordings(cohort, option.where)}"
    )


def _rescale(before: Signals, x: Signals, rows: Rows) -> None:
    """Scale beats to [0, 1] again: each lead over the beat's own length, with zeros after it."""
    samples = x.shape[2]
    for first in range(0, len(rows), 4096):
        part = rows[first : first + 4096]
        length = samples - np.argmax((before[part] != 0).any(1)[:, ::-1], axis=1)
        valid = (np.arange(samples) < length[:, None])[:, None, :]
        low = np.where(valid, x[part], np.inf).min(-1, keepdims=True)
        high = np.where(valid, x[part], -np.inf).max(-1, keepdims=True)
        x[part] = np.where(valid, (x[part] - low) / np.maximum(high - low, 1e-6), 0)
