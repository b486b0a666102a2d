"""Inputs in which only a few people differ from all others, such as a rare code.

The update of such an input's weights rests on these few: with the known mean of the input, the sign of the update is
the outcome of the one person who has the code, in an honest model too. Before training without privacy a hospital
therefore gives these people the value that the others have. An input in which enough people differ is left as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort

_last: list[tuple[Cohort, int, Cohort]] = []
"""The last cohorts that were changed, and what became of them: each round of a run asks for the same one."""


def replace_rare_values(cohort: Cohort, floor: int) -> Cohort:
    """Return a cohort in whose features no value rests on few people.

    Args:
        cohort: training examples; missing values are values too.
        floor: where fewer people than this have another value than the most frequent one, they are given that one.
    """
    if floor <= 1 or not len(cohort.y):
        return cohort
    for earlier, minimum, done in _last:
        if earlier is cohort and minimum == floor:
            return done
    person = np.unique(np.asarray(cohort.persons, dtype=object)[cohort.patient], return_inverse=True)[1]
    features = cohort.features.copy()
    for column in features.T:
        rare = find_rare_rows(column, person, floor)
        if rare.any():
            column[rare] = column[~rare][0]
    done = replace(cohort, features=features)
    _last[:] = [*_last[-3:], (cohort, floor, done)]
    return done


def find_rare_rows(column: npt.NDArray[np.float32], person: npt.NDArray[np.int64], floor: int) -> npt.NDArray[np.bool_]:
    """Return the rows whose value differs from the most frequent one, if fewer than `floor` people have such rows.

    >>> find_rare_rows(np.array([0, 0, 1, 0], np.float32), np.arange(4), 2)
    array([False, False,  True, False])
    >>> find_rare_rows(np.array([0, 1, 1, 0], np.float32), np.arange(4), 2)
    array([False, False, False, False])
    """
    index, count = np.unique(column, return_inverse=True, return_counts=True)[1:]
    differs: npt.NDArray[np.bool_] = index != count.argmax()
    return differs if len(np.unique(person[differs])) < floor else np.zeros_like(differs)
