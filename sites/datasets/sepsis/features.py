"""The features of a patient at each hour, computed from that hour and those before it, never from later ones.

Names, with X one of the 34 measured columns (units: sites/datasets/sepsis/columns.py); NaN where nothing is known yet:

    clinical   X                     the last value measured, however long ago
               L change              of ten laboratory values: the last one less the one before it
               V 6 h low, high, mean, sd    of a vital sign, over the last value known at each of the last 6 hours
               V 6 h trend           its last value less the last value of 6 hours ago
               shock index           HR / SBP
               pulse pressure        SBP - DBP, mmHg
               BUN/Creatinine, O2Sat/FiO2, SaO2/FiO2
               SIRS                  0 to 4: of Temp, HR, Resp or PaCO2, WBC (Bone et al., Chest 101:1644, 1992)
               organ points          0 to 13: SOFA's for Platelets, Bilirubin_total, Creatinine, and MAP under 70
                                     (Vincent et al., Intensive Care Med 22:707, 1996); not measured counts 0
               Age                   years;   male: 0 or 1
    habit      X recency             1 / (1 + hours since X was last measured); 0: never yet
               X times in 24 h       in how many of the last 24 hours X was measured
               Unit1, Unit2          medical, surgical intensive care;   unit unknown: 0 or 1
               HospAdmTime           hours
    stay       ICULOS                hours in intensive care
               ICULOS over H h       0 or 1: the risk does not rise evenly with the hours

`habit` reflects the hospital's practice more than the patient's state. The groups are in this order, so that excluding
the last ones is taking the first columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sites.datasets.sepsis.columns import AGE, GENDER, HOSP_ADM_TIME, ICULOS, N_MEASURED, NAMES, UNIT1, UNIT2, VITALS

VERSION = 1

Rows = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

_X = NAMES[:N_MEASURED]
_SIGNS = tuple(column.name for column in VITALS if column.name != "EtCO2")
_OFTEN = ("HCO3", "pH", "BUN", "Creatinine", "Glucose", "Lactate", "Potassium", "Hgb", "WBC", "Platelets")
_CHANGING = [_X.index(name) for name in _OFTEN]
_STAYS = (12, 24, 36, 48, 60, 72, 96, 120, 168)
_BLOCK = 8192
CLINICAL = (
    *_X,
    *(f"{x} change" for x in _OFTEN),
    *(f"{x} 6 h {what}" for what in ("low", "high", "mean", "sd", "trend") for x in _SIGNS),
    *("shock index", "pulse pressure", "BUN/Creatinine", "O2Sat/FiO2", "SaO2/FiO2", "SIRS", "organ points"),
    *("Age", "male"),
)
HABIT = (
    *(f"{x} recency" for x in _X),
    *(f"{x} times in 24 h" for x in _X),
    *("Unit1", "Unit2", "unit unknown", "HospAdmTime"),
)
STAY = ("ICULOS", *(f"ICULOS over {hours} h" for hours in _STAYS))
FEATURES = (*CLINICAL, *HABIT, *STAY)
CHANNELS = (*_X, *(f"{x} measured" for x in _X))
STATIC = ("Age", "male", "Unit1", "Unit2", "unit unknown", "HospAdmTime", *STAY)
"""Features of the view `hours`: the first two clinical, the next four habit, then stay."""


def patient_blocks(rows: Rows, first: Index) -> Iterator[tuple[Rows, Index]]:
    """Yield the rows of whole patients, some thousand at a time, and for each row its patient's first row.

    Args:
        rows: `(hours, 40)`.
        first: `(patients,)`, each patient's first row.
    """
    ends = np.append(first[1:], len(rows))
    at = 0
    while at < len(first):
        stop = max(at + 1, int(np.searchsorted(ends, first[at] + _BLOCK, side="right")))
        start = int(first[at])
        first_in_block = first[at:stop] - start
        hours = np.diff(first_in_block, append=ends[stop - 1] - start)
        yield np.asarray(rows[start : ends[stop - 1]]), np.repeat(first_in_block, hours)
        at = stop


def carry_forward(values: Rows, start: Index) -> tuple[Rows, npt.NDArray[np.int32]]:
    """Return each column's last value measured, and its row (NaN and -1 before the first)."""
    row = np.arange(len(values), dtype=np.int32)[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), np.int32(-1), row), axis=0)
    last[last < start[:, None]] = -1
    held = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    held[last < 0] = np.nan
    return held, last


