"""Profiles of simulated hospitals: how they differ from one another.

Each hospital has its own amplifier, converter, mains, leads and case mix. The values are our own choice; no real
hospital was the model for any of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.errors import ConfigError
from common.seeds import rng_for

ECTOPY = ("S", "V", "F")
NAMES = (
    "north", "south", "east", "west", "central", "harbour", "hillside", "lakeside", "riverside", "university",
)  # fmt: skip

_MIX_SPANS: Mapping[str, tuple[float, float]] = {"S": (0.03, 0.10), "V": (0.05, 0.11), "F": (0.01, 0.03)}

# Direction of a lead, in degrees: the angle in the frontal plane, and for the chest leads the angle at which a plane
# model shows their usual shapes (a deep S in V1, a tall R in V5).
LEAD_DEGREES: Mapping[str, float] = {
    "I": 0.0, "II": 60.0, "III": 120.0, "aVF": 90.0, "MLII": 60.0,
    "V1": 185.0, "V2": 160.0, "V4": 45.0, "V5": 25.0, "V6": 10.0,
}  # fmt: skip


@dataclass(frozen=True)
class HospitalProfile:
    """Everything that may differ between hospitals.

    Raises:
        ConfigError: a value cannot be simulated or written.
    """

    name: str
    """Folder and start of the record names: letters, digits, `_` and `-`."""
    rate: int = 360
    """Samples a second (Hz)."""
    gain: float = 1.0
    """Factor on the whole physical signal: an amplifier that is a little off calibration."""
    adc_gain: float = 200.0
    """Converter units per mV."""
    baseline: int = 0
    """Converter value of 0 mV."""
    storage: str = "16"
    """WFDB format: "16" (16 bits) or "212" (12 bits)."""
    noise: float = 0.02
    """Muscle noise, root mean square (mV)."""
    wander: float = 0.1
    """Amplitude of the baseline z0 (mV); the model's relaxation about halves it."""
    mains: int = 50
    """Mains frequency (Hz)."""
    hum: float = 0.01
    """Mains amplitude (mV)."""
    leads: tuple[str, ...] = ("MLII", "V1")
    """Different names from LEAD_DEGREES; the first should show a clear R wave."""
    mix: Mapping[str, float] = field(default_factory=lambda: {"S": 0.05, "V": 0.08, "F": 0.02})
    """Share of the AAMI classes S, V and F among all beats of the hospital; the rest is N."""
    patients: int = 10
    """Number of patients, one record each."""
    heart_rate: float = 74.0
    """Centre of the patients' mean heart rates (beats a minute)."""
    age: float = 62.0
    """Centre of the patients' ages (years)."""
    bundle_branch: float = 0.1
    """Probability that a patient's normal beats have a bundle branch block's shape."""

    def __post_init__(self) -> None:
        checks = {
            "name": re.fullmatch(r"[A-Za-z0-9_-]{1,40}", self.name) is not None,
            "rate": self.rate > 2 * self.mains and self.rate >= 100,
            "gain": self.gain > 0,
            "adc_gain": self.adc_gain > 0,
            "storage": self.storage in ("16", "212"),
            "noise": min(self.noise, self.wander, self.hum) >= 0,
            "mains": self.mains in (50, 60),
            "leads": 0 < len(self.leads) == len(set(self.leads) & set(LEAD_DEGREES)),
            "mix": set(self.mix) <= set(ECTOPY)
            and min([0.0, *self.mix.values()]) >= 0
            and sum(self.mix.values()) <= 0.4,
            "patients": self.patients >= 1,
            "heart_rate": 45 <= self.heart_rate <= 110,
        }
        for name, valid in checks.items():
            if not valid:
                value = getattr(self, name)
                raise ConfigError(f"hospital {self.name!r}: {name}={value!r} cannot be simulated")


def default_profiles(hospitals: int, patients: int, seed: int) -> tuple[HospitalProfile, ...]:
    """Return `hospitals` profiles of `patients` patients each, all different, and the same at every call.

    Raises:
        ConfigError: a count is below one.

    >>> [p.name for p in default_profiles(3, 5, seed=0)]
    ['north', 'south', 'east']
    """
    if hospitals < 1 or patients < 1:
        raise ConfigError(f"{hospitals} hospitals of {patients} patients: ask for one or more of each")
    return tuple(_default_profile(index, patients, seed) for index in range(hospitals))


def _default_profile(index: int, patients: int, seed: int) -> HospitalProfile:
    name = NAMES[index] if index < len(NAMES) else f"hospital-{index + 1}"
    rng = rng_for(seed, "profile", name)
    rate, storage, adc_gain, baseline = (
        (360, "212", 200.0, 0), (250, "16", 1000.0, 0), (500, "16", 400.0, -50), (400, "212", 200.0, 24),
    )[index % 4]  # fmt: skip
    return HospitalProfile(
        name=name,
        rate=rate,
        gain=round(float(rng.uniform(0.8, 1.25)), 3),
        adc_gain=adc_gain,
        baseline=baseline,
        storage=storage,
        noise=round(float(rng.uniform(0.008, 0.035)), 4),
        wander=round(float(rng.uniform(0.05, 0.25)), 3),
        mains=60 if index % 3 == 0 else 50,
        hum=round(float(rng.uniform(0.0, 0.02)), 4),
        leads=("MLII", ("V1", "V1", "V5", "V1", "V2")[index % 5]),
        mix={share: round(float(rng.uniform(*span)), 4) for share, span in _MIX_SPANS.items()},
        patients=patients,
        heart_rate=round(float(rng.uniform(68, 82)), 1),
        age=round(float(rng.uniform(52, 72)), 1),
        bundle_branch=round(float(rng.uniform(0.04, 0.16)), 3),
    )
