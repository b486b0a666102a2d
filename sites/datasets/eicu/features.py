"""Features of a stay's first day; columns that reveal the outcome are listed here and refused by name.

Encodings of the measured variables, each with an indicator of whether it was measured:

    raw      the value
    bands    the value, and its distance below and above the band that gets no points in APACHE III, so that a linear
             model can see that both ends are bad; for variables in SKEWED, log(1 + x) of all three
    points   APACHE III's points (sites/datasets/eicu/apache.py)

The knots are the publication's; nothing here is chosen by looking at these patients.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from sites.datasets.eicu import apache
from sites.datasets.eicu.units import UNITS

Floats = npt.NDArray[np.float64]
View = Literal["day", "hours"]
Encoding = Literal["raw", "bands", "points"]

OUTCOME_COLUMNS = frozenset(
    (
        "hospitaldischargeyear", "hospitaldischargetime24", "hospitaldischargeoffset",
        "hospitaldischargelocation", "hospitaldischargestatus", "unitdischargetime24", "unitdischargeoffset",
        "unitdischargelocation", "unitdischargestatus", "dischargeweight", "diedinhospital",
        "dischargelocation", "activeupondischarge", "acutephysiologyscore", "apachescore", "apacheversion",
        "physicianspeciality", "physicianinterventioncategory", "predictedicumortality", "actualicumortality",
        "predictediculos", "actualiculos", "predictedhospitalmortality", "actualhospitalmortality",
        "predictedhospitallos", "actualhospitallos", "preopmi", "preopcardiaccath", "ptcawithin24h",
        "unabridgedunitlos", "unabridgedhosplos", "actualventdays", "predventdays", "unabridgedactualventdays",
    )
)  # fmt: skip
"""Columns that hold the outcome, or are known only after it, including all of apachePatientResult.

APACHE's own predicted mortality uses the first day alone, but comes from a model of many more patients, so that a model
trained on it would reproduce APACHE's; and its table holds the outcome in every row."""

SKEWED = ("urine", "wbc", "creatinine", "bun", "glucose", "bilirubin", "pao2")
NEURO = ("eyes", "motor", "verbal")
APS_FLAGS = {"intubated": "intubated", "vent": "ventilated", "dialysis": "on dialysis", "meds": "sedated, coma unknown"}
PREDICTED = {
    "thrombolytics": "thrombolysis",
    "aids": "AIDS",
    "hepaticfailure": "liver failure",
    "lymphoma": "lymphoma",
    "metastaticcancer": "metastatic cancer",
    "leukemia": "leukemia",
    "immunosuppression": "immunosuppression",
    "cirrhosis": "cirrhosis",
    "diabetes": "diabetes",
    "readmit": "readmitted to the unit",
    "ventday1": "ventilated on day 1",
    "oobventday1": "ventilated at some time of day 1",
    "oobintubday1": "intubated at some time of day 1",
}
EXTRA_COLUMNS = {
    "patient": ("admissionheight", "admissionweight", "hospitaladmitoffset", "unitvisitnumber"),
    "apachePredVar": ("activetx", "bedcount", "ejectfx", "graftcount", "ima", "midur", "visitnumber"),
}
"""Further columns that may be requested, by table; all are known on the first day."""
SOURCES = {
    "from emergency": ("Emergency Department", "Chest Pain Center"),
    "from surgery": ("Operating Room", "Recovery Room", "PACU"),
    "from a ward": ("Floor", "Acute Care/Floor", "Step-Down Unit (SDU)", "ICU to SDU"),
    "from elsewhere": ("Other Hospital", "Other ICU", "ICU", "Direct Admit", "Observation", "Other"),
}
DIAGNOSES = {
    "sepsis": ("SEPSIS",),
    "arrest": ("CARDARREST", "RESPARREST"),
    "diabetic crisis": ("DKA", "DHNKA"),
    "overdose or withdrawal": ("OD", "DRUGTOXIC", "DRUGWITHD", "ETOHWITHD"),
    "stroke or coma": ("CVASTROKE", "ICH", "SAH", "SDH", "COMA", "NTCOMA"),
    "coronary disease": ("AMI", "UNSTANGINA", "STABANGINA", "CP-", "ATYPCHSTPA"),
    "heart failure": ("CHF", "CARDIOMYOP", "CARDSHOCK"),
    "arrhythmia": ("RHYTH",),
    "lung disease": (
        "PNEUM",
        "EMPHYSBRON",
        "ASTHMA",
        "ARDS",
        "PULM",
        "M-RES",
        "PLEUR",
        "RESLUNG",
        "AIROBST",
        "ATELECT",
    ),
    "bleeding": ("UGIBLEED", "LOWGIBLEED", "UNKGIBLEED", "VARICBLEED", "HEMORRHAGE"),
    "trauma": ("TR", "S-TR"),
    "heart surgery": ("S-CABG", "S-VALV"),
}
"""Groups of APACHE's admission diagnoses, by the prefixes of their codes."""

