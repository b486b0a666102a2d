"""Simulated patients: heart rate, axis, waves and ectopy, drawn once for a recording.

Centres and spreads are our own choice around Table I of

    P. E. McSharry, G. D. Clifford, L. Tarassenko, L. A. Smith, "A dynamical model for generating synthetic
    electrocardiogram signals", IEEE Transactions on Biomedical Engineering 50(3):289-294, 2003.

The paper has normal beats only; the premature, wide and fused ones are ours, after textbook descriptions. Some patients
are difficult on purpose: atrial beats that are hardly premature, sinus rhythms that follow breathing, bundle branch
blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from common.seeds import rng_for
from sites.ecg.simulate.profiles import ECTOPY, LEAD_DEGREES, HospitalProfile

Floats: TypeAlias = npt.NDArray[np.float64]

# McSharry 2003, Table I, for P Q R S T: angle theta (rad), height a, width b (rad), at one turn a second.
THETA = np.array([-math.pi / 3, -math.pi / 12, 0.0, math.pi / 12, math.pi / 2])
A = np.array([1.2, -5.0, 30.0, -7.5, 0.75])
B = np.array([0.25, 0.1, 0.1, 0.1, 0.4])


@dataclass(frozen=True)
class Patient:
    """The properties of one simulated person that are constant during a recording."""

    age: int
    """Years."""
    sex: str
    """`F` or `M`."""
    rr: float
    """Mean time between normal beats (s)."""
    rr_sd: float
    """Standard deviation of that time (s)."""
    lf_hf: float
    """Ratio of the tachogram's power around 0.1 Hz to that around the breathing frequency."""
    breathing: float
    """Breaths a second (Hz)."""
    directions: Floats
    """Direction of each lead on this body, rad, `(leads,)`."""
    normal: str
    """Annotation symbol of the normal beats: `N`, `L` or `R`."""
    shapes: Mapping[str, tuple[Floats, ...]]
    """Shapes of each AAMI class, `(waves, 4)`: delay after R and width (s), height (mV), direction (rad)."""
    prematurity: float
    """Time from a beat to a following S, as a share of the normal one."""
    coupling: float
    """The same for V."""
    mix: Mapping[str, float]
    """This patient's shares of S, V and F."""
    noisiness: float
    """Factor on the hospital's muscle noise."""


def draw_patients(profile: HospitalProfile, seed: int) -> Iterator[Patient]:
    """Yield the hospital's patients in order, independent of the other hospitals."""
    shares = _unequal_shares(profile, rng_for(seed, "ectopy", profile.name))
    for index in range(profile.patients):
        mix = {kind: float(shares[kind][index]) for kind in ECTOPY}
        yield _patient(profile, mix, rng_for(seed, "patient", profile.name, index))


def _unequal_shares(profile: HospitalProfile, rng: np.random.Generator) -> dict[str, Floats]:
    """Return each patient's share of the ectopic classes, `(patients,)` a class: log-normal, few patients have most."""
    count = profile.patients
    normal = NormalDist()
    weights = np.exp([1.1 * normal.inv_cdf((k + 0.5) / count) for k in range(count)])
    few = np.where(np.arange(count) >= math.floor(0.65 * count), weights, 0.0)
    by_v = rng.permutation(count)
    drawn = {"S": weights[rng.permutation(count)], "V": weights[by_v], "F": few[by_v]}
    shares = {kind: profile.mix.get(kind, 0.0) * w / w.mean() for kind, w in drawn.items()}
    excess = np.maximum(sum(shares.values()) / 0.5, 1.0)
    return {kind: share / excess for kind, share in shares.items()}


