"""The signal of a simulated patient: the rhythm, the waves of each beat, and noise.

The signal is the model of McSharry, Clifford, Tarassenko and Smith (IEEE Transactions on Biomedical
Engineering 50(3):289-294, 2003). On its limit cycle

    z' = -sum_i a_i d_i exp(-d_i^2 / 2 b_i^2) - (z - z0)

where d_i is the phase less theta_i, and z0 the wandering baseline. With the phase at w = 2 pi a second, each
term is the slope of a Gaussian wave of height a_i b_i^2 / w and width b_i / w seconds. With G the sum of
these waves, z = G + u gives u' = -u + (z0 - G): a first-order filter, solved for all samples at once.

Two differences from the paper: every beat restarts the phase at its R wave, so that a pause does not stretch
the QRS, and T follows the square root of the interval before it (Bazett). A lead records each wave times the
cosine of the angle between the wave's direction and its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import signal as filters

from sites.ecg.simulate.patients import Floats, Patient
from sites.ecg.simulate.profiles import HospitalProfile


@dataclass(frozen=True)
class Beats:
    """The beats of one recording, in order."""

    times: Floats
    """R waves, s, `(beats,)`."""
    intervals: Floats
    """Time since the beat before, s, `(beats,)`."""
    kinds: str
    """AAMI classes, one letter a beat."""


def simulate_rhythm(patient: Patient, duration: float, rng: np.random.Generator) -> Beats:
    """Return the patient's beats over a little more than `duration` seconds."""
    normal_rr = _tachogram(patient, duration + 4, rng)
    kinds = _order(patient.mix, int(1.5 * duration / patient.rr) + 8, rng)
    times, intervals = [0.5 * patient.rr], [patient.rr]
    early = 1.0
    for before, kind in itertools.pairwise(kinds):
        match before + kind:
            case "NS" | "SS":
                early = factor = patient.prematurity * rng.uniform(0.93, 1.07)
            case "NV":
                early = factor = patient.coupling * rng.uniform(0.93, 1.07)
            case "VV":
                factor = rng.uniform(0.55, 0.70)
            case "NF":
                early = factor = rng.uniform(0.88, 1.0)
            case "VN" | "FN":
                factor = 2 - early  # compensatory: the sinus node was not reset
            case "SN":
                factor = rng.uniform(1.0, 1.1)  # not compensatory: the early beat reset it
            case _:
                factor = 1.0
        interval = factor * normal_rr[min(int(times[-1] * 4), len(normal_rr) - 1)]
        if times[-1] + interval > duration + 0.5:
            break
        times.append(times[-1] + interval)
        intervals.append(interval)
    return Beats(np.array(times), np.array(intervals), kinds[: len(times)])


