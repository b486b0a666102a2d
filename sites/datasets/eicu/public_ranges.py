"""The public value range of each input of eICU; noisy sums clip values to it.

Of the variables of the first day, the limits of a hospital's median in sites/datasets/eicu/units.py; of the hourly
ones, which have the same units, the same or a textbook's reference interval widened. Never from these patients.
"""

from __future__ import annotations

import math

from sites.datasets.eicu import apache
from sites.datasets.eicu.features import NEURO, SKEWED, Encoding
from sites.datasets.eicu.hourly import CHANNELS, STATIC
from sites.datasets.eicu.units import HOURLY, UNITS

Range = tuple[float, float]

OTHER_RANGES: dict[str, Range] = {
    "age": (16, 90), "eyes": (1, 4), "motor": (1, 6), "verbal": (1, 5), "height": (140, 200), "weight": (40, 150)
}  # fmt: skip
HOURLY_RANGES: dict[str, Range] = {
    "alp": (0, 300), "alt": (0, 400), "ast": (0, 400), "be": (-15, 15), "bicar": (12, 36), "bili_dir": (0, 8),
    "bnd": (0, 30), "ca": (6, 11), "cai": (0.8, 1.5), "ck": (0, 2000), "ckmb": (0, 60), "cl": (90, 120),
    "crp": (0, 300), "dbp": (30, 110), "fgn": (80, 700), "hgb": (6, 16), "inr_pt": (0.8, 4), "k": (2.8, 5.8),
    "lact": (0, 8), "lymph": (0, 40), "mch": (24, 36), "mchc": (30, 37), "mcv": (75, 105), "methb": (0, 3),
    "mg": (1.2, 3), "neut": (40, 100), "o2sat": (85, 100), "phos": (1, 7), "plt": (0, 500), "ptt": (20, 100),
    "sbp": (70, 190), "tnt": (0, 5), "urine": (0, 500),
}  # fmt: skip


def day_ranges(encoding: Encoding, names: tuple[str, ...]) -> dict[str, Range]:
    """Return the range of each input of the first day that has one in this file; 0 to 1 for a 0/1 input.

    >>> day_ranges("bands", ("heartrate", "heartrate above 100", "sepsis"))
    {'heartrate': (30.0, 200.0), 'heartrate above 100': (0.0, 100.0), 'sepsis': (0.0, 1.0)}
    """
    ranges: dict[str, Range] = {}
    for name in names:
        plain = name.removeprefix("log ")
        variable, _, part = plain.partition(" ")
        if name in OTHER_RANGES:
            ranges[name] = OTHER_RANGES[name]
        elif encoding == "points" and plain.endswith(" points"):
            ranges[name] = 0.0, float(max(apache.BANDS.get(variable, ((), (20,)))[1]))
        elif (variable in UNITS or variable == "age") and part != "measured":
            low, high = (
                float(end) for end in (UNITS[variable].median if variable in UNITS else OTHER_RANGES[variable])
            )
            if part.startswith("below"):
                low, high = 0.0, float(part.split()[1]) - low
            elif part.startswith("above"):
                low, high = 0.0, high - float(part.split()[1])
            if (encoding == "bands" and variable in SKEWED) or name.startswith("log "):
                low, high = math.log1p(low), math.log1p(high)
            ranges[name] = low, high
        elif variable not in NEURO:
            ranges[name] = 0.0, 1.0
    return ranges


def hourly_ranges() -> dict[str, Range]:
    """Return the range of each input of the hourly view."""
    ranges: dict[str, Range] = {"male": (0.0, 1.0)} | {
        name: OTHER_RANGES[name] for name in STATIC if name in OTHER_RANGES
    }
    for name in CHANNELS:
        ranges[name] = HOURLY_RANGES[name] if name in HOURLY_RANGES else HOURLY[name].median
        ranges[f"{name} measured"] = 0.0, 1.0
    return ranges
