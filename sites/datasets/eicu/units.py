"""The unit and the limits of each variable (sites/plausible_values.py), of the first day and of the hours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError
from sites.plausible_values import Limits, describe_cleared, describe_codes, find_reversed_pair, find_wrong_sign

MIN_STAYS_FOR_MEDIAN = 5
"""Fewest stays whose median can reveal the unit."""
UNITS = {
    "urine": Limits("mL in a day", (0, 20_000), (50, 12_000)),
    "wbc": Limits("1000/µL", (0.05, 500), (1, 60)),
    "temperature": Limits("°C", (15, 45), (30, 45), (34.5, 39)),
    "respiratoryrate": Limits("1/min", (0, 100), (4, 60)),
    "sodium": Limits("mmol/L", (80, 220), (110, 170)),
    "heartrate": Limits("1/min", (10, 300), (30, 200)),
    "meanbp": Limits("mmHg", (10, 300), (30, 180)),
    "ph": Limits("pH", (6.3, 8.2), (6.8, 7.8)),
    "hematocrit": Limits("%", (3, 80), (10, 65)),
    "creatinine": Limits("mg/dL", (0.05, 50), (0.2, 15), (0.4, 15)),
    "albumin": Limits("g/dL", (0.3, 8), (1, 6), (1.6, 5.5)),
    "pao2": Limits("mmHg", (10, 760), (30, 500)),
    "pco2": Limits("mmHg", (8, 250), (15, 120)),
    "bun": Limits("mg/dL", (0.5, 400), (4, 150), (9, 150)),
    "glucose": Limits("mg/dL", (10, 3000), (40, 800), (60, 400)),
    "bilirubin": Limits("mg/dL", (0.02, 80), (0.1, 20), (0.1, 5)),
    "fio2": Limits("%", (18, 100), (20, 100)),
}
"""Limits of the variables of the first day."""
_SAME_AS_DAY = {
    "temp": "temperature", "resp": "respiratoryrate", "na": "sodium", "hr": "heartrate", "map": "meanbp", "ph": "ph",
    "crea": "creatinine", "alb": "albumin", "po2": "pao2", "pco2": "pco2", "bun": "bun", "glu": "glucose",
    "bili": "bilirubin", "fio2": "fio2", "wbc": "wbc",
}  # fmt: skip
HOURLY = {hourly: UNITS[day] for hourly, day in _SAME_AS_DAY.items()} | {
    "alp": Limits("IU/L", (1, 20_000), (10, 2000)),
    "alt": Limits("IU/L", (1, 50_000), (3, 5000)),
    "ast": Limits("IU/L", (1, 50_000), (3, 5000)),
    "be": Limits("mmol/L", (-50, 50), (-20, 20)),
    "bicar": Limits("mmol/L", (2, 80), (8, 45)),
    "bili_dir": Limits("mg/dL", (0, 60), (0, 20), (0, 8)),
    "bnd": Limits("%", (0, 100)),
    "ca": Limits("mg/dL", (3, 30), (4.5, 15), (6, 15)),
    "cai": Limits("mmol/L", (0.2, 4), (0.6, 1.8)),
    "ck": Limits("IU/L", (1, 500_000)),
    "ckmb": Limits("ng/mL", (0, 5000)),
    "cl": Limits("mmol/L", (20, 200), (60, 150)),
    "crp": Limits("mg/L", (0, 5000)),
    "dbp": Limits("mmHg", (5, 350), (30, 120)),
    "fgn": Limits("mg/dL", (5, 3000), (30, 1500)),
    "hgb": Limits("g/dL", (1, 30), (3, 25), (8, 25)),
    "inr_pt": Limits("ratio", (0.3, 30), (0.7, 8)),
    "k": Limits("mmol/L", (0.5, 20), (1.5, 9)),
    "lact": Limits("mmol/L", (0.05, 50), (0.2, 12), (0.2, 8)),
    "lymph": Limits("%", (0, 100), (0, 100), (2, 60)),
    "mch": Limits("pg", (5, 60), (20, 40)),
    "mchc": Limits("g/dL", (10, 60), (25, 40)),
    "mcv": Limits("fL", (30, 180), (60, 130)),
    "methb": Limits("%", (0, 100)),
    "mg": Limits("mg/dL", (0.1, 20), (1.1, 6)),
    "neut": Limits("%", (0, 100), (0, 100), (20, 100)),
    "o2sat": Limits("%", (10, 100), (70, 100)),
    "phos": Limits("mg/dL", (0.1, 30), (1.2, 15), (1.8, 15)),
    "plt": Limits("1000/µL", (0.5, 5000), (10, 1500)),
    "ptt": Limits("s", (5, 400), (10, 200)),
    "sbp": Limits("mmHg", (10, 350), (60, 220)),
    "tnt": Limits("ng/mL", (0, 100), (0, 20), (0, 5)),
    "urine": Limits("mL in an hour", (0, 10_000), (0, 2000)),
}
"""Limits of the hourly variables."""
CODED = {
    "eyes": Limits("points", (1, 4), whole=True),
    "motor": Limits("points", (1, 6), whole=True),
    "verbal": Limits("points", (1, 5), whole=True),
} | dict.fromkeys(
    ("intubated", "vent", "dialysis", "meds", "thrombolytics", "aids", "hepaticfailure", "lymphoma", "metastaticcancer",
     "leukemia", "immunosuppression", "cirrhosis", "diabetes", "readmit", "ventday1", "oobventday1", "oobintubday1",
     "electivesurgery"),
    Limits("(0 no, 1 yes)", (0, 1), whole=True),
)  # fmt: skip
"""Limits of the columns of codes of the first day."""
AGE = Limits("years", (1, 120))
BODY = {
    "height": Limits("cm", (30, 260), (100, 220), (140, 195)),
    "weight": Limits("kg", (1, 600), (35, 160), (50, 120)),
}
"""Limits of height and weight of adults."""
Cleared = dict[str, npt.NDArray[np.bool_]]
"""Which rows had a value that was cleared, by what was cleared."""


def clear_implausible(
    frame: pd.DataFrame,
    limits: Mapping[str, Limits],
    path: Path,
    stay: npt.NDArray[np.int64],
    hospital: npt.NDArray[np.int64],
) -> tuple[pd.DataFrame, Cleared]:
    """Return the frame with implausible values set to NaN, and which rows had one.

    Args:
        frame: values in columns.
        limits: of each column to check.
        path: the file, for the error.
        stay: the stay of each row.
        hospital: the hospital of each row; -1 where it is not known.

    Raises:
        DataError: a hospital's median of a column, or that of all, cannot be in the unit that eICU publishes, or two
            columns are turned round.
    """
    columns = {str(name): frame[name].to_numpy(float) for name in limits}
    _check_pairs(columns, str(path))
    for number in np.unique(hospital[hospital >= 0]).tolist():
        own = hospital == number
        _check_pairs({name: values[own] for name, values in columns.items()}, f"{path}: hospital {number}")
    cleared: Cleared = {}
    values: dict[str, pd.Series[float]] = {}
    for name, bound in limits.items():
        column = frame[name]
        _check_medians(column, bound, path, stay, hospital)
        numbers = column.to_numpy(float)
        implausible, code = bound.find_implausible(numbers), bound.find_codes(numbers)
        for reason, rows in ((describe_cleared(name, bound), implausible), (describe_codes(name), code)):
            if rows.any():
                cleared[reason] = rows
        values[name] = column.mask(implausible | code)
    return frame.assign(**values), cleared


def _check_pairs(columns: Mapping[str, npt.NDArray[np.float64]], where: str) -> None:
    """Refuse two columns that are turned round, and one of the wrong sign."""
    if pair := find_reversed_pair(columns):
        raise DataError(f"{where}: {pair[0]} is mostly larger than {pair[1]}: are the two columns turned round?")
    if turned := find_wrong_sign(columns):
        raise DataError(f"{where}: the sign of column {turned} is turned round: it falls as bicarbonate or pH rises")


def _check_medians(
    column: pd.Series[float],
    bound: Limits,
    path: Path,
    stay: npt.NDArray[np.int64],
    hospital: npt.NDArray[np.int64],
) -> None:
    """Refuse a column whose median, over all stays or over one hospital's, is outside its limits."""
    rows = pd.DataFrame({"stay": stay, "hospital": hospital, "value": column.to_numpy(float)}).dropna()
    if len(rows) >= MIN_STAYS_FOR_MEDIAN:
        low, high = bound.median_limits(rows["stay"].nunique())
        if not low <= float(rows["value"].median()) <= high:
            raise DataError(
                f"{path}: the column {column.name} cannot be in {bound.unit}; convert it to the unit of eICU"
            )
    stay_medians = rows[rows["hospital"] >= 0].groupby(["hospital", "stay"])["value"].median()
    for number, values in stay_medians.groupby(level="hospital"):
        low, high = bound.median_limits(len(values))
        if len(values) >= MIN_STAYS_FOR_MEDIAN and not low <= float(values.median()) <= high:
            raise DataError(
                f"{path}: hospital {number}: the column {column.name} cannot be in {bound.unit}; convert it to the "
                "unit of eICU"
            )
