"""Early warning: how often an alarm comes, how often for nothing, and how long before the event.

An alarm is an example that is called a class, and stands for the time from the example before. The lead time is that
of the first alarm from HORIZON hours before the event to its beginning: an alarm earlier than that is a false
one to those who come running (Reyna et al. 2020, Crit Care Med 48(2):210-217, count it so), and one after the
beginning warns of nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WARNING_HORIZON = 12
"""Hours before the event from which on an alarm warns of it."""
LEAD_TABLE_WIDTH = WARNING_HORIZON + 2
"""Length of a table of leads: patients with an event, then those first warned 0, 1, ... HORIZON full hours before."""


def sum_hours_by_class(hours: npt.ArrayLike, truth: Ints, group: Ints, groups: int, classes: int) -> Floats:
    """Return the hours that the examples of each class stand for, `(groups, classes)`."""
    index = group * classes + truth
    found = np.bincount(index, weights=np.asarray(hours, np.float64), minlength=groups * classes)
    return found.reshape(groups, classes).astype(np.float64)


def count_lead_times(until: npt.ArrayLike, alarm: npt.NDArray[np.bool_], group: Ints, groups: int) -> Floats:
    """Return for each group (patient) whether it has an event, and when it was first warned, `(groups, WIDTH)`.

    Args:
        until: `(examples,)`, hours until the event of the example's patient, NaN where none comes.
        alarm: `(examples,)`.
        group: `(examples,)`, indices below `groups`.
        groups: how many there are.
    """
    left = np.asarray(until, np.float64)
    ill = np.flatnonzero(np.isfinite(left))
    found = np.zeros((groups, LEAD_TABLE_WIDTH))
    found[group[ill], 0] = 1
    warned = ill[alarm[ill] & (left[ill] >= 0) & (left[ill] <= WARNING_HORIZON)]
    first = np.full(groups, -1.0)
    np.maximum.at(first, group[warned], left[warned])
    who = np.flatnonzero(first >= 0)
    found[who, 1 + first[who].astype(np.int64)] = 1
    return found


def median_lead_time(table: Floats) -> Floats:
    """Return the median lead in hours, `(...)`, of tables of leads `(..., WIDTH)`; NaN where no one was warned."""
    counts = table[..., 1:]
    cumulated = np.cumsum(counts, -1)
    n = cumulated[..., -1:]
    ends = (np.floor((n - 1) / 2), np.floor(n / 2))
    low, high = ((cumulated <= rank).sum(-1) for rank in ends)
    return np.where(n[..., 0] > 0, (low + high) / 2, np.nan)
