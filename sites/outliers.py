"""Outliers: cells far outside a site's own values, in columns for which no data set states a plausible range.

A federated scaling adds sums over all sites, so one cell of 9999 (a code for "missing", a typing error) at one
hospital widens the standard deviation for all of them, until a useful column is near 0 everywhere. Where a data set
states the ranges of its columns (`bounds`) it also checks their cells itself. Every other column is compared with the
site's own training examples: with `low` and `high` the 5% and 95% quantiles of its distinct values, a cell more than
FAR times `high - low` beyond them is an outlier. Quantiles of distinct values, because a laboratory value has a long
tail that is densely filled, which widens the range, while a code is one value however often it occurs. FAR is
generous: over the public data sets the farthest honest cell of such a column is 16 times as far (an amplitude of an
ECG), but for the time in hospital before intensive care, which may be months.

An outlier becomes missing where the task has missing values, because nothing is known of what was measured, and the
column's 0/1 input "... measured" becomes 0; it becomes the nearer of `low` and `high` where every value must be
given. It is counted by column. A column of fewer than MIN_DISTINCT values (a code, a score, a yes or no) has no tail
to judge by, and is not changed. Limits from the site's own examples would void the guarantee of private training,
which takes public ranges instead: do not call this there.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sites.cohort import SPLITS, Cohort, Windows

FAR = 20.0
"""Distance of an outlier beyond the quantiles, in units of the range between them."""
MIN_DISTINCT = 20
"""Fewest distinct values of a column that is judged."""
Limits = tuple[float, float, float, float]
"""Lowest and highest value that is no outlier, then the two quantiles."""


def clear_outliers(cohort: Cohort, bounded: Container[str] = ()) -> Cohort:
    """Return the cohort without outliers, counted by column in `excluded`.

    Args:
        cohort: a site's examples, assigned to splits; limits come from its training examples, or
            from all if it has none.
        bounded: inputs whose range the data set states, which are not judged.
    """
    task, excluded = cohort.task, dict(cohort.excluded)
    train = cohort.split == SPLITS.index("train")
    judged = train if train.any() else np.ones(len(train), np.bool_)
    features = _clear_columns(cohort.features, cohort.features[judged], task.features, bounded, task.missing, excluded)
    x = cohort.x
    if isinstance(x, Windows):
        own_rows = x.rows[np.unique(x.end[judged])]
        rows = _clear_columns(x.rows, own_rows, task.channel_names, bounded, task.missing, excluded)
        x = x if rows is x.rows else replace(x, rows=rows)
    elif task.channels:
        values = x.transpose(0, 2, 1)
        flat = values.reshape(-1, task.channels)
        own = values[judged].reshape(-1, task.channels)
        cleared = _clear_columns(flat, own, task.channel_names, bounded, task.missing, excluded)
        if cleared is not flat:
            x = np.ascontiguousarray(cleared.reshape(values.shape).transpose(0, 2, 1))
    if features is cohort.features and x is cohort.x:
        return cohort
    return replace(cohort, features=features, x=x, excluded=excluded)


def _clear_columns(
    values: npt.NDArray[np.float32],
    judged: npt.NDArray[np.float32],
    names: tuple[str, ...],
    bounded: Container[str],
    missing: bool,
    excluded: dict[str, int],
) -> npt.NDArray[np.float32]:
    """Return `(rows, columns)` without outliers, the same array where there is none, and count them."""
    cleared = values
    for i, name in enumerate(names):
        limits = None if name in bounded else _limits(judged[:, i])
        if limits is None:
            continue
        low, high, quantile_low, quantile_high = limits
        outside = (values[:, i] < low) | (values[:, i] > high)
        if not outside.any():
            continue
        cleared = values.copy() if cleared is values else cleared
        if missing:
            cleared[outside, i] = np.nan
            if (flag := f"{name} measured") in names:
                cleared[outside, names.index(flag)] = 0
        else:
            cleared[outside, i] = np.clip(values[outside, i], quantile_low, quantile_high)
        what = "read as not measured" if missing else "read as the nearest usual value"
        excluded[f"{name} far outside the hospital's own values, {what}"] = int(outside.sum())
    return cleared


def _limits(values: npt.NDArray[np.float32]) -> Limits | None:
    """Return the limits of a column, or None where it is not judged."""
    distinct = np.unique(values[~np.isnan(values)].astype(np.float64))
    if len(distinct) < MIN_DISTINCT:
        return None
    low = float(np.quantile(distinct, 0.05, method="higher"))
    high = float(np.quantile(distinct, 0.95, method="lower"))
    margin = FAR * (high - low)
    return low - margin, high + margin, low, high
