"""Simulated 15-lead ECGs of healthy and ill hearts, which belong to nobody.

The heart is a dipole whose course is the sum of Gaussian waves of McSharry, Clifford, Tarassenko and Smith
(IEEE Trans. Biomed. Eng. 50(3):289-294, 2003), on three axes as Sameni, Clifford, Jutten and Shamsollahi
extend it (EURASIP J. Adv. Signal Process. 2007:043407): x to the left, y to the feet, z to the back. The 12 leads
follow from the axes by Dower's matrix (Dower, Machado, Osborne 1980, Clin. Cardiol. 3:87-95); the Frank
leads are the axes themselves.

An infarction points away from the dead wall where the beat begins (Q waves), towards it while it is fresh (ST
elevation), and turns its T wave. Its extent is drawn for each patient, so that some infarctions hardly show and
some healthy hearts look unusual: after textbooks, in proportions of our own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import signal as filters

from common.seeds import rng_for
from sites.ecg.simulate.patients import Floats, Patient
from sites.ecg.simulate.waveforms import simulate_rhythm

Condition = Literal["healthy", "infarction", "block", "hypertrophy", "repolarisation", "irregular"]

_I, _II = (0.632, -0.235, 0.059), (0.235, 1.066, -0.132)
_CHEST = (
    (-0.515, 0.157, -0.917),
    (0.044, 0.164, -1.387),
    (0.882, 0.098, -1.277),
    (1.213, 0.127, -0.601),
    (1.125, 0.127, -0.086),
    (0.831, 0.076, 0.230),
)


def lead_matrix() -> Floats:
    """Return the weights of the axes in each lead, `(15, 3)`: the 12 standard leads, then Frank's x, y, z.

    III, aVR, aVL and aVF follow from I and II (Einthoven, Goldberger).
    """
    one, two = np.array(_I), np.array(_II)
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.vstack([limbs, _CHEST, np.eye(3)])


WALLS: Mapping[str, tuple[float, float, float]] = {
    "inferior": (0.0, 1.0, 0.0),
    "anterior": (0.25, 0.0, -0.97),
    "antero-septal": (-0.2, 0.0, -0.98),
    "antero-lateral": (0.75, -0.1, -0.65),
    "infero-lateral": (0.65, 0.76, 0.0),
}
"""Direction from the middle of the heart to the infarcted wall."""


@dataclass(frozen=True)
class Heart:
    """One simulated person's heart."""

    age: int
    """Years."""
    sex: Literal["female", "male"]
    condition: Condition
    wall: str
    """The infarcted wall, or ""."""
    acute: bool
    """Whether the infarction is fresh."""
    beat: Patient
    """Rate and rhythm."""
    waves: Floats
    """`(waves, 5)`: delay after R (s), width (s), and height on x, y, z (mV)."""


def draw_heart(condition: Condition, rng: np.random.Generator) -> Heart:
    """Draw a person with a condition."""
    centre = 46 if condition == "healthy" else 60
    age = int(np.clip(rng.normal(centre, 12), 18, 89))
    rr = 60 / float(np.clip(rng.normal(72, 11), 48, 110))
    irregular = condition == "irregular"
    beat = Patient(
        age=age,
        sex="",
        rr=rr,
        rr_sd=rr * float(rng.uniform(0.12, 0.2) if irregular else rng.uniform(0.015, 0.05)),
        lf_hf=float(rng.uniform(0.4, 1.5)),
        breathing=float(rng.uniform(0.2, 0.32)),
        directions=np.zeros(0),
        normal="N",
        shapes={},
        prematurity=0.7,
        coupling=0.7,
        mix={"S": 0.0, "V": 0.0, "F": 0.0},
        noisiness=float(rng.lognormal(0, 0.35)),
    )
    waves = _sinus(rng)
    wall, acute = "", False
    if condition == "infarction":
        wall = str(rng.choice(list(WALLS)))
        acute = bool(rng.random() < 0.5)
        waves = _infarct(waves, np.array(WALLS[wall]), acute, float(rng.uniform(0.05, 1.0)), rng)
    elif condition == "block":
        late = np.array([0.6, 0.1, 0.4]) * rng.uniform(0.7, 1.2) * rng.choice([-1.0, 1.0])
        waves[1:4, 1] *= 1.4
        waves = np.vstack([waves, [rng.uniform(0.045, 0.06), 0.02, *late]])
        waves[4, 2:] *= -0.5
    elif condition == "hypertrophy":
        waves[1:4, 2:] *= rng.uniform(1.5, 2.0)
        waves[4, 2:] *= rng.uniform(-0.6, 0.3)
    elif condition == "repolarisation":
        waves[1:4, 2:] *= rng.uniform(0.5, 0.8)
        waves[4, 2:] *= rng.uniform(-0.6, 0.2)
    return Heart(age, "female" if rng.random() < 0.3 else "male", condition, wall, acute, beat, waves)


