"""Simulated patients in the layout of the PhysioNet/CinC Challenge 2019: hourly `.psv` files of no real patients.

Each patient has a course of illness, which falls, fluctuates or rises; with sepsis it rises from about twelve hours
before onset. Vital signs and blood values follow it, with noise and each patient's own level, and others are ill
without sepsis. Staff measure more often when a patient looks ill. Hospital A sees more sepsis and draws blood gases;
hospital B measures less often, and always all blood pressures.

A model trained on these data describes a simulation. Its performance says nothing about patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.seeds import rng_for
from sites.datasets.sepsis.columns import LABEL, LABS, NAMES, VITALS
from sites.datasets.sepsis.utility import AHEAD, LATE
from sites.synthetic_folder import MARKER, build_folder

VERSION = 1
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """How one hospital differs.

    Attributes:
        first: number of its first patient.
        sepsis: share of patients with sepsis.
        age: mean age, years.
        ward: mean hours in hospital before intensive care.
        units: share of patients whose unit is recorded.
        signs: share of hours with a vital sign.
        temperature: share of hours with a temperature.
        diastolic: share of hours with a diastolic pressure.
        gases: share of hours with blood gases.
        draws: blood draws a day.
    """

    first: int
    sepsis: float
    age: float
    ward: float
    units: float
    signs: float
    temperature: float
    diastolic: float
    gases: float
    draws: float


PROFILES = {
    "A": Profile(1, 0.16, 62, 40, 0.5, 0.91, 0.34, 0.5, 0.10, 3.0),
    "B": Profile(100_001, 0.10, 60, 60, 0.7, 0.86, 0.30, 0.86, 0.02, 1.6),
}

LEVELS: dict[str, tuple[float, float, float, float, int]] = {
    "HR": (82, 11, 5, 11.0, 0), "O2Sat": (97.5, 1.2, 1.0, -1.3, 0), "Temp": (36.8, 0.25, 0.2, 0.55, 2),
    "SBP": (122, 14, 8, -9.0, 0), "MAP": (82, 9, 5, -7.0, 0), "DBP": (62, 8, 5, -6.0, 0),
    "Resp": (17.5, 2.5, 2.2, 3.2, 0), "EtCO2": (34, 4, 3, -1.5, 0),
    "BaseExcess": (0.5, 2, 1.0, -1.8, 1), "HCO3": (24.5, 2.5, 1.0, -1.5, 0), "FiO2": (0.40, 0.08, 0.03, 0.07, 2),
    "pH": (7.40, 0.03, 0.02, -0.03, 2), "PaCO2": (40, 5, 3, -1.5, 0), "SaO2": (97, 1.5, 1.0, -1.5, 0),
    "AST": (60, 30, 10, 30.0, 0), "BUN": (20, 8, 2, 6.0, 0), "Alkalinephos": (85, 25, 5, 10.0, 0),
    "Calcium": (8.5, 0.5, 0.2, -0.2, 1), "Chloride": (105, 4, 1.5, 0.5, 0), "Creatinine": (1.0, 0.35, 0.08, 0.35, 2),
    "Bilirubin_direct": (0.4, 0.2, 0.1, 0.3, 1), "Glucose": (128, 22, 14, 9.0, 0), "Lactate": (1.5, 0.4, 0.2, 0.8, 1),
    "Magnesium": (2.0, 0.2, 0.1, 0.0, 1), "Phosphate": (3.5, 0.7, 0.3, 0.2, 1), "Potassium": (4.1, 0.35, 0.2, 0.1, 1),
    "Bilirubin_total": (0.9, 0.4, 0.1, 0.5, 1), "TroponinI": (0.8, 0.5, 0.2, 0.2, 2), "Hct": (31, 4, 1.0, -0.8, 1),
    "Hgb": (10.4, 1.4, 0.4, -0.3, 1), "PTT": (33, 6, 3, 4.0, 1), "WBC": (10.5, 2.6, 1.0, 2.4, 1),
    "Fibrinogen": (270, 60, 15, 20.0, 0), "Platelets": (205, 60, 12, -25.0, 0),
}  # fmt: skip
"""Mean of each variable, standard deviation between patients and within one, effect of illness, decimals."""

PANELS = (
    (0.80, ("BUN", "Chloride", "Creatinine", "Glucose", "HCO3", "Potassium", "Magnesium", "Phosphate", "Calcium")),
    (0.75, ("Hct", "Hgb", "WBC", "Platelets")),
    (0.35, ("PTT",)),
    (0.12, ("AST", "Alkalinephos", "Bilirubin_total")),
    (0.06, ("Fibrinogen", "TroponinI", "Bilirubin_direct")),
)
GASES = ("BaseExcess", "FiO2", "pH", "PaCO2", "SaO2", "Lactate")


def generate(folder: Path, *, patients: int, seed: int) -> None:
    """Write `patients` files for each of PROFILES: `training/training_setA/p000001.psv` and so on.

    The same arguments give the same bytes, and a hospital's bytes do not depend on the other.

    Raises:
        DataError: the folder holds something else.
    """
    sentence = (
        f"{len(PROFILES)} hospitals of {patients} in the layout of challenge-2019, seed {seed}, version {VERSION}"
    )
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        for name, profile in PROFILES.items():
            home = build / "training" / f"training_set{name}"
            home.mkdir(parents=True)
            (home / MARKER).write_text(f"SYNTHETIC: one hospital of {sentence}\n")
            for number in range(patients):
                rng = rng_for(seed, "sepsis", name, number)
                text = _draw_file(profile, number < round(profile.sepsis * patients), rng)
                (home / f"p{profile.first + number:06d}.psv").write_text(text)


def _draw_file(profile: Profile, septic: bool, rng: np.random.Generator) -> str:
    """Return a patient's file; the label is 1 from AHEAD hours before onset, and the record ends LATE hours after."""
    hours = int(np.clip(rng.gamma(5, 8), 10, 120))
    onset = int(rng.integers(8, 60)) if septic else None
    if onset is not None:
        hours = onset + int(LATE) + 1
    time = np.arange(hours)
    illness = rng.gamma(1.6, 0.35) + _correlated_noise(rng, hours, 0.35)
    if rng.random() < 0.3:
        illness += 0.7 * np.exp(-((time - rng.uniform(0, hours)) ** 2) / (2 * rng.uniform(4, 12) ** 2))
    if onset is not None:
        illness += rng.uniform(0.5, 1.6) / (1 + np.exp(-(time - onset + 8) / 3)) + rng.uniform(0, 0.6)
    age = float(np.clip(rng.normal(profile.age, 16), 18, 90))
    cells = np.full((hours, len(NAMES)), np.nan)
    column = {name: j for j, name in enumerate(NAMES)}
    for name, (level, between, within, slope, decimals) in LEVELS.items():
        value = level + rng.normal(0, between) + slope * illness + _correlated_noise(rng, hours, within)
        top = 100 if name in ("O2Sat", "SaO2") else 1 if name == "FiO2" else np.inf
        low = -30 if name == "BaseExcess" else 0.2 * level
        cells[:, column[name]] = np.clip(value, low, top).round(decimals)
    known = _draw_measured(profile, illness, hours, rng)
    cells[:, : known.shape[1]][~known] = np.nan
    unit = rng.integers(2) if rng.random() < profile.units else np.nan
    ward = -rng.exponential(profile.ward)
    start = int(rng.integers(1, 6)) if rng.random() < 0.2 else 1
    fixed = (round(age, 2), rng.integers(2), unit, 1 - unit, round(ward, 2))
    cells[:, -6:-1] = fixed
    cells[:, -1] = start + time
    label = time >= (np.inf if onset is None else onset - AHEAD)
    lines = ["|".join([*NAMES, LABEL])]
    lines += [
        "|".join(["NaN" if value != value else f"{value:.8g}" for value in row] + [str(int(sick))])
        for row, sick in zip(cells.tolist(), label, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _draw_measured(profile: Profile, illness: Floats, hours: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which of the vital signs and laboratory values were measured when, `(hours, 34)`."""
    names = [column.name for column in (*VITALS, *LABS)]
    rare = {"Temp": profile.temperature, "DBP": profile.diastolic, "EtCO2": 0.0 if profile.gases > 0.05 else 0.08}
    probability = np.array([rare.get(column.name, profile.signs) for column in VITALS])
    measured = np.zeros((hours, len(names)), dtype=bool)
    measured[:, : len(VITALS)] = rng.random((hours, len(VITALS))) < probability
    measured[0, : len(VITALS)] &= rng.random() < 0.5
    worry = np.exp(0.5 * (illness - 0.7))
    drawn = rng.random(hours) < np.minimum(profile.draws / 24 * worry, 0.9)
    for share, panel in PANELS:
        taken = drawn & (rng.random(hours) < share)
        measured[:, [names.index(name) for name in panel]] = taken[:, None]
    gas = rng.random(hours) < np.minimum(profile.gases * worry, 0.9)
    measured[:, [names.index(name) for name in GASES]] = gas[:, None]
    return measured


def _correlated_noise(rng: np.random.Generator, hours: int, size: float) -> Floats:
    """Return noise of standard deviation `size` with an autocorrelation of 0.8 from hour to hour."""
    noise = rng.normal(0, size, hours)
    for i in range(1, hours):
        noise[i] = 0.8 * noise[i - 1] + 0.6 * noise[i]
    return noise
