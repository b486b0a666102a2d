"""Numbers that may be a code for a missing value: one number in many rows, apart from all others.

A range cannot find a code that lies within it, as 99 among white cell counts, 0 among heart rates or -9 among base
excesses, and many columns have no range. Of a column alone two things show a code. It lies apart: below or above all
other values, farther than these are from each other. Or it occurs far more often than the values next to it. Numbers
that look like a code (a repeated digit, 0, a power of ten, the ends of an integer's range) are suspected earlier than
others. A suspected code is reported and stays in the data: only who owns the data knows what it means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort, Windows

MIN_VALUES = 20
"""Fewest values of a column that is judged."""
MIN_REPEATS, MIN_SHARE = 5, 0.01
"""How often a number that does not look like a code must occur, and in which share of the values."""
NEAR, FAR, SO_FAR = 0.5, 1.0, 10.0
"""Distance from all other values, in units of the range of these: of a number that looks like a code, of any other,
and of a code that occurs once."""
MORE_OFTEN, NEIGHBOURS = 6.0, 10
"""A code occurs so many times as often as any of so many values on each side of it."""
MOST_CODES = 4
"""Codes at each end of a column: several reasons for a missing value have a code each, as 7, 8 and 9."""
MIN_DISTINCT = 12
"""A column of fewer values is a score or a set of codes, of which one may not occur at a hospital."""
MOST_ROWS = 200_000
"""Rows that are looked at, spread evenly over all."""
_REPEATED = re.compile(r"([1-9])\1+|9+[78]|[7-9]")
"""A repeated digit (88, 999), an end of a row of nines (997, 9998), or one of 7, 8 and 9."""
_ENDS = {float(sign * 2**bits - down) for bits in (15, 16, 31, 32, 63) for sign in (1, -1) for down in (0, 1)}
_POWERS = {float(10**digits) for digits in range(3, 16)}


def looks_like_code(number: float) -> bool:
    """Return whether programs and people write such a number for a missing value.

    >>> [looks_like_code(number) for number in (-9, 999, 9998, 99.9, 0, -2147483648, -1000, 120, 36.6)]
    [True, True, True, True, True, True, True, False, False]
    """
    size = abs(number)
    if number in (0.0, -1.0, -2.0) or number in _ENDS or size in _POWERS:
        return True
    for digits in range(3):
        scaled = round(float(size) * 10**digits, 6)
        if scaled.is_integer():
            text = str(int(scaled))
            return bool(_REPEATED.fullmatch(text)) and (digits == 0 or len(text) > 2 or number < -1)
    return False


def count_code_values(cohort: Cohort, bounded: Container[str] = ()) -> dict[str, int]:
    """Return the cells of a site's examples that may hold a code, counted by column and number.

    Args:
        cohort: a site's examples.
        bounded: inputs whose range the data set states, in which 0 is not judged: it is possible, or was cleared.
    """
    task = cohort.task
    if not (task.units or task.missing):
        return {}
    columns = [(name, cohort.features, i) for i, name in enumerate(task.features)]
    x = cohort.x
    if isinstance(x, Windows):
        columns += [(name, x.rows, i) for i, name in enumerate(task.channel_names)]
    elif task.missing and task.channels:
        values = x.transpose(0, 2, 1).reshape(-1, task.channels)
        columns += [(name, values, i) for i, name in enumerate(task.channel_names)]
    notes: dict[str, int] = {}
    for name, table, i in columns:
        column = table[:: max(1, len(table) // MOST_ROWS), i]
        for number in find_code_values(column):
            if number or name not in bounded:
                notes[describe_code_value(name, number)] = int((table[:, i] == np.float32(number)).sum())
    return notes


def describe_code_value(column: str, number: float) -> str:
    """Return the words under which cells that may hold a code are counted.

    >>> describe_code_value("crp", 88.0)
    'crp of 88, apart from all other values: a code for missing? (not left out)'
    """
    text = f"{number:.15g}" if looks_like_code(number) else "one number"
    return f"{column} of {text}, apart from all other values: a code for missing? (not left out)"


def find_code_values(values: npt.NDArray[np.floating]) -> dict[float, int]:
    """Return the numbers of a column that may be a code for a missing value, and how often each occurs.

    Args:
        values: a column, NaN where not measured.
    """
    distinct, counts = np.unique(values[~np.isnan(values)].astype(np.float64), return_counts=True)
    total = int(counts.sum())
    if total < MIN_VALUES or len(distinct) < 3:
        return {}
    first, last = _find_ends(distinct)
    apart = [i for i in (*range(first), *range(last, len(distinct))) if _is_apart(distinct, counts, i, first, last)]
    codes = {float(distinct[i]): int(counts[i]) for i in apart}
    whole = np.flatnonzero(distinct % 1 == 0)  # those with decimals may be of another device
    for at, i in enumerate(whole.tolist()):
        number = float(distinct[i])
        if counts[i] >= MIN_REPEATS and not -2 <= number < 10 and looks_like_code(number):
            near = np.concatenate([whole[max(0, at - NEIGHBOURS) : at], whole[at + 1 : at + 1 + NEIGHBOURS]])
            if len(near) >= NEIGHBOURS and counts[i] >= MORE_OFTEN * counts[near].max():
                codes[number] = int(counts[i])
    return dict(sorted(codes.items()))


def _find_ends(distinct: npt.NDArray[np.float64]) -> tuple[int, int]:
    """Return the first and the end of the values between those that look like codes, or the outermost ones."""
    first, last = 0, len(distinct)
    while first < MOST_CODES and last - first > 2 and looks_like_code(float(distinct[first])):
        first += 1
    while len(distinct) - last < MOST_CODES and last - first > 2 and looks_like_code(float(distinct[last - 1])):
        last -= 1
    return max(first, 1), min(last, len(distinct) - 1)


def _is_apart(distinct: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], at: int, first: int, last: int) -> bool:
    """Return whether the value `at` lies apart from those between `first` and `last` as a code does."""
    number, count, others = float(distinct[at]), int(counts[at]), distinct[first:last]
    nearest = float(others[0] if at < first else others[-1])
    extent = float(others[-1] - others[0])
    is_code = looks_like_code(number)
    if is_code and number < 0 <= others[0] and (count > 1 or number == math.floor(number)):
        return True
    distance = abs(number - nearest) / extent if extent else math.inf
    if len(others) < MIN_DISTINCT:
        return is_code and abs(number) >= 7 and distance > FAR
    if is_code:
        return (count > 1 and distance > NEAR) or distance > SO_FAR
    may_be_code = number % 1 == 0 and not 0 <= number < 10
    return may_be_code and count >= max(MIN_REPEATS, MIN_SHARE * counts.sum()) and distance > FAR
