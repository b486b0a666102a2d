"""SYNTHETIC hospitals as one CSV file with its description: a table like one of a user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sites.synthetic_folder import build_folder

VERSION = 1
DESCRIPTION = """\
# SYNTHETIC: generated, not from patients.
dataset: table
format: 1
title: SYNTHETIC hospitals in one table
synthetic: true
read: {files: [hospitals.csv], missing: [''], hospital: hospital}
patient: patient
age: age
sex: {column: sex, female: [F], male: [M]}
outcome: {column: died, values: ['0', '1'], classes: [survived, died], title: death in hospital}
inputs:
  - {name: age, kind: number, unit: years, range: [0, 130]}
  - {name: male, column: sex, kind: yes_no, yes_values: [M], no_values: [F]}
  - {name: creatinine, kind: number, unit: mg/dL, range: [0.05, 50]}
  - {name: crp, kind: number, unit: mg/L, range: [0, 1000], indicator: true}
  - {name: sodium, kind: number, unit: mmol/L, range: [80, 220]}
  - {name: admission, kind: category, values: [emergency, planned, transfer]}
"""


def generate(folder: Path, *, hospitals: int = 3, patients: int = 200, seed: int) -> None:
    """Write `hospitals.csv` and `table.yaml`; the same bytes for the same arguments.

    Args:
        folder: an empty or new folder.
        hospitals: number of hospitals.
        patients: patients a hospital.
        seed: of every draw.

    Raises:
        DataError: the folder holds other files.
    """
    sentence = f"{hospitals} hospitals of {patients} patients in one table, seed {seed}, version {VERSION}"
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        rng = np.random.default_rng([seed, VERSION])
        lines = ["patient,hospital,age,sex,creatinine,crp,sodium,admission,died"]
        for index in range(hospitals):
            age = np.clip(rng.normal(58 + 4 * (index % 4), 15, patients), 18, 99).round()
            male = rng.random(patients) < 0.5
            creatinine = np.exp(rng.normal(0.1, 0.4, patients))
            crp = np.exp(rng.normal(2.0, 1.2, patients))
            sodium = rng.normal(139, 4, patients)
            admission = rng.choice(3, patients, p=[0.5, 0.35, 0.15])
            score = -2 + 0.04 * (age - 62) + 1.2 * np.log(creatinine) + 0.4 * np.log(crp) - 0.05 * (sodium - 139)
            died = rng.random(patients) < 1 / (1 + np.exp(-(score - 0.6 * (admission == 1))))
            measured = rng.random(patients) > 0.1
            for i in range(patients):
                cells = [
                    f"{index + 1}-{i + 1:05d}", f"hospital-{index + 1}", f"{age[i]:.0f}", "M" if male[i] else "F",
                    f"{creatinine[i]:.2f}", f"{crp[i]:.1f}" if measured[i] else "", f"{sodium[i]:.0f}",
                    ("emergency", "planned", "transfer")[admission[i]], str(int(died[i])),
                ]  # fmt: skip
                lines.append(",".join(cells))
        (build / "hospitals.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (build / "table.yaml").write_text(DESCRIPTION, encoding="utf-8")