def compute_features(rows: Rows, start: Index) -> Rows:
    """Return FEATURES, float32 `(hours, features)`, of whole patients; arguments as `patient_blocks` yields them."""
    values = rows[:, :N_MEASURED]
    here = np.arange(len(rows))
    held, last = carry_forward(values, start)
    since = (here[:, None] - last).astype(np.float32)
    count = np.zeros((len(rows) + 1, N_MEASURED), dtype=np.int32)
    np.cumsum(~np.isnan(values), axis=0, out=count[1:])
    parts = [
        held,
        _change(held[:, _CHANGING], last[:, _CHANGING], start),
        *_recent(held[:, : len(_SIGNS)], start),
        *(column[:, None] for column in _derived(held)),
        rows[:, [AGE, GENDER]],
        np.where(last < 0, np.float32(0), 1 / (1 + since)),
        count[1:] - count[np.maximum(here - 23, start)],
        static_features(rows)[:, 2:],
    ]
    features: Rows = np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")
    return features


def compute_channels(rows: Rows, start: Index, carry: bool) -> Rows:
    """Return CHANNELS, float32 `(hours, 68)`: values (with `carry` the last ones measured), and 1 where measured."""
    values = rows[:, :N_MEASURED]
    held = carry_forward(values, start)[0] if carry else values
    return np.concatenate([held, ~np.isnan(values)], axis=1, dtype=np.float32)


def static_features(rows: Rows) -> Rows:
    """Return STATIC, float32 `(hours, 16)`."""
    units, stay = rows[:, [UNIT1, UNIT2]], rows[:, [ICULOS]]
    unknown = np.isnan(units).all(axis=1, keepdims=True)
    long = stay > np.asarray(_STAYS, np.float32)
    parts = [rows[:, [AGE, GENDER]], units, unknown, rows[:, [HOSP_ADM_TIME]], stay, long]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _change(held: Rows, last: npt.NDArray[np.int32], start: Index) -> Rows:
    """Return the last value measured less the one before it; NaN before the second."""
    change: Rows = held - np.take_along_axis(held, np.maximum(last - 1, 0), axis=0)
    change[last <= start[:, None]] = np.nan
    return change


def _recent(signs: Rows, start: Index) -> list[Rows]:
    """Return lowest, highest, mean, standard deviation and trend over the last known values at each of 6 hours."""
    here = np.arange(len(signs))
    hours = np.stack([signs[np.maximum(here - back, 0)] for back in range(7)])
    for back in range(1, 7):
        hours[back, here - back < start] = np.nan
    trend = signs - hours[6]
    hours = hours[:6]
    known = ~np.isnan(hours)
    number = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, hours, 0).sum(axis=0) / number
    mean[~known.any(axis=0)] = np.nan
    sd = np.sqrt(np.where(known, (hours - mean) ** 2, 0).sum(axis=0) / number)
    sd[~known.any(axis=0)] = np.nan
    return [np.fmin.reduce(hours), np.fmax.reduce(hours), mean, sd, trend]


def _derived(held: Rows) -> list[npt.NDArray[np.floating] | npt.NDArray[np.integer]]:
    """Return shock index, pulse pressure, three ratios, SIRS and organ points."""
    x = {name: held[:, j] for j, name in enumerate(_X)}

    def ratio(numerator: Rows, denominator: Rows) -> Rows:
        positive: Rows = np.where(denominator > 0, denominator, np.nan).astype(np.float32)
        return np.asarray(np.divide(numerator, positive), dtype=np.float32)

    sirs = (
        ((x["Temp"] > 38) | (x["Temp"] < 36)).astype(int)
        + (x["HR"] > 90)
        + ((x["Resp"] > 20) | (x["PaCO2"] < 32))
        + ((x["WBC"] > 12) | (x["WBC"] < 4))
    )
    organ = (x["MAP"] < 70).astype(int)
    for limit in (150, 100, 50, 20):
        organ += x["Platelets"] < limit
    for name, limits in {"Bilirubin_total": (1.2, 2, 6, 12), "Creatinine": (1.2, 2, 3.5, 5)}.items():
        for threshold in limits:
            organ += x[name] >= threshold
    return [
        ratio(x["HR"], x["SBP"]),
        x["SBP"] - x["DBP"],
        ratio(x["BUN"], x["Creatinine"]),
        ratio(x["O2Sat"], x["FiO2"]),
        ratio(x["SaO2"], x["FiO2"]),
        sirs,
        organ,
    ]
