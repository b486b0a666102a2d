"""The time of each row of a table, in hours."""

from __future__ import annotations

import re

import numpy as np

from sites.datasets.table.columns import CellError, Column, Floats
from sites.datasets.table.files import RawFile

_MONTH = re.compile(r"\d{4}(?:-?\d{2})?")
_ZONE = r"(?:Z|z|[+-]\d{2}:?(?:\d{2})?)$"
MOST_HOURS = 1_000_000.0
"""More than a life: such a number is a date as 20240131, or seconds."""


def read_hours(raw: RawFile, name: str, decimal: str, kinds: set[str]) -> Floats:
    """Return the time of each row in hours; `number` or `date` goes to `kinds`.

    Raises:
        DataError: a row has no time, or one that is neither a number of hours nor a date.
    """
    column: Column = raw.columns[name]
    if not column.present.all():
        raise raw.error(name, int(np.flatnonzero(~column.present)[0]) + 1, "no time: every row needs one")
    try:
        hours = column.numbers(decimal)
    except CellError:
        months = np.asarray([_MONTH.fullmatch(value) is not None for value in column.values])
        if row := column.first_row(months):
            raise raw.error(name, row, "a month or a year without a day: write the day, as in 2024-01-31") from None
        moments = _read_dates(raw, name)
        zoned = {re.search(r"[:T ]\d+.*?" + _ZONE, value) is not None for value in column.values}
        kinds |= {"date with a zone" if zone else "date" for zone in zoned}
        return moments
    if (beyond := np.abs(hours) > MOST_HOURS).any():
        raise raw.error(
            name, int(np.flatnonzero(beyond)[0]) + 1,
            "more than a million hours: is it a date or a number of seconds? Write hours, or 2024-01-31T13:00",
        )  # fmt: skip
    kinds.add("number")
    return hours


def _read_dates(raw: RawFile, name: str) -> Floats:
    import pandas as pd

    column = raw.columns[name]
    moments = pd.to_datetime(pd.Series(column.values, dtype=object), format="ISO8601", errors="coerce", utc=True)
    if (bad := moments.isna().to_numpy()).any() and (row := column.first_row(bad)):
        raise raw.error(name, row, "neither a number of hours nor a date and time as in 2024-01-31T13:00") from None
    start = pd.Timestamp(0, tz="UTC").as_unit("us")
    seconds = (moments.dt.as_unit("us") - start).dt.total_seconds().to_numpy(np.float64)
    hours: Floats = column.spread(seconds / 3600.0, np.nan)
    return hours
