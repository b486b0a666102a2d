"""What is known of a hospital's inputs from the sums and histograms that it sends to be compared (common/distance.py).

Nothing is asked for besides: at a hospital, the sums are of enough people and the histograms have its gate's errors.
Numbers of few people are left out here too, before anything is written, so that simulated hospitals read alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.distance import HISTOGRAM_BINS, histogram_edges
from common.scaling import Scaling

MIN_PEOPLE = 5
"""Fewest people whose number is stated, where a hospital's own floor is not higher."""
MIN_FOR_QUARTILES = 20
"""Fewest people for a mean, a median and quartiles."""
COVERED = (0.9, 1.1)
"""Share of the values that a histogram must hold, without its suppressed bins and with its errors, for quartiles."""
STEPS = (1.0, 2.0, 5.0)
"""Quartiles are rounded to one of these times a power of ten, the largest that is no wider than their bin."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SiteSize:
    """How many a site's sums are of.

    Attributes:
        patients: training patients.
        examples: training examples.
        floor: the site's own fewest people whose number it states.
    """

    patients: int
    examples: int
    floor: int


def describe_columns(
    names: Sequence[str],
    yes_no: frozenset[str],
    sums: Mapping[str, Floats],
    cells: Floats,
    base: Scaling,
    size: SiteSize,
) -> list[dict[str, object]]:
    """Return a description of each column of a site, JSON-ready; None: of too few people, or not known.

    Args:
        names: the columns.
        yes_no: the names of those that are 0 or 1.
        sums: count, missing, total and square of each column.
        cells: histograms `(columns, HISTOGRAM_BINS + 1)`, the last bin of missing values.
        base: the scaling that places the bins.
        size: how many the sums are of.
    """
    lines: list[dict[str, object]] = []
    for index, name in enumerate(names):
        count, missing, total, square = (float(sums[key][index]) for key in ("count", "missing", "total", "square"))
        known, lacking = _state_share(count, size), _state_share(missing, size)
        line: dict[str, object] = {"name": name, "measured": known[0], "missing": lacking[0]}
        line |= {"missing_share": lacking[1]}
        if name in yes_no:
            yes = _state_share(total, size, count)
            lines.append({**line, "yes_no": True, "yes": yes[0], "yes_share": yes[1]})
            continue
        mean = deviation = quartiles = None
        if size.patients * count / max(size.examples, 1) >= MIN_FOR_QUARTILES:
            mean = total / count
            deviation = math.sqrt(max(square / count - mean**2, 0.0))
            if COVERED[0] <= cells[index, :HISTOGRAM_BINS].clip(0).sum() / count <= COVERED[1]:
                quartiles = find_quartiles(cells[index], float(base.centre[index]), float(base.spread[index]))
        lines.append({**line, "mean": mean, "deviation": deviation, "quartiles": quartiles})
    return lines


def _state_share(number: float, size: SiteSize, measured: float | None = None) -> tuple[int | None, float | None]:
    """Return a number of people and its share as they may be stated, None where it, or the rest, is of few.

    Where people have several examples the number of people is not known, and the share is of examples, in hundredths.

    Args:
        number: the examples.
        size: the site.
        measured: the examples that the share is of; None: all of the site.
    """
    whole = size.examples if measured is None else measured
    floor = max(size.floor, MIN_PEOPLE)
    if whole < floor or size.patients < floor:
        return None, None
    share = round(number / whole, 2)
    if size.examples != size.patients:
        return None, share
    if size.floor <= 1 and number in (0, whole):
        return round(number), share  # exact, and nobody: a hospital's own 0 may stand for a few
    return (None, None) if number < floor or whole - number < floor else (round(number), share)


def find_quartiles(cells: Floats, centre: float, spread: float) -> list[float] | None:
    """Return the lower quartile, the median and the upper quartile of a histogram, with an even spread within a bin.

    Args:
        cells: examples in each bin; suppressed ones are below 0, and the last is of missing values.
        centre: mean that places the bins.
        spread: standard deviation that places the bins.

    Returns:
        the quartiles, rounded to about the width of their bins; None: one is in an outermost bin, which has no end.
    """
    edges = centre + spread * histogram_edges()
    held = cells[:HISTOGRAM_BINS].clip(0)
    sums = np.cumsum(held)
    quartiles = []
    for share in (0.25, 0.5, 0.75):
        wanted = share * sums[-1]
        index = int(np.searchsorted(sums, wanted))
        if index in (0, HISTOGRAM_BINS - 1):
            return None
        low, high = float(edges[index]), float(edges[index + 1])
        value = low + (high - low) * (wanted - (sums[index] - held[index])) / held[index]
        quartiles.append(_round_to_width(float(value), high - low))
    return quartiles


def _round_to_width(value: float, width: float) -> float:
    """Return a value rounded to 1, 2 or 5 times a power of ten, the largest that is no wider than `width`.

    >>> _round_to_width(246.3, 7.2), _round_to_width(2.98, 0.09), _round_to_width(54.6, 0.6)
    (245.0, 3.0, 54.5)
    """
    power = 10.0 ** math.floor(math.log10(width))
    step = max(each * power for each in STEPS if each * power <= width * (1 + 1e-9))
    return float(f"{round(value / step) * step:.6g}")
