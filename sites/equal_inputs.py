"""People who have the same inputs as another person: one person twice, or one recording under two names.

No name shows that a stay was copied under another number, or a recording under another file name, but its inputs do.
Two people may have the same inputs by chance where these are few and coarse (age and sex alone), so a column's values
are only judged where chance would give such a pair in fewer than one of a hundred data sets, if columns were
independent; of people with several examples, so many must be equal. Hours or beats in which little was measured are not
compared.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort, Windows

Keys = npt.NDArray[np.uint64]
BLOCK = 1 << 14
"""Examples whose keys are computed at a time."""
MOST_VALUES = 8_000_000
"""Values that are compared: of each patient as many of the first examples as this allows."""
MIN_KNOWN = 12
"""Fewest values of an example that were measured and are not 0; of fewer inputs, all of them."""
MIN_SHARE = 0.5
"""Share of a person's compared examples that another person has too."""
MAX_EXPECTED = 0.01
"""Largest expected number of equal pairs by chance."""
FURTHER, MOST_PROBABLE = 0.25, 1e-4
"""Weight of a person's further equal examples, and the probability of a pair from which on they show nothing."""
ROWS = 2000
"""Examples from which the chance of a pair is estimated."""
EQUAL_PEOPLE = "people whose inputs are the same as another person's: one person twice? (not left out)"


EQUAL_EXAMPLES = "examples whose inputs are the same as another one's of the same person: counted twice? (not left out)"


def count_equal_examples(cohort: Cohort) -> int:
    """Return how many examples have the inputs of an earlier one of the same person, where examples have no time."""
    if isinstance(cohort.x, Windows) or cohort.task.utility or (cohort.hours is not None and not cohort.task.channels):
        return 0  # hours in which nothing is measured anew may be equal
    part = cohort.take(_choose_examples(cohort))
    number = {name: i for i, name in enumerate(dict.fromkeys(part.persons))}
    owner = np.asarray([number[name] for name in part.persons], np.uint64)[part.patient]
    known = _count_known(part)
    pairs = np.stack([owner[known], example_keys(part)[known]])
    equal = int(pairs.shape[1] - np.unique(pairs, axis=1).shape[1])
    return equal if equal and _expected_pairs(part.take(known)) <= MAX_EXPECTED else 0


def example_keys(cohort: Cohort) -> Keys:
    """Return a 64-bit hash of the inputs of each example, `(examples,)`; of a window of hours, of its last hour."""
    keys = np.zeros(len(cohort.y), np.uint64)
    for start in range(0, len(keys), BLOCK):
        chosen = slice(start, start + BLOCK)
        for salt, flat in enumerate(_flat_inputs(cohort, chosen)):
            bits = flat.view(np.uint32).astype(np.uint64)
            bits[np.isnan(flat)] = 1
            factors = np.random.default_rng(salt).integers(1, 2**63, flat.shape[1], dtype=np.uint64) | np.uint64(1)
            keys[chosen] += (bits * factors).sum(1, dtype=np.uint64)
    return keys


def count_equal_people(cohort: Cohort) -> int:
    """Return how many people have the same inputs as another one in at least MIN_SHARE of their examples.

    Of the people of one group of equal inputs each counts but one.
    """
    chosen = _choose_examples(cohort)
    part = cohort.take(chosen)
    people = {name: number for number, name in enumerate(dict.fromkeys(part.persons))}
    owner = np.asarray([people[name] for name in part.persons], np.int64)[part.patient]
    if len(people) < 2:
        return 0
    keys, known = example_keys(part), _count_known(part)
    pairs = np.unique(np.stack([owner[known].astype(np.uint64), keys[known]]), axis=1)
    distinct, inverse, owners = np.unique(pairs[1], return_inverse=True, return_counts=True)
    if not (owners > 1).any():
        return 0
    needed = _fewest_equal(part.take(known))
    first = np.full(len(distinct), len(people), np.int64)
    holder = pairs[0].astype(np.int64)
    np.minimum.at(first, inverse, holder)
    again = (owners[inverse] > 1) & (first[inverse] < holder)
    total, equal = (np.bincount(part, minlength=len(people)) for part in (holder, holder[again]))
    return int(((equal >= needed) & (equal >= MIN_SHARE * total)).sum())


def _flat_inputs(cohort: Cohort, chosen: slice) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the features and the signal of some examples, `(examples, values)` each, without a negative zero."""
    x = cohort.x.rows[cohort.x.end[chosen]] if isinstance(cohort.x, Windows) else cohort.x[chosen]
    features, signal = (
        np.ascontiguousarray(part, dtype=np.float32).reshape(len(part), -1) + np.float32(0)
        for part in (cohort.features[chosen], x)
    )
    return features, signal


def _choose_examples(cohort: Cohort) -> npt.NDArray[np.int64]:
    """Return the first examples of each patient, with MOST_VALUES in all."""
    hours = isinstance(cohort.x, Windows)
    width = len(cohort.task.features) + cohort.task.channels * (1 if hours else cohort.task.samples)
    if len(cohort.y) * width <= MOST_VALUES:
        return np.arange(len(cohort.y))
    most = max(1, MOST_VALUES // (width * max(1, len(cohort.patients))))
    order = np.argsort(cohort.patient, kind="stable")
    owner = cohort.patient[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return np.sort(order[rank < most])


def _count_known(cohort: Cohort) -> npt.NDArray[np.bool_]:
    """Return which examples have at least MIN_KNOWN values that were measured and are not 0."""
    known = np.zeros(len(cohort.y), bool)
    for start in range(0, len(known), BLOCK):
        chosen = slice(start, start + BLOCK)
        parts = _flat_inputs(cohort, chosen)
        width = sum(part.shape[1] for part in parts)
        given = sum(((part != 0) & ~np.isnan(part)).sum(1) for part in parts)
        zeros = sum((part == 0).sum(1) for part in parts)
        known[chosen] = (given >= MIN_KNOWN) | ((width < MIN_KNOWN) & (given + zeros == width))
    return known


def _fewest_equal(cohort: Cohort) -> int:
    """Return in how many different examples two people must be equal, so that it is not by chance.

    The examples of one person depend on each other, so that each further one counts as FURTHER of an example.
    """
    n = max(2, len(cohort.y))
    expected = max(_expected_pairs(cohort), 1e-300)
    if expected <= MAX_EXPECTED:
        return 1
    probability = min(expected / (n * n / 2), 1.0)
    if probability > MOST_PROBABLE:
        return n + 1
    return 1 + int(np.ceil(np.log(MAX_EXPECTED / expected) / (FURTHER * np.log(probability))))


def _expected_pairs(cohort: Cohort) -> float:
    """Return how many pairs of equal examples chance would give, if the columns were independent."""
    n = len(cohort.y)
    step = max(1, n // ROWS)
    sample = cohort.take(np.arange(0, n, step))
    log_probability = 0.0
    for part in _flat_inputs(sample, slice(None)):
        for column in part.T:
            counts = np.unique(column, return_counts=True, equal_nan=True)[1].astype(np.float64)
            same = float((counts * (counts - 1)).sum()) / max(1.0, float(len(column)) * (len(column) - 1))
            log_probability += np.log(max(same, 1e-6))
    return float(np.exp(min(0.0, log_probability)) * n * n / 2)
