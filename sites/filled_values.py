"""One number in most rows of a measurement: filled in for what is missing, as a median, a 0 or a limit of a device.

A number among usual ones is no code that stands apart (sites/code_values.py), but no measurement of many different
values has one number in most of its rows. In the public data, with values carried forward, the most frequent number
of a laboratory value or vital sign has 36% of them (an oxygen share of 0.4, which is set and not measured).
"""

from __future__ import annotations

import re

import numpy as np

from sites.cohort import Cohort
from sites.person_units import find_factors, spread_columns

MIN_VALUES, MIN_DISTINCT = 200, 20
MOST_SHARE = 0.5
"""Share of the values from which on one number is reported."""
_MEASURED = re.compile(r"be|base ?excess|bicar|hco3|temp(?:erature)?|ph|inr|inr_pt|chloride|cl", re.IGNORECASE)
_OFTEN_ZERO = re.compile(r"fio2|bnd|methb|urine", re.IGNORECASE)


def count_filled_values(cohort: Cohort) -> dict[str, int]:
    """Return in how many examples a measurement has the number that most have, by the words under which they count."""
    if not (cohort.task.units or cohort.task.missing):
        return {}
    notes: dict[str, int] = {}
    for name, _, values in spread_columns(cohort):
        if _OFTEN_ZERO.fullmatch(name) or not (find_factors(name) or _MEASURED.fullmatch(name)):
            continue
        distinct, count = np.unique(values[~np.isnan(values)], return_counts=True)
        if len(distinct) >= MIN_DISTINCT and count.sum() >= MIN_VALUES and count.max() > MOST_SHARE * count.sum():
            notes[describe_filled(name)] = int(count.max())
    return notes


def describe_filled(column: str) -> str:
    """Return the words under which rows with the most frequent number of a measurement are counted.

    >>> describe_filled("lact")
    'lact of one number in most rows: filled in for missing, or a limit of the device? (not left out)'
    """
    return f"{column} of one number in most rows: filled in for missing, or a limit of the device? (not left out)"
