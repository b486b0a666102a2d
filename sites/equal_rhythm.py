"""People who have the same beats at the same distances as another person: one recording twice, or parts of one.

A recording that was cut, moved by some samples, stored with another gain or filtered has other inputs than the
original, so sites/equal_inputs.py does not find it. The distances between beats stay. Those of two people are never
equal for many beats but in a rhythm as regular as a clock (a pacemaker's), which is not compared.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort

LENGTH = 12
"""Distances of a stretch that is compared, in milliseconds."""
MIN_DISTINCT = 7
"""Fewest distinct distances of such a stretch."""
MOST_PEOPLE = 8
"""A stretch that more people have is no person's own."""
MIN_EQUAL = 3
"""Fewest equal stretches of two people."""
EQUAL_RHYTHM = "people whose beats have the same distances as another person's: one recording twice? (not left out)"


def count_equal_rhythms(cohort: Cohort) -> int:
    """Return how many people have stretches of beats of another person; 0 where examples have no time."""
    if cohort.seconds is None or not cohort.task.channels:
        return 0
    owners: dict[int, set[str]] = {}
    for index in np.unique(cohort.patient).tolist():
        for key in _stretch_keys(cohort.seconds[cohort.patient == index]).tolist():
            owners.setdefault(key, set()).add(cohort.persons[index])
    shared: dict[tuple[str, str], int] = {}
    for people in owners.values():
        for pair in combinations(sorted(people), 2) if len(people) <= MOST_PEOPLE else ():
            shared[pair] = shared.get(pair, 0) + 1
    return len({name for pair, number in shared.items() if number >= MIN_EQUAL for name in pair})


def _stretch_keys(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each stretch of beats whose distances vary."""
    distance = np.rint(np.diff(np.sort(seconds)) * 1000).astype(np.int64)
    if len(distance) < LENGTH:
        return np.zeros(0, np.uint64)
    stretches = np.lib.stride_tricks.sliding_window_view(distance, LENGTH)
    varied = (np.diff(np.sort(stretches, axis=1), axis=1) > 0).sum(1) + 1 >= MIN_DISTINCT
    factors = np.random.default_rng(0).integers(1, 2**63, LENGTH, dtype=np.uint64) | np.uint64(1)
    hashes: npt.NDArray[np.uint64] = (stretches[varied].astype(np.uint64) * factors).sum(1, dtype=np.uint64)
    return np.unique(hashes)
