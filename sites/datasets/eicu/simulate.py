"""Simulated intensive care in eICU's layout: the tables of the demo and YAIB's hourly cohort, of no real patients.

Each stay has a hidden severity. It shifts the vital signs and laboratory values away from normal, to the side that the
disease takes them or to either, lowers the coma scale, leads to ventilation and more frequent measuring, and with age,
diagnosis and chronic disease it determines the probability of death. Hospitals differ in age, severity, case mix and in
what they measure. The parameters are our own, near the demo's; a model's performance here says nothing about patients.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.seeds import rng_for
from sites.datasets.eicu import simulated_values as parameters
from sites.datasets.eicu.hourly import CHANNELS, HOURS
from sites.synthetic_folder import MARKER, fill_folder

Floats = npt.NDArray[np.float64]

VERSION = 1
COMMENT = "SYNTHETIC: simulated by wardround in the layout of eICU, not a patient"


@dataclass(frozen=True)
class _Stays:
    """The stays of one hospital, drawn before any table is written; arrays are `(stays,)`."""

    number: npt.NDArray[np.int64]
    hospital: int
    person: npt.NDArray[np.int64]
    age: npt.NDArray[np.int64]
    female: npt.NDArray[np.bool_]
    severity: Floats
    code: npt.NDArray[np.str_]
    chronic: dict[str, npt.NDArray[np.bool_]]
    ventilated: npt.NDArray[np.bool_]
    died: npt.NDArray[np.bool_]
    in_unit: npt.NDArray[np.bool_]
    laboratory: float


def generate(folder: Path, *, hospitals: int = 8, stays: int = 150, seed: int = 1) -> None:
    """Write `eicu-crd-demo` and `yaib-demo` into a folder: the same bytes for the same arguments.

    The folder appears whole or not at all; one that holds the same data already is not changed.

    Raises:
        DataError: the folder holds anything else.
    """
    marker = json.dumps({"what": COMMENT, "version": VERSION, "hospitals": hospitals, "stays": stays, "seed": seed})
    marker += "\n"
    with fill_folder(folder, marker) as build:
        if build is None:
            return
        drawn = [_draw_stays(index, stays, seed) for index in range(hospitals)]
        tables, hourly = build / "eicu-crd-demo", build / "yaib-demo" / "eicu_demo"
        tables.mkdir()
        hourly.mkdir(parents=True)
        _write_table(tables, "hospital", _hospital_table(hospitals))
        _write_table(tables, "patient", pd.concat([_patient_table(item, seed) for item in drawn], ignore_index=True))
        days = [_apache_tables(item, seed) for item in drawn]
        _write_table(tables, "apacheApsVar", pd.concat([aps for aps, _ in days], ignore_index=True))
        _write_table(tables, "apachePredVar", pd.concat([pred for _, pred in days], ignore_index=True))
        hours = [_hourly_tables(item, seed) for item in drawn]
        for name, parts in zip(("dyn", "sta", "outc"), zip(*hours, strict=True), strict=True):
            pd.concat(parts, ignore_index=True).to_parquet(hourly / f"{name}.parquet", index=False)
        for path in (tables, hourly):
            (path / MARKER).write_text(marker, encoding="utf-8")


def draw_hourly_cohort(index: int, stays: int, seed: int) -> dict[str, pd.DataFrame]:
    """Return the tables `dyn`, `sta` and `outc` of one hospital of about `stays` stays."""
    return dict(zip(("dyn", "sta", "outc"), _hourly_tables(_draw_stays(index, stays, seed), seed), strict=True))


def _write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    packed = {"method": "gzip", "mtime": 0, "compresslevel": 6}
    table.to_csv(folder / f"{name}.csv.gz", index=False, compression=packed, lineterminator="\n")


def _draw_stays(index: int, stays: int, seed: int) -> _Stays:
    rng = rng_for(seed, "eicu", "hospital", index)
    count = int(rng.integers(int(stays * 0.7), int(stays * 1.3) + 1))
    person = np.arange(count)
    again = rng.random(count) < 0.08
    again[0] = False
    person[again] = person[np.flatnonzero(again) - 1]  # the person of the stay before
    age = np.clip(np.rint(rng.normal(rng.uniform(57, 70), 15, count)), 18, 95).astype(np.int64)[person]
    severity = rng.normal(rng.normal(0, 0.25), 1, count)
    mix = rng.dirichlet(np.full(len(parameters.DIAGNOSES), 3.0))
    code = np.array(list(parameters.DIAGNOSES))[rng.choice(len(parameters.DIAGNOSES), count, p=mix)]
    chronic = {name: rng.random(count) < share for name, (share, _) in parameters.CHRONIC.items()}
    logit = (
        parameters.INTERCEPT
        + parameters.SEVERITY * severity
        + parameters.AGE * (age - 65)
        + np.array([parameters.DIAGNOSES[name] for name in code])
    )
    logit += sum((chronic[name] * add for name, (_, add) in parameters.CHRONIC.items()), np.zeros(count))
    died = rng.random(count) < _logistic(logit)
    return _Stays(
        number=100_000 * (index + 1) + 3 * np.arange(count),
        hospital=60 + 7 * index,
        person=person,
        age=age,
        female=(rng.random(count) < 0.45)[person],
        severity=severity,
        code=code,
        chronic=chronic,
        ventilated=rng.random(count) < _logistic(1.2 * severity - 1.6),
        died=died,
        in_unit=died & (rng.random(count) < 0.75),
        laboratory=rng.uniform(0.55, 0.95),
    )


def _logistic(logit: Floats) -> Floats:
    probability: Floats = 1 / (1 + np.exp(-logit))
    return probability


def _hospital_table(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hospitalid": [60 + 7 * index for index in range(count)],
            "numbedscategory": [("<100", "100 - 249", "250 - 499", ">= 500")[index % 4] for index in range(count)],
            "teachingstatus": ["t" if index % 4 == 3 else "f" for index in range(count)],
            "region": [parameters.REGIONS[index % len(parameters.REGIONS)] for index in range(count)],
        }
    )


def _patient_table(stays: _Stays, seed: int) -> pd.DataFrame:
    rng, count = rng_for(seed, "eicu", "patient", stays.hospital), len(stays.number)
    before, stay = rng.integers(5, 3000, count), rng.integers(1500, 9000, count)
    after = stay + np.where(stays.in_unit, 0, rng.integers(0, 8000, count))
    clock = [f"{hour:02d}:{minute:02d}:00" for hour, minute in rng.integers(0, (24, 60), (count, 2))]
    weight = np.round(rng.normal(82, 20, count).clip(38, 200), 1)
    status = np.where(stays.died, "Expired", "Alive").astype(object)
    status[rng.random(count) < 0.01] = None
    surgical = np.char.startswith(stays.code, "S-")
    source = np.where(surgical, "Operating Room", rng.choice(["Emergency Department", "Floor", "Other ICU"], count))
    return pd.DataFrame(
        {
            "patientunitstayid": stays.number,
            "patienthealthsystemstayid": stays.number + 1,
            "gender": np.where(stays.female, "Female", "Male"),
            "age": [str(years) if years <= 89 else "> 89" for years in stays.age],
            "ethnicity": "Other/Unknown",
            "hospitalid": stays.hospital,
            "wardid": stays.hospital * 10,
            "apacheadmissiondx": stays.code,
            "admissionheight": np.round(rng.normal(169, 11, count), 1),
            "hospitaladmittime24": clock,
            "hospitaladmitoffset": -before,
            "hospitaladmitsource": "Emergency Department",
            "hospitaldischargeyear": 2015,
            "hospitaldischargetime24": clock,
            "hospitaldischargeoffset": after,
            "hospitaldischargelocation": np.where(stays.died, "Death", "Home"),
            "hospitaldischargestatus": status,
            "unittype": "Med-Surg ICU",
            "unitadmittime24": clock,
            "unitadmitsource": source,
            "unitvisitnumber": 1,
            "unitstaytype": "admit",
            "admissionweight": weight,
            "dischargeweight": np.where(stays.died, np.nan, weight),
            "unitdischargetime24": clock,
            "unitdischargeoffset": stay,
            "unitdischargelocation": np.where(stays.in_unit, "Death", "Floor"),
            "unitdischargestatus": np.where(stays.in_unit, "Expired", "Alive"),
            "uniquepid": [f"{stays.hospital:03d}-{number}" for number in stays.person],
        }
    )


def _apache_tables(stays: _Stays, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return apacheApsVar and apachePredVar; one stay in twelve has neither."""
    rng, count = rng_for(seed, "eicu", "day", stays.hospital), len(stays.number)
    ill = np.maximum(stays.severity, 0)
    gases = rng.random(count) < np.where(stays.ventilated, 0.75, 0.08)
    values = {}
    for name, (centre, spread, shift, share, logs) in parameters.DAY.items():
        side = np.where(rng.random(count) < share, 1, -1)
        value = centre + spread * rng.normal(size=count) + side * shift * ill
        value = np.clip(np.exp(value) if logs else value, *parameters.BOUNDS[name])
        probability = (
            0.98
            if name in parameters.BEDSIDE
            else 0.5
            if name == "urine"
            else stays.laboratory * np.where(ill > 0, 1.05, 0.9)
        )
        if name in ("albumin", "bilirubin"):
            probability = np.asarray(probability) * 0.6
        measured = gases if name in parameters.GASES else rng.random(count) < probability
        values[name] = np.where(measured, np.round(value, 2), -1)
    worse = rng.normal(size=count) + 1.1 * ill + 1.2 * stays.ventilated
    asleep = stays.ventilated & (rng.random(count) < 0.05)
    coma = {
        "eyes": np.select([worse > 3.2, worse > 2.4, worse > 1.4], [1, 2, 3], 4),
        "motor": np.select([worse > 3.6, worse > 2.8, worse > 1.8], [1, 4, 5], 6),
        "verbal": np.select([worse > 2.6, worse > 2.0, worse > 1.2], [1, 3, 4], 5),
    }
    coma = {name: np.where(asleep, -1, marks) for name, marks in coma.items()}
    flags = {
        "intubated": (stays.ventilated & (rng.random(count) < 0.6)).astype(int),
        "vent": stays.ventilated.astype(int),
    }
    included = rng.random(count) > 1 / 12
    aps = {"apacheapsvarid": stays.number + 2, "patientunitstayid": stays.number} | flags
    aps |= {"dialysis": (rng.random(count) < 0.03).astype(int)} | coma | {"meds": asleep.astype(int)} | values
    surgical = np.char.startswith(stays.code, "S-")
    pred = {
        "apachepredvarid": stays.number + 2, "patientunitstayid": stays.number, "sicuday": 1, "saps3day1": 0,
        "saps3today": 0, "saps3yesterday": 0, "gender": stays.female.astype(int), "teachtype": 0, "region": 3,
        "bedcount": 14, "admitsource": np.where(surgical, 1, 8), "graftcount": 3, "meds": asleep.astype(int),
        "verbal": coma["verbal"], "motor": coma["motor"], "eyes": coma["eyes"], "age": stays.age,
        "admitdiagnosis": stays.code, "thrombolytics": ((stays.code == "AMI") & (rng.random(count) < 0.2)).astype(int),
        "diedinhospital": stays.died.astype(int),
        **{name: stays.chronic[name].astype(int) for name in list(parameters.CHRONIC)[:-1]},
        "electivesurgery": np.where(surgical, (stays.code == "S-CABG").astype(float), np.nan),
        "activetx": (stays.severity > 0).astype(int), "readmit": (rng.random(count) < 0.05).astype(int), "ima": 0,
        "midur": 0, "ventday1": stays.ventilated.astype(int), "oobventday1": stays.ventilated.astype(int),
        "oobintubday1": flags["intubated"], "diabetes": stays.chronic["diabetes"].astype(int), "managementsystem": 1,
        "var03hspxlos": 0.0, "pao2": values["pao2"], "fio2": values["fio2"], "ejectfx": -1.0,
        "creatinine": values["creatinine"], "dischargelocation": np.where(stays.died, 6, 4), "visitnumber": 1,
        "amilocation": -1, "day1meds": asleep.astype(int), "day1verbal": coma["verbal"], "day1motor": coma["motor"],
        "day1eyes": coma["eyes"], "day1pao2": values["pao2"], "day1fio2": values["fio2"],
    }  # fmt: skip
    return pd.DataFrame(aps)[included], pd.DataFrame(pred)[included]