APS_COLUMNS = (*UNITS, *NEURO, *APS_FLAGS)
PRED_COLUMNS = (*PREDICTED, "electivesurgery")
TEXT_COLUMNS = ("admitdiagnosis", "unitadmitsource")


ADMISSION_SOURCES = frozenset(word for words in SOURCES.values() for word in words)


def table_of_extra_column(column: str) -> str | None:
    """Return the table that holds a further column, or None where it may not be requested."""
    return next((table for table, columns in EXTRA_COLUMNS.items() if column in columns), None)


def feature_names(encoding: Encoding, diagnosis: bool, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the features, in order."""
    numbers = ("age", "male", *APS_COLUMNS, *PRED_COLUMNS, *columns)
    frame = pd.DataFrame({name: np.zeros(0) for name in numbers} | dict.fromkeys(TEXT_COLUMNS, np.zeros(0, object)))
    return tuple(build_features(frame, encoding, diagnosis, columns))


def build_features(
    day: pd.DataFrame, encoding: Encoding, diagnosis: bool, columns: tuple[str, ...]
) -> dict[str, Floats]:
    """Return features by name, `(stays,)` each, NaN where not known.

    Args:
        day: `age` (years), `male` (0, 1), APS_COLUMNS, PRED_COLUMNS, TEXT_COLUMNS and the further columns, in eICU's
            units, with NaN for -1.
        encoding: the encoding of the measured variables.
        diagnosis: whether to add groups of admission diagnoses.
        columns: further columns to add.
    """

    def column(name: str) -> Floats:
        return day[name].to_numpy(float)

    def scale(name: str, values: Floats) -> Floats:
        return np.log1p(values) if name in SKEWED else values

    features = {"age": column("age"), "male": column("male")}
    if encoding == "points":
        features |= {f"{name} points": values for name, values in apache.compute_points(day).items()}
    elif encoding == "raw":
        features |= {name: column(name) for name in (*UNITS, *NEURO)}
    else:
        features |= {f"log {name}" if name in SKEWED else name: scale(name, column(name)) for name in (*UNITS, *NEURO)}
        for name, (low, high) in apache.normal_bands().items():
            if np.isfinite(low):
                features[f"{name} below {low:g}"] = scale(name, np.maximum(low - column(name), 0.0))
            if np.isfinite(high):
                features[f"{name} above {high:g}"] = scale(name, np.maximum(column(name) - high, 0.0))
    gases = ("pao2", "pco2", "fio2")  # measured with pH
    for name in (*(name for name in UNITS if name not in gases), "motor"):
        features[f"{'coma scale' if name == 'motor' else name} measured"] = (~np.isnan(column(name))).astype(float)
    features |= {title: column(name) for name, title in (APS_FLAGS | PREDICTED).items()}
    features["after elective surgery"] = (column("electivesurgery") == 1).astype(float)
    features["after other surgery"] = (column("electivesurgery") == 0).astype(float)
    source = day["unitadmitsource"].str.lower()
    features |= {
        title: source.isin([word.lower() for word in words]).to_numpy().astype(float)
        for title, words in SOURCES.items()
    }
    if diagnosis:
        code = day["admitdiagnosis"].fillna("").astype(str).str.strip().str.upper()
        features |= {title: code.str.startswith(starts).to_numpy().astype(float) for title, starts in DIAGNOSES.items()}
        features["no diagnosis"] = (code == "").to_numpy().astype(float)
    return features | {name: column(name) for name in columns}
