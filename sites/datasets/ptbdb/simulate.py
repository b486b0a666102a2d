"""Simulated patients in the layout of the PTB Diagnostic ECG Database, with cases that the archive has few of.

`patient001/s0001_re.{hea,dat,xyz}` and so on: 15 leads at 1000 Hz and 2000 units a mV, the Frank leads in a file of
their own, and the clinical summary in the header's comments, as PhysioNet publishes the real ones. Some patients have
two recordings, some only 12 leads, some a disease other than infarction, a few no diagnosis.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from common.seeds import rng_for
from sites.ecg.leads import FRANK, STANDARD
from sites.ecg.simulate.dipole import Condition, Heart, draw_conditions, draw_heart, simulate_recording
from sites.ecg.simulate.patients import Floats
from sites.synthetic_folder import COMMENT, build_folder, write_recording

VERSION = 1
RATE, UNITS_PER_MILLIVOLT = 1000, 2000.0
SHARES: Mapping[Condition, float] = {
    "infarction": 0.50,
    "healthy": 0.32,
    "block": 0.04,
    "hypertrophy": 0.04,
    "repolarisation": 0.05,
    "irregular": 0.05,
}
REASONS: Mapping[Condition, tuple[str, ...]] = {
    "infarction": ("Myocardial infarction",),
    "healthy": ("Healthy control",),
    "block": ("Bundle branch block",),
    "hypertrophy": ("Hypertrophy", "Valvular heart disease"),
    "repolarisation": ("Cardiomyopathy", "Myocarditis", "Unstable angina"),
    "irregular": ("Dysrhythmia", "n/a"),
}


def generate(folder: Path, *, patients: int, seconds: float, seed: int) -> None:
    """Write the recordings of `patients` people, `seconds` each; the same arguments give the same bytes.

    Raises:
        DataError: the folder holds something else.
    """
    sentence = f"{patients} people in the layout of PTB, {seconds:g} s a recording, seed {seed}, version {VERSION}"
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        names, controls, number = [], [], 0
        for index, condition in enumerate(draw_conditions(patients, SHARES, seed, "ptbdb")):
            rng = rng_for(seed, "ptbdb", index)
            person = draw_heart(condition, rng)
            home = build / f"patient{index + 1:03d}"
            home.mkdir()
            reason = str(rng.choice(REASONS[condition]))
            for _ in range(1 + int(rng.random() < 0.3)):
                number += 1
                short = rng.random() < 0.1
                name = f"s{number:04d}" + ("lre" if short else "_re")
                signal = simulate_recording(person, seconds, RATE, rng)
                _write(home, name, signal[:, :12] if short else signal, _summary(person, reason))
                names.append(f"{home.name}/{name}")
                if condition == "healthy":
                    controls.append(names[-1])
        (build / "RECORDS").write_text("".join(f"{name}\n" for name in names))
        (build / "CONTROLS").write_text("".join(f"{name}\n" for name in controls))


def _summary(person: Heart, reason: str) -> list[str]:
    """Return the comments of a header, with the localisation of the infarction in PTB's words."""
    fresh, old = (person.wall, "no") if person.acute else ("no", person.wall or "no")
    return [
        f"age: {person.age}",
        f"sex: {person.sex}",
        "ECG date: n/a",
        COMMENT,
        "Diagnose:",
        f"Reason for admission: {reason}",
        f"Acute infarction (localization): {fresh}",
        f"Former infarction (localization): {old}",
        "Additional diagnoses: n/a",
        "Smoker: n/a",
    ]


def _write(home: Path, name: str, signal: Floats, comments: list[str]) -> None:
    leads = [lead.lower() for lead in (*STANDARD, *FRANK)][: signal.shape[1]]
    files = [f"{name}.{'xyz' if lead in FRANK else 'dat'}" for lead in leads]
    write_recording(home / name, signal, leads, files, rate=RATE, gain=UNITS_PER_MILLIVOLT, comments=comments)
