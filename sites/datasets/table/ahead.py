"""Rows in time: order, values carried forward, and labels of an event that lies ahead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sites.datasets.table.columns import Floats
from sites.datasets.table.description import Description
from sites.datasets.table.rows import TableRows

DEFAULT_HOURS = 1.0
"""Hours that a row covers where no patient has two rows."""


@dataclass(frozen=True)
class TimedRows:
    """Rows in order of time within each patient.

    Attributes:
        rows: the rows that are examples; `y` says whether the event lies ahead.
        covered: float32 `(rows,)`, hours until the patient's next row, for the last row the median of these.
        until: float32 `(rows,)`, hours until the patient's event, NaN without one.
    """

    rows: TableRows
    covered: npt.NDArray[np.float32]
    until: npt.NDArray[np.float32]


def look_ahead(rows: TableRows, description: Description, *, labelled: bool) -> TimedRows:
    """Return rows in order of time, labelled with the event ahead.

    A patient's event begins at the first row whose outcome is the event. Rows up to `ahead_hours` before are labelled
    with it; rows from then on are left out or kept as labelled, as `time.after` says.
    """
    time = description.time
    assert time is not None
    order = np.lexsort((np.arange(len(rows.y)), rows.hours, rows.patient))
    rows = take_rows(rows, order)
    starts = np.flatnonzero(np.diff(rows.patient, prepend=-1))
    first = np.repeat(starts, np.diff(starts, append=len(rows.y)))
    if time.carry:
        rows = replace(rows, values=_carry_forward(rows.features, first, description))
    covered = _covered_hours(rows.hours, first)
    if not labelled:
        return TimedRows(rows, covered, np.full(len(rows.y), np.nan, np.float32))
    onset = _onsets(rows, starts)
    until = onset - rows.hours
    keep = np.ones(len(rows.y), dtype=np.bool_)
    if time.after == "drop":
        keep = ~(until <= 0)
    with np.errstate(invalid="ignore"):
        y = np.where(np.isnan(until), 0, np.where(until > 0, until <= time.ahead_hours, rows.y)).astype(np.int64)
    retained = np.flatnonzero(keep)
    return TimedRows(take_rows(replace(rows, y=y), retained), covered[retained], until[retained].astype(np.float32))


def take_rows(rows: TableRows, chosen: npt.NDArray[np.int64]) -> TableRows:
    """Return a selection of the rows; patients and hospitals stay listed."""
    return replace(
        rows,
        values=rows.values[chosen],
        y=rows.y[chosen],
        patient=rows.patient[chosen],
        age=rows.age[chosen],
        sex=rows.sex[chosen],
        hours=rows.hours[chosen] if len(rows.hours) else rows.hours,
        file=rows.file[chosen],
        row=rows.row[chosen],
    )


def _onsets(rows: TableRows, starts: npt.NDArray[np.int64]) -> Floats:
    """Return for each row the time at which its patient's event begins, NaN without one."""
    onset = np.full(len(starts), np.inf)
    number = np.cumsum(np.isin(np.arange(len(rows.y)), starts)) - 1
    event = rows.y == 1
    np.minimum.at(onset, number[event], rows.hours[event])
    result: Floats = np.where(np.isinf(onset), np.nan, onset)[number]
    return result


def _carry_forward(
    features: npt.NDArray[np.float32], first: npt.NDArray[np.int64], description: Description
) -> npt.NDArray[np.float32]:
    carried = features.copy()
    flags = [False] * features.shape[1]
    position = 0
    for item in description.inputs:
        position += len(item.features)
        if item.indicator:
            flags[position - 1] = True
    row = np.arange(len(features))
    for column, is_flag in enumerate(flags):
        if is_flag:
            continue
        last = np.maximum.accumulate(np.where(np.isnan(features[:, column]), -1, row))
        carried[:, column] = np.where(last >= first, features[last, column], np.nan)
    return carried


def _covered_hours(hours: Floats, first: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    gap = np.append(np.diff(hours), np.nan)
    last_of_patient = np.append(first[1:] != first[:-1], True) if len(first) else np.zeros(0, np.bool_)
    gap[last_of_patient] = np.nan
    usual = float(np.nanmedian(gap)) if (~np.isnan(gap)).any() else DEFAULT_HOURS
    return np.where(np.isnan(gap), usual, gap).astype(np.float32)
