"""People whose values of a column are apart from everybody else's by the factor between two units of it.

A hospital's median shows another unit of all its patients, but not of one ward or one laboratory that a few patients
were sent to, and a range of cells that leaves room for the very sick often holds both units (a calcium of 2.3 mmol/L
is a possible number of mg/dL). Two things together show the other unit: the medians of these people lie beyond all
others' with a gap as wide as half of the factor (on a logarithmic scale) and as most others' range, and divided by the
factor they lie where nearly all others do. A column whose values range over half of the factor or more, as creatinine
in a hospital with dialysis, is not judged: there both units overlap. A person whose mean pressure is mostly above the
systolic one shows another unit too, however many people there are. Such values are counted and stay: only who owns the
data knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort, Windows

MIN_PEOPLE = 100
"""Fewest people with a column that is judged: of fewer, one very sick person is apart from all others too often."""
GAP = 0.5
"""Least gap between the people apart and all others, in units of the logarithm of the factor."""
MOST_RANGE = 0.5
"""Largest range of most others' logarithms, in the same units; the gap is at least as wide as this range."""
MOST_APART = 0.2
"""Largest share of people who are apart: more of them shift the others' own limits."""
USUAL, POSSIBLE = (10.0, 90.0), (2.5, 97.5)
"""Percentiles of the others: the range of most, and that in which those apart lie once divided by the factor."""
MOST_ROWS = 12
"""Rows of a person that are looked at, spread over all."""
FACTORS = tuple(
    (re.compile(f"(?:log )?(?:{words})"), factors)
    for words, factors in (
        ("[dms]bp|map|mean ?bp|(?:dia|sy)stolic(?: ?bp| (?:blood )?pressure)?|trestbps", (0.1333, 0.1)),
        ("etco2|pa?co2|pa?o2", (0.1333, 0.1)),
        ("hr|heart ?rate|pulse|thalach|resp|respiratory ?rate|a[ls]t|al[kp]alinephos|alp|ck", (1 / 60,)),
        ("fio2|o2sat|spo2|sao2|hct|h(?:a?e)matocrit|lymph|neut|bnd|methb", (0.01, 100.0)),
        ("bun|urea ?nitrogen", (0.357, 2.14)),
        ("ca|calcium", (0.2495, 0.5)),
        ("cai", (4.0,)),
        ("crea|creat|creatinine|serum creatinine|scr", (88.42, 10.0)),
        ("bili|bilirubin|bili_dir|bilirubin[ _](?:direct|total)", (17.1,)),
        ("glu|glucose", (1 / 18.016, 0.01)),
        ("chol|cholesterol", (1 / 38.67, 0.01)),
        ("lact?|lactate", (9.01,)),
        ("mg|magnesium", (0.4114,)),
        ("phos|phosphate", (0.323,)),
        ("k|potassium", (3.91,)),
        ("na|sodium", (2.299,)),
        ("tnt|tni|troponin(?:[ _]?[it])?", (1000.0, 0.001)),
        ("hgb|hb|h(?:a?e)moglobin", (0.6206, 10.0)),
        ("mchc", (0.6206, 10.0)),
        ("mch", (0.06206,)),
        ("alb|albumin", (10.0,)),
        ("crp|c ?reactive protein", (0.1,)),
        ("fgn|fibrinogen", (0.01, 0.0294)),
        ("plt|platelets?", (1000.0, 0.01)),
        ("wbc|leu[ck]ocytes", (1000.0,)),
        ("weight", (2.2046, 1000.0)),
        ("height", (0.01, 0.3937, 10.0)),
        ("age", (12.0, 365.25)),
    )
)  # fmt: skip
"""What a value is multiplied by in another unit, by the words of a column: from molar masses and definitions."""


def find_factors(column: str) -> tuple[float, ...]:
    """Return what the values of a column are multiplied by in other units; empty: not known.

    >>> find_factors("log creatinine"), find_factors("Lactate"), find_factors("HR 6 h mean")
    ((88.42, 10.0), (9.01,), ())
    """
    return next((factors for words, factors in FACTORS if words.fullmatch(column.lower())), ())


ORDERED = (("map", "sbp"), ("dbp", "sbp"), ("hgb", "hct"))
"""Pairs of columns, in small letters, whose first is never FAR_LARGER than the second in most rows of a person."""
FAR_LARGER = 1.5
"""As a factor: of values that were carried forward from different hours the first may be somewhat larger."""
MIN_ROWS = 5
"""Fewest rows of a person in which a pair is compared."""