def _sinus(rng: np.random.Generator) -> Floats:
    """Return the waves P Q R S T of a healthy heart; some look unusual."""
    shape = np.array(
        [
            [-0.165, 0.025, 0.06, 0.12, -0.01],
            [-0.022, 0.010, -0.15, -0.10, -0.22],
            [0.0, 0.0125, 1.05, 0.80, 0.25],
            [0.026, 0.0125, -0.25, -0.10, 0.45],
            [0.27, 0.052, 0.30, 0.24, -0.18],
        ]
    )
    shape[:, 0] *= rng.uniform(0.9, 1.1)
    shape[:, 1] *= rng.lognormal(0, 0.1, 5)
    size = np.linalg.norm(shape[:, 2:], axis=1, keepdims=True)
    shape[:, 2:] += rng.normal(0, 0.16, (5, 3)) * size
    shape[:, 2:] *= rng.lognormal(0, 0.2, (5, 1)) * rng.lognormal(0, 0.2)
    shape[:, 2:] = shape[:, 2:] @ _turn(rng.normal(0, 0.2, 3)).T
    variant = rng.random()
    if variant < 0.12:  # a flat T
        shape[4, 2:] *= rng.uniform(0.0, 0.4)
    elif variant < 0.22:  # early repolarisation: ST is elevated in the direction of T
        shape = np.vstack([shape, [0.11, 0.045, *(shape[4, 2:] * rng.uniform(0.2, 0.4))]])
    elif variant < 0.32:  # a deep septal q
        shape[1, 2:] *= rng.uniform(1.5, 2.2)
    return shape


def _turn(angles: Floats) -> Floats:
    """Return a rotation by three angles (rad) about x, y, z."""
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [k for k in range(3) if k != axis]
        one = np.eye(3)
        one[[i, j], [i, j]] = math.cos(angle)
        one[i, j], one[j, i] = -math.sin(angle), math.sin(angle)
        rotation = one @ rotation
    return rotation


def _infarct(shape: Floats, wall: Floats, acute: bool, extent: float, rng: np.random.Generator) -> Floats:
    """Return the waves of a heart with an infarction of one wall; `extent` from 0, none, to 1, large."""
    wall = wall / np.linalg.norm(wall)
    waves = shape.copy()
    strength = float(np.linalg.norm(shape[2, 2:]))
    towards = max(0.0, float(shape[2, 2:] @ wall))
    waves[2, 2:] -= 0.6 * extent * towards * wall
    away = -extent * rng.uniform(0.25, 0.5) * (0.5 if acute else 1.0) * strength * wall
    rows = [[-0.020, 0.0125, *away]]
    if acute:
        rows.append([rng.uniform(0.10, 0.14), 0.05, *(extent * rng.uniform(0.15, 0.35) * wall)])
        waves[4, 2:] += extent * rng.uniform(0.0, 0.3) * wall
    else:
        waves[4, 2:] -= extent * rng.uniform(0.25, 0.6) * wall
    return np.vstack([waves, rows])


def simulate_recording(person: Heart, seconds: float, rate: int, rng: np.random.Generator) -> Floats:
    """Return one recording of a person in mV, `(samples, 15)`, with breathing, baseline, muscle and mains."""
    samples = round(seconds * rate)
    beats = simulate_rhythm(person.beat, seconds, rng)
    axes = np.zeros((samples, 3))
    electrodes = rng.lognormal(0, 0.05)
    for time, interval in zip(beats.times, beats.intervals, strict=True):
        shape = person.waves.copy()
        slow = shape[:, 0] > 0.08
        shape[slow, 0] *= math.sqrt(min(max(interval, 0.4), 1.3))
        shape[:, 2:] *= electrodes * (1 + 0.05 * math.sin(2 * math.pi * person.beat.breathing * time))
        for delay, width, *height in shape:
            centre = time + delay
            first = max(0, math.ceil((centre - 4.5 * width) * rate))
            last = min(samples, math.floor((centre + 4.5 * width) * rate) + 1)
            if first < last:
                wave = np.exp(-0.5 * ((np.arange(first, last) / rate - centre) / width) ** 2)
                axes[first:last] += wave[:, None] * height
    potential = axes @ lead_matrix().T
    clock = np.arange(samples)[:, None] / rate
    leads = potential.shape[1]
    for frequency in (person.beat.breathing, person.beat.breathing / 7):
        sway = rng.uniform(0.02, 0.12, leads)
        potential += sway * np.sin(2 * np.pi * frequency * clock + rng.uniform(0, 6.3, leads))
    band = filters.butter(2, (15, min(0.45 * rate, 150)), "bandpass", fs=rate, output="sos")
    muscle = filters.sosfilt(band, rng.standard_normal((samples, leads)), axis=0)
    potential += muscle * (0.015 * person.beat.noisiness / muscle.std())
    return np.asarray(
        potential + rng.uniform(0, 0.01, leads) * np.sin(2 * np.pi * 50 * clock + rng.uniform(0, 6.3, leads))
    )


def draw_conditions(count: int, shares: Mapping[Condition, float], seed: int, where: str) -> list[Condition]:
    """Return `count` conditions in the proportions of `shares`, shuffled; each with a share occurs if possible."""
    names = sorted(shares)
    weight = np.array([shares[name] for name in names])
    exact = weight / weight.sum() * count
    sizes = np.floor(exact).astype(int)
    for i in np.argsort(-(exact - sizes), kind="stable")[: count - int(sizes.sum())]:
        sizes[i] += 1
    every = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    return [every[i] for i in rng_for(seed, "conditions", where).permutation(count)]
