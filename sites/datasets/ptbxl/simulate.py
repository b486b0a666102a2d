"""Simulated people in the layout of PTB-XL: four sites that differ in age, case mix and noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from common.seeds import rng_for
from sites.ecg.leads import STANDARD
from sites.ecg.simulate.dipole import Condition, draw_conditions, draw_heart, simulate_recording
from sites.synthetic_folder import COMMENT, build_folder, write_recording

VERSION = 1
SITES: tuple[Mapping[Condition, float], ...] = (
    {"healthy": 0.70, "infarction": 0.10, "repolarisation": 0.10, "block": 0.05, "hypertrophy": 0.05},
    {"healthy": 0.45, "infarction": 0.25, "repolarisation": 0.15, "block": 0.10, "hypertrophy": 0.05},
    {"healthy": 0.40, "infarction": 0.20, "repolarisation": 0.20, "block": 0.10, "hypertrophy": 0.10},
    {"healthy": 0.30, "infarction": 0.30, "repolarisation": 0.15, "block": 0.15, "hypertrophy": 0.10},
)
"""Case mix of each site."""
SIZES = (0.45, 0.3, 0.17, 0.08)
"""Share of the people at each site."""
CODES: Mapping[Condition, tuple[str, ...]] = {
    "healthy": ("NORM",),
    "infarction": ("IMI", "ASMI", "AMI", "ILMI"),
    "repolarisation": ("NDT", "NST_", "ISC_"),
    "block": ("IRBBB", "CLBBB", "LAFB"),
    "hypertrophy": ("LVH",),
}
_WALLS = {"inferior": "IMI", "infero-lateral": "ILMI", "antero-septal": "ASMI"}
_CLASSES: Mapping[Condition, str] = {
    "healthy": "NORM", "infarction": "MI", "repolarisation": "STTC", "block": "CD", "hypertrophy": "HYP",
}  # fmt: skip
_RHYTHMS = ("SR", "PACE")


def generate(folder: Path, *, patients: int, rate: int, seed: int) -> None:
    """Write the recordings of `patients` people at one rate (100 or 500 Hz); the same arguments give the same bytes.

    Raises:
        DataError: the folder holds something else.
    """
    sentence = f"{patients} people in the layout of PTB-XL at {rate} Hz, seed {seed}, version {VERSION}"
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        home = build / f"records{rate}" / "00000"
        home.mkdir(parents=True)
        site = np.repeat(np.arange(len(SITES)), _site_sizes(patients))
        kinds = [
            kind for s, mix in enumerate(SITES) for kind in draw_conditions(int((site == s).sum()), mix, seed, f"{s}")
        ]
        fold = rng_for(seed, "ptbxl", "folds").permutation(patients) % 10 + 1
        rows: list[dict[str, object]] = []
        for who in range(patients):
            rng = rng_for(seed, "ptbxl", who)
            person = draw_heart(kinds[who], rng)
            for _ in range(1 + int(rng.random() < 0.1)):
                number = len(rows) + 1
                code = _WALLS.get(person.wall, "AMI") if person.wall else str(rng.choice(CODES[kinds[who]]))
                paced = rng.random() < 0.02
                statements = {"PACE": 100.0} if paced else {code: float(rng.choice([50.0, 80.0, 100.0])), "SR": 0.0}
                rows.append(
                    {
                        "ecg_id": number,
                        "patient_id": float(who + 1),
                        "age": float(person.age + 3 * int(site[who])),
                        "sex": int(person.sex == "female"),
                        "site": float(site[who]),
                        "recording_date": f"1990-01-01 00:{number // 60 % 60:02d}:{number % 60:02d}",
                        "scp_codes": str(statements),
                        "strat_fold": int(fold[who]),
                        "filename_lr": f"records100/00000/{number:05d}_lr",
                        "filename_hr": f"records500/00000/{number:05d}_hr",
                    }
                )
                signal = simulate_recording(person, 10, rate, rng)[:, :12] * (0.9 + 0.1 * site[who])
                signal += rng.normal(0, 0.005 + 0.005 * site[who], signal.shape)
                name = f"{number:05d}_{'lr' if rate == 100 else 'hr'}"
                leads = [lead.upper() for lead in STANDARD]
                write_recording(
                    home / name, signal, leads, [f"{name}.dat"] * 12, rate=rate, gain=1000.0, comments=[COMMENT]
                )
        pd.DataFrame(rows).to_csv(build / "ptbxl_database.csv", index=False)
        lines = [(code, "1.0", _CLASSES[kind]) for kind, codes in CODES.items() for code in codes]
        lines += [(code, "", "") for code in _RHYTHMS]
        table = pd.DataFrame(lines, columns=["", "diagnostic", "diagnostic_class"])
        table.to_csv(build / "scp_statements.csv", index=False)


def _site_sizes(patients: int) -> list[int]:
    """Return the number of people at each site."""
    others = [max(1, round(share * patients)) for share in SIZES[1:]]
    return [patients - sum(others), *others]