def _patient(profile: HospitalProfile, mix: Mapping[str, float], rng: np.random.Generator) -> Patient:
    age = int(np.clip(rng.normal(profile.age, 13), 19, 92))
    rr = 60 / float(np.clip(rng.normal(profile.heart_rate, 9), 48, 108))
    breathes = rng.random() < 0.25  # respiratory arrhythmia: normal beats that come early too
    normal = str(rng.choice(["L", "R"])) if rng.random() < profile.bundle_branch else "N"
    axis = math.radians(rng.uniform(25, 80))
    sinus = _sinus_shape(normal, axis, rng)
    ectopic = [_ventricular_shape(axis, rng) for _ in range(1 if rng.random() < 0.7 else 2)]
    subtle = rng.random() < 0.3
    return Patient(
        age=age,
        sex="F" if rng.random() < 0.5 else "M",
        rr=rr,
        rr_sd=rr * float(rng.uniform(0.06, 0.10) if breathes else rng.uniform(0.015, 0.045)),
        lf_hf=0.15 if breathes else float(rng.uniform(0.4, 1.5)),
        breathing=float(rng.uniform(0.2, 0.32)),
        directions=np.radians([LEAD_DEGREES[lead] + rng.normal(0, 10) for lead in profile.leads]),
        normal=normal,
        shapes={"N": (sinus,), "S": _atrial_shapes(sinus, rng), "V": tuple(ectopic), "F": ()},
        prematurity=float(rng.uniform(0.82, 0.92) if subtle else rng.uniform(0.60, 0.80)),
        coupling=float(rng.uniform(0.55, 0.85)),
        mix=mix,
        noisiness=float(rng.lognormal(0, 0.35)),
    )


def _sinus_shape(normal: str, axis: float, rng: np.random.Generator) -> Floats:
    """Return rows P Q R S T around the published ones, and a late row if a bundle branch is blocked."""
    delay = THETA / (2 * math.pi) * rng.uniform(0.85, 1.15, 5)
    width = B / (2 * math.pi) * rng.lognormal(0, 0.1, 5)
    height = A * B**2 / (A[2] * B[2] ** 2) * rng.lognormal(0, 0.25, 5)
    direction = axis + np.radians(rng.normal([5, 10, 0, 40, 0], [8, 12, 0, 15, 15]))
    delay[1:4] *= 0.75  # Table I's QRS lasts 140 ms; a healthy one about 100 ms
    width[1:4] *= 0.75
    height *= rng.lognormal(0, 0.15)
    waves = np.stack([delay, width, height, direction], axis=1)
    if normal == "N":
        return waves
    late = [rng.uniform(0.045, 0.055), rng.uniform(0.018, 0.024), rng.uniform(0.4, 0.6) * height[2], axis]
    if normal == "L":
        waves[1:4, 2] *= [0.0, 1.0, 0.3]
        waves[2, 1] = rng.uniform(0.017, 0.022)
        waves[4, 2] *= -0.5  # repolarisation against the QRS
    else:
        late[3] = math.radians(rng.uniform(170, 200))  # the right ventricle comes last, towards V1
    return np.vstack([waves, late])


def _atrial_shapes(sinus: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the premature atrial beat with the patient's own QRS, and the one conducted aberrantly."""
    plain = sinus.copy()
    plain[0, 2] *= rng.choice([-0.8, 0.0, 0.5])  # P inverted, hidden, or small
    plain[0, 0] *= rng.uniform(0.65, 0.95)
    towards_v1 = math.radians(rng.uniform(160, 210))
    size = rng.uniform(0.25, 0.5) * sinus[2, 2]
    slow = [rng.uniform(0.035, 0.05), rng.uniform(0.015, 0.022), size, towards_v1]
    aberrant = np.vstack([plain, slow])
    aberrant[1:4, 1] *= 1.15
    return plain, aberrant


def _ventricular_shape(axis: float, rng: np.random.Generator) -> Floats:
    """Return a wide wave with a shoulder and a T wave against it; no P wave."""
    if rng.random() < 0.55:
        direction = math.radians(rng.uniform(25, 95))
    else:
        direction = axis + math.pi + math.radians(rng.uniform(-35, 35))
    height = rng.uniform(1.1, 2.0)
    side = rng.choice([-1.0, 1.0])
    aside = direction + rng.normal(0, 0.4)
    front = [0.0, rng.uniform(0.030, 0.042), height, direction]
    shoulder = [side * rng.uniform(0.055, 0.075), 0.028, rng.uniform(-0.2, 0.4) * height, aside]
    t_height = rng.uniform(0.25, 0.4) * height
    t_wave = [rng.uniform(0.27, 0.33), rng.uniform(0.055, 0.075), t_height, direction + math.pi]
    return np.array([front, shoulder, t_wave])