def _hourly_tables(stays: _Stays, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return dyn, sta and outc of the two thirds of the stays that the hourly cohort holds."""
    rng = rng_for(seed, "eicu", "hours", stays.hospital)
    included = np.flatnonzero(rng.random(len(stays.number)) < 2 / 3)
    count, ill = len(included), np.maximum(stays.severity[included], -0.5)[:, None]
    drift = ill * np.linspace(0.9, 2.1, HOURS)
    drawn = rng.random((count, HOURS)) < 0.05 + 0.02 * (ill > 0)
    values = {}
    for name in CHANNELS:
        if name in parameters.VITAL:
            centre, spread, shift, probability = parameters.VITAL[name]
            measured = rng.random((count, HOURS)) < probability
        else:
            centre, spread, shift = parameters.LABS[name]
            measured = drawn & (rng.random((count, HOURS)) < stays.laboratory)
        own, fluctuation = rng.normal(size=(count, 1)), rng.normal(size=(count, HOURS))
        value = centre + spread * (0.7 * own + 0.7 * fluctuation) + shift * drift
        low, high = parameters.HOURLY_BOUNDS.get(name, (0.0, np.inf))
        values[name] = np.where(measured, np.clip(np.round(value, 3), low, high), np.nan).ravel()
    clock = pd.to_timedelta(np.tile(np.arange(HOURS), count), unit="h").astype("timedelta64[s]")
    stay = stays.number[included].astype(np.int32)
    dyn = pd.DataFrame({"stay_id": np.repeat(stay, HOURS), "time": clock} | values)
    sex = np.where(stays.female[included], "Female", "Male")
    height, weight = rng.normal(169, 11, count).round(1), rng.normal(82, 20, count).clip(38, 200).round(1)
    age = np.minimum(stays.age[included], 90).astype(float)
    sta = pd.DataFrame({"stay_id": stay, "age": age, "sex": sex, "height": height, "weight": weight})
    return dyn, sta, pd.DataFrame({"stay_id": stay, "label": stays.in_unit[included].astype(np.int32)})
