"""Columns of a table as sums over them may leave: no sum is a count of few people, or of all but a few.

The sum of a yes/no column is the number of those who have it, and with a few values the sum and the sum of squares give
the number of each. So a value that fewer people than the floor have is counted as the nearest value that enough have:
a yes of three people as a no, a no of three people as a yes, whether it is of three people or of nobody. Likewise a
column that few have measured is as if nobody had, and one that few lack is filled with its median: else the number of
those who lack it would show. Sums of products of two such columns are numbers in their joint table, which must have no
small cell either (`floor_products`).

People are counted, not rows: one person may have many. A floor of 1 changes nothing.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

MAX_VALUES = 10
"""A column of more different values is no column of categories: its sums do not give their numbers."""
FIRST_ROWS = 1 << 12
"""Rows that are looked at first: they show that most columns have more than MAX_VALUES values."""

Values = npt.NDArray[np.float32]
Owners = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def floor_columns(values: Values, owner: Owners, floor: int) -> Values:
    """Return columns `(rows, columns)` in which no value, and no lack of one, is of fewer people than the floor.

    Args:
        values: the columns; NaN: missing. They are not changed.
        owner: the person of each row, `(rows,)`.
        floor: the smallest number of people.
    """
    if floor <= 1 or not len(values):
        return values
    floored = values
    for position in range(values.shape[1]):
        column = _floor_column(values[:, position], owner, floor)
        if column is not None:
            floored = values.copy() if floored is values else floored
            floored[:, position] = column
    return floored


def floor_columns_by_class(values: Values, owner: Owners, labels: npt.NDArray[np.int64], floor: int) -> Values:
    """Return columns `(rows, columns)` floored among the rows of each class alone.

    A run may train on one class only (an autoencoder on normal examples), and its sums taken from those of all are sums
    over the others.

    Args:
        values, owner, floor: as of `floor_columns`.
        labels: the class of each row, `(rows,)`; of several labels a row, `(rows, labels)`, rows are taken together.
    """
    if floor <= 1 or labels.ndim > 1 or not len(values):
        return floor_columns(values, owner, floor)
    floored = values.copy()
    for label in np.unique(labels):
        rows = labels == label
        floored[rows] = floor_columns(values[rows], owner[rows], floor)
    return floored


def _floor_column(column: Values, owner: Owners, floor: int) -> Values | None:
    """Return a column `(rows,)` with values of too few people changed; None: none is."""
    missing = np.isnan(column)
    changed = column
    if missing.any():
        if _count_people(owner, ~missing) < floor:
            return None if missing.all() else np.full_like(column, np.nan)
        if _count_people(owner, missing) < floor:
            middle = np.sort(column[~missing])[int((~missing).sum()) // 2]  # a value that occurs, unlike a mean
            changed = np.where(missing, middle, column)
    known = ~np.isnan(changed)
    kinds = find_values(changed)
    if kinds is not None and len(kinds):
        people = np.asarray([_count_people(owner, changed == kind) for kind in kinds])
        if (people < floor).any():
            changed = changed.copy()
            enough = kinds[people >= floor] if (people >= floor).any() else kinds[[int(people.argmax())]]
            nearest = enough[np.abs(kinds[:, None] - enough).argmin(1)]
            changed[known] = nearest[np.searchsorted(kinds, changed[known])]
    return None if changed is column else changed


def floor_products(second: Floats, z: Floats, owner: Owners, floor: int) -> None:
    """Change sums of products of columns in place, so that none gives a cell of few people in a joint table.

    With the sums of the two columns, the sum of their products is all of the joint table of two yes/no columns. Where a
    cell of it is of few people, it becomes that of the nearest table with the same sums in which none is. Where there
    is none, a person has several rows, or a column has more values, it becomes that of independent columns.

    Args:
        second: sums of products, `(columns, columns)`, with missing values as 0.
        z: the columns that `floor_columns` returned, scaled, `(rows, columns)`.
        owner: the person of each row, `(rows,)`.
        floor: the smallest number of people.
    """
    if floor <= 1:
        return
    filled = np.nan_to_num(z, nan=0.0)
    persons = np.unique(owner, return_inverse=True)[1]
    few = {position: kinds for position in range(z.shape[1]) if (kinds := find_values(filled[:, position])) is not None}
    codes = {position: np.searchsorted(kinds, filled[:, position]) for position, kinds in few.items()}
    single = len(np.unique(persons)) == len(persons)
    for one, other in itertools.combinations(few, 2):
        shape = len(few[one]), len(few[other])
        cell = codes[one] * shape[1] + codes[other]
        held = np.unique(persons * math.prod(shape) + cell) % math.prod(shape)
        people = np.bincount(held, minlength=math.prod(shape)).reshape(shape)
        if not ((people > 0) & (people < floor)).any():
            continue
        both = find_nearest_table(people, floor) if single and shape == (2, 2) else None
        if both is None:
            changed = filled[:, one].sum() * filled[:, other].sum() / len(filled)
        else:
            step = float(np.diff(few[one])[0] * np.diff(few[other])[0])
            changed = second[one, other] + step * (both - int(people[1, 1]))
        second[one, other] = second[other, one] = changed


def find_nearest_table(table: npt.NDArray[np.int64], floor: int) -> int | None:
    """Return the last cell of the nearest `(2, 2)` table with the same sums and no cell of 1 to `floor` - 1 people.

    Returns:
        None: there is no such table.

    >>> find_nearest_table(np.array([[60, 18], [18, 2]]), 5), find_nearest_table(np.array([[1, 1], [1, 0]]), 5)
    (0, None)
    """
    one, other, everyone = int(table[1].sum()), int(table[:, 1].sum()), int(table.sum())
    both = np.arange(max(0, one + other - everyone), min(one, other) + 1)
    cells = np.stack([both, one - both, other - both, everyone - one - other + both])
    safe = both[((cells == 0) | (cells >= floor)).all(0)]
    return int(safe[np.abs(safe - table[1, 1]).argmin()]) if len(safe) else None


def find_values(column: npt.NDArray[np.floating]) -> npt.NDArray[np.floating] | None:
    """Return the different values of a column, sorted, without NaN; None: there are more than MAX_VALUES."""
    for part in (column[:FIRST_ROWS], column):
        kinds = np.unique(part[~np.isnan(part)])
        if len(kinds) > MAX_VALUES:
            return None
    return kinds


def _count_people(owner: Owners, rows: npt.NDArray[np.bool_]) -> int:
    """Return how many people have one of some rows."""
    return len(np.unique(owner[rows]))