def _tachogram(patient: Patient, duration: float, rng: np.random.Generator) -> Floats:
    """Return normal RR intervals (s), four a second: McSharry's two-humped spectrum with random phases."""
    count = max(64, int(duration * 4) // 2 * 2)
    f = np.fft.rfftfreq(count, 0.25)
    centres, weights = np.array([0.1, patient.breathing]), np.array([patient.lf_hf, 1.0])
    power = (weights[:, None] * np.exp(-0.5 * ((f - centres[:, None]) / 0.01) ** 2)).sum(axis=0)
    spectrum = np.sqrt(power) * np.exp(2j * np.pi * rng.random(f.size))
    spectrum[0] = 0.0
    course = np.fft.irfft(spectrum, count)
    limits = patient.rr * np.array([0.7, 1.4])
    return np.clip(patient.rr + course * patient.rr_sd / (course.std() or 1.0), *limits)


def _order(mix: Mapping[str, float], count: int, rng: np.random.Generator) -> str:
    """Return `count` classes of beats: S single or in short runs, V single, paired or in bigeminy, F single."""
    remaining = {kind: int(count * share + rng.random()) for kind, share in mix.items()}
    episodes: list[str] = []
    while remaining["S"] > 0:
        episodes.append("S" * min(remaining["S"], 1 if rng.random() < 0.85 else int(rng.integers(2, 6))))
        remaining["S"] -= len(episodes[-1])
    while remaining["V"] > 0:
        draw = rng.random()
        beats = min(remaining["V"], 1 if draw < 0.75 else 2 if draw < 0.88 else int(rng.integers(3, 7)))
        episodes.append("VV" if beats == 2 else "N".join("V" * beats))
        remaining["V"] -= beats
    episodes += ["F"] * remaining["F"]
    order = rng.permutation(len(episodes))
    spare = max(0, count - sum(map(len, episodes)) - len(episodes) - 3)
    gaps = 1 + rng.multinomial(spare, rng.dirichlet(np.ones(len(episodes) + 1)))
    gaps[0] += 2
    return "".join("N" * gap + episodes[k] for gap, k in zip(gaps, order, strict=False)) + "N" * int(gaps[-1])


def simulate_waves(
    patient: Patient, beats: Beats, samples: int, profile: HospitalProfile, rng: np.random.Generator
) -> Floats:
    """Return the model's signal z of each lead with its wandering baseline, mV, `(samples, leads)`."""
    rows = []
    for time, interval, kind in zip(beats.times, beats.intervals, beats.kinds, strict=True):
        breath = 1 + 0.05 * np.sin(2 * np.pi * patient.breathing * time)
        shape = _shape(patient, kind, rng)
        shape[:, 2] *= breath * rng.lognormal(0, 0.05, len(shape))
        slow = shape[:, 0] > 0.15  # repolarisation
        shape[slow, :2] *= np.sqrt(np.clip(interval, 0.4, 1.3))
        shape[:, 0] += time
        rows.append(shape)
    drawn = np.zeros((samples, len(profile.leads)))
    for block in range(0, len(rows), 256):  # the beats of a day at once would not fit in memory
        _draw(np.concatenate(rows[block : block + 256]), patient.directions, profile.rate, drawn)
    breathing = 2 * np.pi * patient.breathing * np.arange(samples) / profile.rate
    keep = np.exp(-1 / profile.rate)
    for g in drawn.T:
        fast, slow = (np.sin(rate + rng.uniform(0, 2 * np.pi)) for rate in (breathing, breathing / 7))
        drive = profile.wander * (fast + slow) - g
        u, _ = filters.lfilter([(1 - keep) / 2] * 2, [1, -keep], drive, zi=[drive.mean() * (1 + keep) / 2])
        g += u  # a view: fills `drawn`
    return drawn


def _draw(shapes: Floats, directions: Floats, rate: int, target: Floats) -> None:
    """Add Gaussian waves `(waves, 4)`, with times in place of delays, to `target`, mV, `(samples, leads)`."""
    at, width, height, direction = shapes.T
    reach = int(4.5 * width.max() * rate)
    index = np.rint(at * rate).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    wave = np.exp(-0.5 * ((index / rate - at[:, None]) / width[:, None]) ** 2)
    inside = (index >= 0) & (index < len(target))
    if not inside.any():
        return
    index, first = index[inside], int(index[inside].min())
    for lead, angle in enumerate(directions):
        projected = wave * (height * np.cos(direction - angle))[:, None]
        total = np.bincount(index - first, weights=projected[inside])
        target[first : first + len(total), lead] += total


def _shape(patient: Patient, kind: str, rng: np.random.Generator) -> Floats:
    """Return a copy of the waves of a beat, `(waves, 4)`."""
    if kind == "F":
        share = rng.uniform(0.25, 0.75)
        normal, ectopic = patient.shapes["N"][0].copy(), _shape(patient, "V", rng)
        normal[1:, 2] *= share  # P came before the two fronts met
        ectopic[:, 2] *= 1 - share
        return np.vstack([normal, ectopic])
    choices = patient.shapes[kind]
    rarer = len(choices) > 1 and rng.random() < 0.2
    return choices[1 if rarer else 0].copy()


def simulate_noise(
    patient: Patient, samples: int, profile: HospitalProfile, rng: np.random.Generator
) -> tuple[Floats, list[int]]:
    """Return muscle noise and mains hum, mV, `(samples, leads)`, and the samples at which bursts start."""
    leads, rate = len(profile.leads), profile.rate
    burst = np.zeros(samples)
    bursts = []
    for _ in range(rng.poisson(samples / rate / 150)):
        length = min(int(rng.uniform(2, 8) * rate), samples)
        start = int(rng.integers(0, samples - length + 1))
        swell = burst[start : start + length]
        np.maximum(swell, rng.uniform(3, 7) * np.hanning(length), out=swell)
        bursts.append(start)
    band = filters.butter(2, (15, min(0.45 * rate, 150)), "bandpass", fs=rate, output="sos")
    muscle = filters.sosfilt(band, rng.standard_normal((samples, leads)), axis=0)
    muscle *= profile.noise * patient.noisiness / muscle.std() * (1 + burst[:, None])
    phase = 2 * np.pi * profile.mains * np.arange(samples)[:, None] / rate + rng.uniform(0, 6.3, leads)
    return muscle + profile.hum * rng.uniform(0.5, 1.5, leads) * np.sin(phase), bursts
