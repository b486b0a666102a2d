"""APACHE III's acute physiology points: the bands of its score table.

Knaus WA et al. The APACHE III prognostic system. Chest 100(6):1619-1636, 1991, figures 1 to 3 (vital signs and
laboratory values, acid and base, neurologic) and the points for age. Where the paper is not precise, the rule is the
one whose sum equals the `acutephysiologyscore` that eICU publishes, in all of the demo's 1,797 scored stays: ventilated
patients get no points for 6 to 12 breaths a minute, the alveolar-arterial difference has no respiratory quotient (FiO2
* 713 - PaCO2 - PaO2, mmHg), and a patient whose coma scale could not be assessed under sedation gets no points for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

BANDS: dict[str, tuple[tuple[float, ...], tuple[int, ...]]] = {
    "heartrate": ((40, 50, 100, 110, 120, 140, 155), (8, 5, 0, 1, 5, 7, 13, 17)),
    "meanbp": ((40, 60, 70, 80, 100, 120, 130, 140), (23, 15, 7, 6, 0, 4, 7, 9, 10)),
    "temperature": ((33, 33.5, 34, 35, 36, 40), (20, 16, 13, 8, 2, 0, 4)),
    "respiratoryrate": ((6, 12, 14, 25, 35, 40, 50), (17, 8, 7, 0, 6, 9, 11, 18)),
    "hematocrit": ((41, 50), (3, 0, 3)),
    "wbc": ((1, 3, 20, 25), (19, 5, 0, 1, 5)),
    "creatinine": ((0.5, 1.5, 1.95), (3, 0, 4, 7)),
    "urine": ((400, 600, 900, 1500, 2000, 4000), (15, 8, 7, 5, 4, 0, 1)),
    "bun": ((17, 20, 40, 80), (0, 2, 7, 11, 12)),
    "sodium": ((120, 135, 155), (3, 2, 0, 4)),
    "albumin": ((2, 2.5, 4.5), (11, 6, 0, 4)),
    "bilirubin": ((2, 3, 5, 8), (0, 5, 6, 8, 16)),
    "glucose": ((40, 60, 200, 350), (8, 9, 0, 3, 5)),
    "age": ((45, 60, 65, 70, 75, 85), (0, 5, 11, 13, 16, 17, 24)),
}
"""Lower edge of each band after the first, and the points of each band, by variable."""
OXYGEN = ((50, 70, 80), (15, 5, 2, 0))
GRADIENT = ((100, 250, 350, 500), (0, 7, 9, 11, 14))
ACID = (
    (7.20, ((50, 12), (np.inf, 4))),
    (7.30, ((30, 9), (40, 6), (50, 3), (np.inf, 2))),
    (7.35, ((30, 9), (45, 0), (np.inf, 1))),
    (7.45, ((30, 5), (45, 0), (np.inf, 1))),
    (7.50, ((30, 5), (35, 0), (45, 2), (np.inf, 12))),
    (7.60, ((40, 3), (np.inf, 12))),
    (np.inf, ((25, 0), (40, 3), (np.inf, 12))),
)
"""Points of pH below the first number, by PaCO2 (mmHg) below the inner first numbers."""


def normal_bands() -> dict[str, tuple[float, float]]:
    """Return each variable's band that gets no points: from the first number up to the second.

    For PaO2 it starts at 80 mmHg; pH and PaCO2 share a table, so theirs are the rows and columns around the normal.

    >>> normal_bands()["heartrate"]
    (50, 100)
    """
    bands = {}
    for name, (edges, points) in BANDS.items():
        ends = (-np.inf, *edges, np.inf)
        bands[name] = ends[points.index(0)], ends[points.index(0) + 1]
    return bands | {"pao2": (80, np.inf), "ph": (7.35, 7.45), "pco2": (35, 45)}


def compute_points(day: pd.DataFrame) -> dict[str, Floats]:
    """Return the points of each of APACHE III's variables, `(stays,)` each, NaN where not measured.

    Args:
        day: the columns of apacheApsVar with NaN for -1, and `age` in years.
    """
    points = {name: _band_points(day[name].to_numpy(float), *bands) for name, bands in BANDS.items()}
    breaths = day["respiratoryrate"].to_numpy(float)
    points["respiratoryrate"][(day["vent"] == 1) & (breaths >= 6) & (breaths <= 12)] = 0
    failing = (day["creatinine"] >= 1.5) & (day["urine"] < 410) & (day["dialysis"] != 1)
    points["creatinine"][failing] = 10
    return points | {
        "oxygen": _oxygen_points(day),
        "acid and base": _acid_base_points(day),
        "neurologic": _neurologic_points(day),
    }


def physiology_score(points: dict[str, Floats]) -> Floats:
    """Return the acute physiology score: the sum of all points but age's; what was not measured counts 0."""
    total: Floats = np.nansum([values for name, values in points.items() if name != "age"], axis=0)
    return total


def _band_points(values: Floats, edges: tuple[float, ...], marks: tuple[int, ...]) -> Floats:
    points = np.array(marks, float)[np.digitize(values, edges)]
    points[np.isnan(values)] = np.nan
    return points


def _oxygen_points(day: pd.DataFrame) -> Floats:
    """Return the points of PaO2, or of the alveolar-arterial difference if intubated at an FiO2 of 50% or more."""
    pao2, pco2, fio2 = (day[name].to_numpy(float) for name in ("pao2", "pco2", "fio2"))
    gradient = _band_points(fio2 / 100 * 713 - pco2 - pao2, *GRADIENT)
    intubated = (day["intubated"].to_numpy() == 1) & (fio2 >= 50)
    points: Floats = np.where(intubated, gradient, _band_points(pao2, *OXYGEN))
    return points


def _acid_base_points(day: pd.DataFrame) -> Floats:
    ph, pco2 = day["ph"].to_numpy(float), day["pco2"].to_numpy(float)
    points = np.full(len(ph), np.nan)
    for top, row in reversed(ACID):
        for limit, mark in reversed(row):
            points[(ph < top) & (pco2 < limit)] = mark
    return points


def _neurologic_points(day: pd.DataFrame) -> Floats:
    """Return the points of motor and verbal responses, given whether the eyes open (2 to 4) or not (1)."""
    eyes, motor, verbal = (day[name].to_numpy(float) for name in ("eyes", "motor", "verbal"))
    shut = eyes == 1
    points = np.select(
        [verbal == 5, verbal == 4, verbal >= 2, verbal == 1],
        [
            np.select([motor == 6], [0], 3),
            np.select([motor == 6, motor == 5], [3, 8], 13),
            np.select([motor == 6, motor == 5, motor >= 3], [10, 13, 24], 29),
            np.select(
                [motor >= 5, motor >= 3], [np.where(shut, 16, 15), np.where(shut, 33, 24)], np.where(shut, 48, 29)
            ),
        ],
        np.nan,
    ).astype(float)
    points[np.isnan(eyes) | np.isnan(motor)] = np.nan
    points[day["meds"].to_numpy() == 1] = 0
    return points
