"""The utility of an early warning: the worth of an alarm, and of silence, at each hour.

As the PhysioNet/CinC Challenge 2019 defines it (Reyna et al., Crit Care Med 48(2):210-217, 2020, and the
organisers' evaluate_sepsis_score.py). Sepsis begins 6 hours after the first hour labelled 1, because the labels are
shifted 6 hours ahead. With dt the hours since onset:

    dt                    alarm                          silence
    up to -6              (dt + 12) / 6, at least -0.05  0
    -6 to 3               (3 - dt) / 9                   -2 (dt + 6) / 9
    after 3               0                              0
    never has sepsis      -0.05                          0
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

AHEAD = 6
EARLY, OPTIMAL, LATE = -12, -6, 3
ALARM_BEST, SILENCE_WORST, FALSE_ALARM = 1.0, -2.0, -0.05


def hourly_utility(
    label: npt.NDArray[np.integer] | npt.NDArray[np.floating] | npt.NDArray[np.bool_], first: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the worth of silence (column 0) and of an alarm (column 1) at each hour, float32 `(rows, 2)`.

    Args:
        label: 0 or 1 `(rows,)`, every hour of each patient in order, patient after patient.
        first: `(patients,)`, each patient's first row, rising from 0.
    """
    utility = np.zeros((len(label), 2), dtype=np.float32)
    utility[:, 1] = FALSE_ALARM
    positive = np.flatnonzero(label)
    owner = np.searchsorted(first, positive, side="right") - 1
    septic, at = np.unique(owner, return_index=True)
    start = first[septic]
    hours = np.append(first[1:], len(label))[septic] - start
    before = np.cumsum(hours) - hours
    since = np.arange(hours.sum()) - np.repeat(before, hours)
    rows = since + np.repeat(start, hours)
    dt = since - np.repeat(positive[at] - start + AHEAD, hours)
    rise = np.maximum(ALARM_BEST * (dt - EARLY) / (OPTIMAL - EARLY), FALSE_ALARM)
    fall = ALARM_BEST * (LATE - dt) / (LATE - OPTIMAL)
    miss = SILENCE_WORST * (dt - OPTIMAL) / (LATE - OPTIMAL)
    early, over = dt <= OPTIMAL, dt > LATE
    utility[rows, 0] = np.where(early | over, 0.0, miss)
    utility[rows, 1] = np.where(early, rise, np.where(over, 0.0, fall))
    return utility


def hours_until_sepsis(
    label: npt.NDArray[np.integer] | npt.NDArray[np.floating] | npt.NDArray[np.bool_], first: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the hours until sepsis begins, float32 `(rows,)`: negative after onset, NaN for patients without sepsis.

    Arguments as of `hourly_utility`.

    >>> hours_until_sepsis(np.array([0, 0, 1, 1, 0]), np.array([0, 4])).tolist()
    [8.0, 7.0, 6.0, 5.0, nan]
    """
    until = np.full(len(label), np.nan, dtype=np.float32)
    positive = np.flatnonzero(label)
    septic, at = np.unique(np.searchsorted(first, positive, side="right") - 1, return_index=True)
    hours = np.append(first[1:], len(label))[septic] - first[septic]
    before = np.cumsum(hours) - hours
    rows = np.arange(hours.sum()) - np.repeat(before - first[septic], hours)
    until[rows] = np.repeat(positive[at] + AHEAD, hours) - rows
    return until


def normalised_utility(
    values: npt.NDArray[np.floating], alarm: npt.NDArray[np.bool_] | npt.NDArray[np.integer]
) -> float:
    """Return the utility of the alarms, scaled so that silence throughout is 0 and the best choice 1.

    The best choice takes the better of both at every hour, which equals the organisers' alarms from 12 hours before to
    3 hours after onset. NaN where no patient has sepsis: then no choice is better than silence.

    Args:
        values: `(rows, 2)`, as `hourly_utility` gives it.
        alarm: `(rows,)`, true where an alarm is given.

    >>> table = hourly_utility(np.array([0, 0, 1, 1]), np.array([0]))
    >>> normalised_utility(table, np.array([0, 0, 0, 0])), normalised_utility(table, np.array([1, 1, 1, 1]))
    (0.0, 1.0)
    """
    silence = values[:, 0].sum(dtype=np.float64)
    gained = np.where(np.asarray(alarm, dtype=bool), values[:, 1], values[:, 0]).sum(dtype=np.float64) - silence
    best = values.max(axis=1).sum(dtype=np.float64) - silence
    return float(gained / best) if best > 0 else float("nan")
