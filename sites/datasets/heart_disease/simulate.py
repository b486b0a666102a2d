"""Simulated hospitals in the layout of UCI Heart Disease: files `processed.<hospital>.data` of no real patients.

Age, sex, pressure, cholesterol and sugar make narrowed arteries more or less likely; narrowed arteries affect the chest
pain and the exercise test (lower heart rate, ST depression, pain), and most clearly fluoroscopy and the thallium scan.
Hospitals differ in their patients, in the share of ill ones, and in what they measure and record.

A model trained on these data describes a simulation. Its performance says nothing about patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.seeds import rng_for
from sites.synthetic_folder import build_folder

VERSION = 1
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """How one hospital differs.

    Attributes:
        age: mean age, years.
        men: share of men.
        ill: added to the log odds of disease.
        referral: share with a thallium scan and fluoroscopy.
        tests: share with a complete exercise test.
        blood: share with pressure and fasting sugar.
        chol: share with cholesterol.
        zero: whether a missing cholesterol is written as 0, as some hospitals do, and not as ?.
    """

    age: float
    men: float
    ill: float
    referral: float
    tests: float
    blood: float
    chol: float
    zero: bool = False


PROFILES = {
    "north": Profile(age=54, men=0.68, ill=0.0, referral=0.99, tests=1.0, blood=1.0, chol=1.0),
    "south": Profile(age=48, men=0.72, ill=0.1, referral=0.05, tests=0.99, blood=0.97, chol=0.92),
    "west": Profile(age=55, men=0.92, ill=1.8, referral=0.30, tests=0.97, blood=0.60, chol=0.0, zero=True),
    "east": Profile(age=60, men=0.97, ill=0.6, referral=0.10, tests=0.73, blood=0.72, chol=0.75, zero=True),
}


def generate(folder: Path, *, hospitals: int, patients: int, seed: int) -> None:
    """Write `patients` rows for each of `hospitals`; a hospital's bytes do not depend on the other hospitals.

    The first four have PROFILES, the others a profile drawn at random.

    Raises:
        DataError: the folder holds something else.
    """
    sentence = f"{hospitals} hospitals of {patients} in UCI Heart Disease's layout, seed {seed}, version {VERSION}"
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        for index in range(hospitals):
            name = list(PROFILES)[index] if index < len(PROFILES) else f"hospital-{index + 1:03d}"
            rng = rng_for(seed, "heart_disease", name)
            profile = PROFILES[name] if name in PROFILES else _draw_profile(rng)
            (build / f"processed.{name}.data").write_text("".join(_draw_lines(profile, patients, rng)))


def _draw_profile(rng: np.random.Generator) -> Profile:
    """Return a profile within the range of PROFILES."""
    share = rng.beta(1.5, 1.5, 4)
    return Profile(
        age=rng.uniform(47, 61),
        men=rng.uniform(0.6, 0.97),
        ill=rng.uniform(-0.3, 1.2),
        referral=float(share[0]),
        tests=float(0.7 + 0.3 * share[1]),
        blood=float(0.6 + 0.4 * share[2]),
        chol=float(0.4 + 0.6 * share[3]),
        zero=bool(rng.random() < 0.5),
    )


def _draw_lines(profile: Profile, count: int, rng: np.random.Generator) -> list[str]:
    """Return the lines of a file of `count` patients."""
    age = np.clip(rng.normal(profile.age, 8.5, count), 28, 79).round()
    male = rng.random(count) < profile.men
    pressure = np.clip(rng.normal(131 + 0.5 * (age - 54), 17, count), 84, 220)
    chol = np.clip(rng.normal(240 - 12 * male + 0.6 * (age - 54), 48, count), 100, 560)
    sugar = rng.random(count) < 0.13 + 0.004 * np.maximum(age - 50, 0)
    risk = 0.06 * (age - 54) + 1.3 * (male - 0.75) + 0.012 * (pressure - 131) + 0.008 * (chol - 235) + 0.5 * sugar
    ill = rng.random(count) < 1 / (1 + np.exp(-risk - profile.ill))
    burden = np.where(ill, rng.gamma(2.0, 0.5, count), 0.0)

    pain = _draw_codes(rng, np.where(ill[:, None], (0.05, 0.12, 0.23, 0.60), (0.08, 0.28, 0.31, 0.33)), (1, 2, 3, 4))
    ecg = _draw_codes(rng, np.where(ill[:, None], (0.50, 0.22, 0.28), (0.67, 0.11, 0.22)), (0, 1, 2))
    rate = np.clip(rng.normal(205 - 0.95 * age - np.where(ill, 6 + 3 * burden, 0), 19, count), 62, 202)
    angina = rng.random(count) < np.where(ill, 0.48, 0.19)
    depression = np.maximum(rng.normal(-0.25 + np.where(ill, 0.45 + 0.4 * burden, 0.3), 0.9, count), 0)
    flat = rng.random(count) < 1 / (1 + np.exp(0.9 - 1.3 * depression - 0.3 * ill))
    slope = np.where(flat, np.where(rng.random(count) < 0.13, 3, 2), 1)
    vessels = np.where(ill, np.minimum(rng.poisson(0.4 + 0.5 * burden), 3), rng.random(count) < 0.22)
    scan = _draw_codes(rng, np.where(ill[:, None], (0.40, 0.09, 0.51), (0.70, 0.06, 0.24)), (3, 6, 7))
    grade = np.where(ill, np.minimum(1 + burden.astype(int) + (rng.random(count) < 0.4), 4), 0)

    tested = rng.random(count) < profile.tests
    referred = rng.random(count) < profile.referral
    with_chol = rng.random(count) < profile.chol
    drawn, taken = rng.random((2, count)) < profile.blood
    tilted = tested & (rng.random(count) < 0.3 + 0.7 * profile.referral + 0.2 * (depression > 0))
    columns: list[tuple[Floats | npt.NDArray[np.bool_], npt.NDArray[np.bool_] | bool]] = [
        (age, True),
        (male, True),
        (pain, True),
        (pressure.round(), taken),
        (np.where(with_chol, chol.round(), 0), with_chol | profile.zero),
        (sugar, drawn),
        (ecg, rng.random(count) < 0.995),
        (rate.round(), tested),
        (angina, tested),
        (depression.round(1), tested),
        (slope, tilted),
        (vessels, referred),
        (scan, referred | (rng.random(count) < 0.2)),
        (grade, True),
    ]
    written = [
        [f"{value:g}" if there else "?" for value, there in zip(values, np.broadcast_to(known, count), strict=True)]
        for values, known in columns
    ]
    return [",".join(cells) + "\n" for cells in zip(*written, strict=True)]


def _draw_codes(rng: np.random.Generator, probability: Floats, codes: tuple[int, ...]) -> Floats:
    """Return a code for each row of `probability`, `(rows, codes)`."""
    cumulative = probability.cumsum(1)
    index = (rng.random(len(probability))[:, None] > cumulative[:, :-1]).sum(1)
    drawn: Floats = np.asarray(codes, dtype=np.float64)[index]
    return drawn
