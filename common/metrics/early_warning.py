"""Early warning: rates of alarms and false alarms, and lead times before the event.

An alarm is an example that is predicted as a class; it stands for the time since the previous example. The lead time is
that of the first alarm from WARNING_HORIZON hours before the event until its onset: an earlier alarm counts as false
(as in Reyna et al. 2020, Crit Care Med 48(2):210-217), and one after the onset is no warning.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WARNING_HORIZON = 12
"""Longest time before the event, in hours, at which an alarm counts as a warning."""
LEAD_TABLE_WIDTH = WARNING_HORIZON + 2
"""Length of a lead table: patients with the event, then those first warned 0, 1, ... WARNING_HORIZON hours before."""


def sum_hours_by_class(hours: npt.ArrayLike, truth: Ints, group: Ints, groups: int, classes: int) -> Floats:
    """Return the hours that the examples of each class stand for, `(groups, classes)`.

    Args:
        hours: `(examples,)`.
        truth: `(examples,)`, class indices.
        group: `(examples,)`, indices below `groups`.
        groups: number of groups.
        classes: number of classes.
    """
    index = group * classes + truth
    sums = np.bincount(index, weights=np.asarray(hours, np.float64), minlength=groups * classes)
    return sums.reshape(groups, classes).astype(np.float64)


def count_lead_times(until: npt.ArrayLike, alarm: npt.NDArray[np.bool_], group: Ints, groups: int) -> Floats:
    """Return each group's lead table: whether the patient has the event, and the lead time of the first warning.

    A group is usually one patient; `LEAD_TABLE_WIDTH` describes the columns.

    Args:
        until: `(examples,)`, hours from the example to its patient's event; NaN: the patient has no event.
        alarm: `(examples,)`, whether the event is predicted.
        group: `(examples,)`, indices below `groups`.
        groups: number of groups.

    Returns:
        counts `(groups, LEAD_TABLE_WIDTH)`.
    """
    remaining = np.asarray(until, np.float64)
    ill = np.flatnonzero(np.isfinite(remaining))
    table = np.zeros((groups, LEAD_TABLE_WIDTH))
    table[group[ill], 0] = 1
    warned = ill[alarm[ill] & (remaining[ill] >= 0) & (remaining[ill] <= WARNING_HORIZON)]
    first = np.full(groups, -1.0)
    np.maximum.at(first, group[warned], remaining[warned])
    warned_groups = np.flatnonzero(first >= 0)
    table[warned_groups, 1 + first[warned_groups].astype(np.int64)] = 1
    return table


def median_lead_time(table: Floats) -> Floats:
    """Return the median lead time in hours `(...)` from lead tables `(..., LEAD_TABLE_WIDTH)`; NaN: no warnings."""
    counts = table[..., 1:]
    cumulative = np.cumsum(counts, -1)
    n = cumulative[..., -1:]
    ends = (np.floor((n - 1) / 2), np.floor(n / 2))
    low, high = ((cumulative <= rank).sum(-1) for rank in ends)
    return np.where(n[..., 0] > 0, (low + high) / 2, np.nan)
