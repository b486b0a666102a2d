"""The unit of each variable: another unit is refused, and an implausible value counts as not measured.

A whole column in another unit (Fahrenheit, mmol/L, a fraction for a percentage) shows in its median. Single values
outside `CELL_LIMITS` cannot be a living patient's; they are read as missing, and counted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError

MIN_VALUES_FOR_MEDIAN = 5
"""Fewest values whose median can reveal the unit."""
UNITS = {
    "urine": ("mL in a day", 50, 12_000),
    "wbc": ("1000/µL", 1, 60),
    "temperature": ("°C", 30, 45),
    "respiratoryrate": ("1/min", 4, 60),
    "sodium": ("mmol/L", 110, 170),
    "heartrate": ("1/min", 30, 200),
    "meanbp": ("mmHg", 30, 180),
    "ph": ("pH", 6.8, 7.8),
    "hematocrit": ("%", 10, 65),
    "creatinine": ("mg/dL", 0.2, 15),
    "albumin": ("g/dL", 1, 6),
    "pao2": ("mmHg", 30, 500),
    "pco2": ("mmHg", 15, 120),
    "bun": ("mg/dL", 4, 150),
    "glucose": ("mg/dL", 40, 800),
    "bilirubin": ("mg/dL", 0.1, 20),
    "fio2": ("%", 20, 100),
}
"""Unit of each variable, and the limits of the median over any hospital's patients."""
CELL_LIMITS = {
    "urine": (0, 20_000),
    "wbc": (0, 500),
    "temperature": (15, 45),
    "respiratoryrate": (0, 100),
    "sodium": (80, 220),
    "heartrate": (0, 300),
    "meanbp": (0, 300),
    "ph": (6.3, 8.2),
    "hematocrit": (3, 80),
    "creatinine": (0, 50),
    "albumin": (0.3, 8),
    "pao2": (10, 760),
    "pco2": (3, 250),
    "bun": (0, 400),
    "glucose": (3, 3000),
    "bilirubin": (0, 80),
    "fio2": (18, 100),
}
"""Limits of a single value."""
DAY_NAME_OF_HOURLY = {
    "temp": "temperature", "resp": "respiratoryrate", "na": "sodium", "hr": "heartrate", "map": "meanbp", "ph": "ph",
    "crea": "creatinine", "alb": "albumin", "po2": "pao2", "pco2": "pco2", "bun": "bun", "glu": "glucose",
    "bili": "bilirubin", "fio2": "fio2", "wbc": "wbc",
}  # fmt: skip
"""Hourly variable -> the name above."""


def check_units(frame: pd.DataFrame, same: dict[str, str], path: Path) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """Return the frame with implausible values set to NaN, and the number of them in each row.

    Args:
        frame: values in columns.
        same: column of the frame -> name in UNITS.
        path: the file, for the error.

    Raises:
        DataError: the median of a column cannot be in the unit that eICU publishes.
    """
    implausible = np.zeros(len(frame), np.int64)
    cleared = {}
    for column, name in same.items():
        values = frame[column]
        unit, low, high = UNITS[name]
        if values.count() >= MIN_VALUES_FOR_MEDIAN and not low <= float(values.median()) <= high:
            raise DataError(f"{path}: the column {column} cannot be in {unit}; convert it to the unit of eICU")
        wrong = (values < CELL_LIMITS[name][0]) | (values > CELL_LIMITS[name][1])
        implausible += wrong.to_numpy()
        cleared[column] = values.mask(wrong)
    return frame.assign(**cleared), implausible