def count_units_of_people(cohort: Cohort) -> dict[str, int]:
    """Return how many people seem to have a column in another unit, by the words under which they are counted."""
    if not (cohort.task.units or cohort.task.missing):
        return {}
    notes: dict[str, int] = {}
    paired = {name for pair in ORDERED for name in pair}
    columns = {
        name: (owner, values)
        for name, owner, values in spread_columns(cohort)
        if find_factors(name) or name.lower() in paired
    }
    by_small = {name.lower(): name for name in columns}
    for low, high in ((by_small.get(low), by_small.get(high)) for low, high in ORDERED):
        if low and high and (people := _count_reversed(columns[low][0], columns[low][1], columns[high][1])):
            notes[describe_reversed(low, high)] = people
    for name, (owners, values) in columns.items():
        medians = _person_medians(owners, np.expm1(values) if name.lower().startswith("log ") else values)
        if people := max((count_apart(medians, factor) for factor in find_factors(name)), default=0):
            notes[describe_unit_of_people(name)] = people
    return notes


def spread_columns(cohort: Cohort) -> Iterator[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.floating]]]:
    """Yield each column's name, whose each value is, and values of a few rows of each person."""
    number = {name: i for i, name in enumerate(dict.fromkeys(cohort.persons))}
    person = np.asarray([number[name] for name in cohort.persons], np.int64)[cohort.patient]
    rows = _spread_rows(person)
    owner = person[rows]
    for i, name in enumerate(cohort.task.features):
        yield name, owner, cohort.features[rows, i]
    if isinstance(cohort.x, Windows):
        for i, name in enumerate(cohort.task.channel_names):
            yield name, owner, cohort.x.rows[cohort.x.end[rows], i]
    elif cohort.task.missing and cohort.task.channels:
        dense = np.asarray(cohort.x[rows])
        for i, name in enumerate(cohort.task.channel_names):
            yield name, np.repeat(owner, dense.shape[2]), dense[:, i].ravel()


def _count_reversed(owner: npt.NDArray[np.int64], low: npt.NDArray[np.floating], high: npt.NDArray[np.floating]) -> int:
    """Return how many people have a far larger value in the first column in most of their rows, of MIN_ROWS or more."""
    known = ~np.isnan(low) & ~np.isnan(high)
    if not known.any():
        return 0
    rows = np.bincount(owner[known])
    reversed_rows = np.bincount(owner[known], low[known] > FAR_LARGER * high[known], minlength=len(rows))
    return int(((rows >= MIN_ROWS) & (reversed_rows > rows / 2)).sum())


def describe_reversed(low: str, high: str) -> str:
    """Return the words under which people of whom two columns are the wrong way round are counted.

    >>> describe_reversed("MAP", "SBP")
    'people whose MAP is mostly far larger than SBP: another unit, or turned round? (not left out)'
    """
    return f"people whose {low} is mostly far larger than {high}: another unit, or turned round? (not left out)"


def describe_unit_of_people(column: str) -> str:
    """Return the words under which people with a column in another unit are counted.

    >>> describe_unit_of_people("crp")
    'people whose crp is apart from all others by the factor between two units: another unit? (not left out)'
    """
    return (
        f"people whose {column} is apart from all others by the factor between two units: another unit? (not left out)"
    )


def count_apart(medians: npt.NDArray[np.float64], factor: float) -> int:
    """Return how many people's medians are apart from all others as in a unit of `factor` times as large numbers.

    >>> usual = np.linspace(80, 160, 120)
    >>> count_apart(np.array([*usual, 5.6, 5.9]), 1 / 18), count_apart(np.array([*usual, 40.0]), 1 / 18)
    (2, 0)
    """
    medians = medians[medians > 0]
    if len(medians) < MIN_PEOPLE:
        return 0
    size = abs(np.log(factor))
    levels = np.sort(np.log(medians) if factor > 1 else -np.log(medians))
    start = int(len(levels) * (1 - MOST_APART))
    gaps = np.diff(levels[start - 1 :])
    wide = np.flatnonzero(gaps >= GAP * size)
    if not len(wide):
        return 0
    first = start + int(wide[0])
    low, high = np.percentile(levels[:first], USUAL)
    if high - low > min(MOST_RANGE * size, gaps[wide[0]]):
        return 0
    lowest, highest = np.percentile(levels[:first], POSSIBLE)
    return len(levels) - first if lowest <= float(np.median(levels[first:])) - size <= highest else 0


def _spread_rows(person: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return at most about MOST_ROWS rows of each person, spread evenly over all of the person's rows."""
    order = np.argsort(person, kind="stable")
    _, start, count = np.unique(person[order], return_index=True, return_counts=True)
    position = np.arange(len(order)) - np.repeat(start, count)
    rows: npt.NDArray[np.int64] = order[position % np.repeat(np.maximum(count // MOST_ROWS, 1), count) == 0]
    return rows


def _person_medians(owner: npt.NDArray[np.int64], values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the median of each person's values, of those who have any."""
    known = ~np.isnan(values)
    owner, values = owner[known], values[known].astype(np.float64)
    order = np.lexsort((values, owner))
    _, start, count = np.unique(owner[order], return_index=True, return_counts=True)
    middle = values[order]
    return np.asarray((middle[start + (count - 1) // 2] + middle[start + count // 2]) / 2)
