"""SYNTHETIC extract in the Medical Event Data Standard: admissions, laboratory values and deaths, described."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sites.synthetic_folder import build_folder

VERSION = 1
ADMISSION, DISCHARGE = "HOSPITAL_ADMISSION//EMERGENCY", "HOSPITAL_DISCHARGE"
DEATH, BIRTH = "MEDS_DEATH", "MEDS_BIRTH"
LABS = {"LAB//creatinine//mg/dL": (1.1, 0.4), "LAB//lactate//mmol/L": (1.6, 0.6), "LAB//sodium//mmol/L": (139.0, 4.0)}
"""Mean and spread of each laboratory value."""
DRUGS = ("MEDICATION//heparin", "MEDICATION//noradrenaline")
DESCRIPTION = """\
# SYNTHETIC: generated, not from patients.
dataset: meds
format: 1
title: SYNTHETIC admissions in the Medical Event Data Standard
synthetic: true
read: {hospital: hospital}
index: {codes: ['HOSPITAL_ADMISSION*'], which: first, after_hours: 24}
outcome: {codes: [MEDS_DEATH], within_hours: 720, classes: [survived, died], title: death within 30 days}
window_hours: 24
birth: MEDS_BIRTH
sex: {female: [GENDER//F], male: [GENDER//M]}
inputs:
  - {name: creatinine, codes: [LAB//creatinine*], summaries: [last, mean], unit: mg/dL, range: [0.05, 50]}
  - {name: lactate, codes: [LAB//lactate*], summaries: [last, count], unit: mmol/L, range: [0.1, 40]}
  - {name: sodium, codes: [LAB//sodium*], summaries: [last], unit: mmol/L, range: [80, 220]}
  - {name: noradrenaline, codes: [MEDICATION//noradrenaline], summaries: [count]}
"""
DAY = np.timedelta64(1, "D").astype("timedelta64[us]").astype(np.int64)


def generate(folder: Path, *, hospitals: int = 3, patients: int = 200, seed: int) -> None:
    """Write `data/`, `metadata/` and `meds.yaml`; the same events for the same arguments.

    Args:
        folder: an empty or new folder.
        hospitals: number of hospitals.
        patients: patients a hospital.
        seed: of every draw.

    Raises:
        DataError: the folder holds other files.
    """
    import pyarrow as pa
    from pyarrow import parquet

    sentence = f"MEDS extract, {hospitals} hospitals of {patients} patients, seed {seed}, version {VERSION}"
    with build_folder(folder, sentence) as build:
        if build is None:
            return
        rng = np.random.default_rng([seed, VERSION])
        (build / "data").mkdir()
        (build / "metadata").mkdir()
        subject = 0
        for hospital in range(hospitals):
            rows: list[tuple[int, int | None, str, float | None, str]] = []
            for _ in range(patients):
                subject += 1
                rows += [(subject, *event, f"hospital-{hospital + 1}") for event in _draw_person(rng)]
            kinds = {
                "subject_id": pa.int64(),
                "time": pa.timestamp("us"),
                "code": pa.string(),
                "numeric_value": pa.float32(),
                "hospital": pa.string(),
            }
            columns = zip(kinds.items(), zip(*rows, strict=True), strict=True)
            table = pa.table({name: pa.array(list(values), kind) for (name, kind), values in columns})
            parquet.write_table(table, build / "data" / f"{hospital}.parquet")
        split = rng.choice(["train", "tuning", "held_out"], subject, p=[0.6, 0.15, 0.25])
        splits = {"subject_id": pa.array(range(1, subject + 1), pa.int64()), "split": pa.array(split.tolist())}
        parquet.write_table(pa.table(splits), build / "metadata" / "subject_splits.parquet")
        codes = sorted({ADMISSION, DISCHARGE, DEATH, BIRTH, "GENDER//F", "GENDER//M", *LABS, *DRUGS})
        about = {
            "code": pa.array(codes),
            "description": pa.array([None] * len(codes), pa.string()),
            "parent_codes": pa.array([None] * len(codes), pa.list_(pa.string())),
        }
        parquet.write_table(pa.table(about), build / "metadata" / "codes.parquet")
        metadata = {"dataset_name": "SYNTHETIC", "meds_version": "0.4.1", "site_id_columns": ["hospital"]}
        (build / "metadata" / "dataset.json").write_text(json.dumps(metadata), encoding="utf-8")
        (build / "meds.yaml").write_text(DESCRIPTION, encoding="utf-8")


def _draw_person(rng: np.random.Generator) -> list[tuple[int | None, str, float | None]]:
    """Return the events of a person: time (microseconds since 1970, none for the sex), code, value."""
    age = float(np.clip(rng.normal(62, 15), 18, 99))
    sick = rng.normal()
    admission = int(rng.integers(15_000, 19_000)) * int(DAY) + int(rng.integers(0, DAY))
    events: list[tuple[int | None, str, float | None]] = [
        (None, f"GENDER//{'FM'[int(rng.random() < 0.5)]}", None),
        (admission - int(age * 365.25 * DAY), BIRTH, None),
        (admission, ADMISSION, None),
    ]
    for code, (mean, spread) in LABS.items():
        times = np.sort(rng.integers(-int(DAY), 3 * int(DAY), rng.integers(0, 7)))
        level = sick * (0.0 if "sodium" in code else 0.8) + rng.normal(size=len(times))
        values = np.maximum(mean + spread * level, 0.2)
        events += [(admission + int(at), code, float(value)) for at, value in zip(times, values, strict=True)]
    for drug, share in zip(DRUGS, (0.4, 0.15 + 0.2 * (sick > 1)), strict=True):
        if rng.random() < share:
            events.append((admission + int(rng.integers(0, DAY)), drug, None))
    if rng.random() < 1 / (1 + np.exp(2.5 - 0.03 * (age - 62) - 1.2 * sick)):
        events.append((admission + int(rng.uniform(0.5, 40) * DAY), DEATH, None))
    else:
        events.append((admission + int(rng.uniform(2, 60) * DAY), DISCHARGE, None))
    return sorted(events, key=lambda event: (event[0] is not None, event[0] or 0))
