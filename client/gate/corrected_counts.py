"""Counts of predictions, corrected for outcomes that were replaced at random.

Outcomes that are replaced with known probabilities (randomised response: Warner 1965,
doi:10.1080/01621459.1965.10480775) change what a table of counts is expected to hold by a known matrix. Its inverse
gives an estimate without bias, in which some counts may be below 0. Setting these to 0 would invent people, so:

- A confusion matrix is fitted to its estimated totals again (iterative proportional fitting: Deming and Stephan 1940,
  doi:10.1214/aoms/1177731829).
- Of a histogram the running sums are made to rise (isotonic regression: Barlow and Brunk 1972,
  doi:10.1080/01621459.1972.10481216): what is below 0 in a bin is taken from its neighbours, so that an AUROC stays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from client.gate.tables import loss_of_histogram
from common.metrics.counts import Counts
from common.metrics.early_warning import Floats, Ints

FITTING_STEPS = 50
"""Most steps of proportional fitting."""
RISING_STEPS = 20
"""Most times that running sums with and without a class are made to rise in turn."""
FIT_TOLERANCE = 0.01
"""Change, in people, below which a table is not fitted further: it is rounded to whole people."""


def mix_classes(classes: int, share: float) -> Floats:
    """Return the probability of each outcome (column) given a patient's own (row), `(classes, classes)`.

    Args:
        classes: the number of outcomes.
        share: probability that an outcome is replaced by another one, each as likely.

    >>> mix_classes(3, 0.2).tolist()
    [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    """
    mixing = np.full((classes, classes), share / (classes - 1))
    np.fill_diagonal(mixing, 1 - share)
    return mixing


def mix_anomalies(classes: int, normal: int, share: float) -> Floats:
    """Return the same for normal (first) and abnormal, where `normal` of the `classes` outcomes are normal.

    >>> mix_anomalies(5, 1, 0.2).round(3).tolist()
    [[0.8, 0.2], [0.05, 0.95]]
    """
    other = share / (classes - 1)
    return np.array([
        [1 - other * (classes - normal), other * (classes - normal)], [other * normal, 1 - other * normal]
    ])  # fmt: skip


def correct_counts(counts: Counts, mixing: Floats, hidden: npt.NDArray[np.bool_] | None = None) -> Counts:
    """Return counts that were made with replaced outcomes as they would probably be with the patients' own.

    Args:
        counts: of one table, without a leading axis.
        mixing: probability of each outcome given a patient's own, `(classes, classes)`, or of each label `(2, 2)`.
        hidden: suppressed classes, bool `(classes,)`: nobody who was counted has them. Default: none.
    """
    multilabel = counts.confusion.ndim == 3
    away = np.zeros(len(counts.scores), np.bool_) if hidden is None else hidden
    if multilabel:
        confusion = np.stack([correct_table(label, mixing) for label in counts.confusion])
    else:
        confusion = correct_table(counts.confusion, mixing, away)
    tables = []
    for position, histogram in enumerate(counts.scores):
        own = mixing if multilabel else _mix_one_against_rest(mixing, position)
        tables.append(_without_event(histogram) if away[position] else correct_histogram(histogram, own))
    scores = np.stack(tables)
    time = counts.time
    if time.size:
        time = np.maximum(np.linalg.solve(mixing.T, time), 0.0)
        time *= counts.time.sum() / max(time.sum(), np.finfo(float).tiny)
    loss = np.asarray(loss_of_histogram(scores, confusion))
    return replace(counts, confusion=confusion, scores=scores, time=time, loss=loss)


def correct_table(observed: Ints, mixing: Floats, hidden: npt.NDArray[np.bool_] | None = None) -> Ints:
    """Return a table `(outcomes, columns)` corrected for replaced outcomes, with the same sum of each column.

    Args:
        observed: counts of replaced outcomes.
        mixing: probability of each outcome given a patient's own, `(outcomes, outcomes)`.
        hidden: outcomes that nobody has, bool `(outcomes,)`. Default: none.

    >>> correct_table(np.array([[76, 13], [24, 37]]), mix_classes(2, 0.2)).tolist()
    [[93, 5], [7, 45]]
    """
    columns = observed.sum(0).astype(np.float64)
    has = np.ones(len(observed), np.bool_) if hidden is None else ~hidden
    estimate = np.linalg.solve(mixing.T, observed.astype(np.float64))
    rows = np.where(has, np.maximum(estimate.sum(1), 0.0), 0.0)
    if not rows.sum():  # all that were counted is estimated to be of suppressed outcomes
        rows = has.astype(np.float64)
    rows *= columns.sum() / rows.sum()
    fitted = np.where(has[:, None], np.maximum(estimate, 0.0), 0.0)
    lost = (fitted.sum(0) == 0) & (columns > 0)  # a column that was estimated to hold suppressed outcomes alone
    fitted[:, lost] = rows[:, None]
    for _ in range(FITTING_STEPS):
        fitted = _scale(fitted, rows, 1)
        fitted = _scale(fitted, columns, 0)
        if np.abs(fitted.sum(1) - rows).max() < FIT_TOLERANCE:
            break
    return _round_to_people(fitted[1:], observed.sum(0))


def correct_histogram(observed: Ints, mixing: Floats) -> Ints:
    """Return a histogram `(2, bins)` of those without and with a class, corrected, with the same sum of each bin.

    >>> correct_histogram(np.array([[40, 9, 7], [10, 4, 30]]), mix_classes(2, 0.2)).tolist()
    [[50, 10, 0], [0, 3, 37]]
    """
    from scipy.optimize import isotonic_regression

    columns = observed.sum(0)
    people = np.cumsum(columns).astype(np.float64)
    having = np.cumsum(np.linalg.solve(mixing.T, observed.astype(np.float64))[1])
    for _ in range(RISING_STEPS):
        before = having
        having = isotonic_regression(np.clip(having, 0.0, people)).x
        having = people - isotonic_regression(people - having).x
        if np.abs(having - before).max(initial=0.0) < FIT_TOLERANCE:
            break
    with_class = np.diff(having, prepend=0.0)
    return _round_to_people(with_class[None], columns)


def _without_event(histogram: Ints) -> Ints:
    """Return a histogram whose examples are all without the class."""
    return np.stack([histogram.sum(0), np.zeros(histogram.shape[1], np.int64)])


def _scale(table: Floats, sums: Floats, axis: int) -> Floats:
    """Return a table scaled to given sums over an axis; what has no sum stays as it is."""
    own = table.sum(axis)
    factor = np.divide(sums, own, out=np.ones_like(own), where=own > 0)
    return np.asarray(table * np.expand_dims(factor, axis))


def _round_to_people(others: Floats, columns: Ints) -> Ints:
    """Return a table in whole people from its rows but the first and the sums of its columns.

    Running sums are rounded, not single cells: many cells of a third of a person are together some people.
    """
    sums = np.rint(np.cumsum(others, axis=1)).astype(np.int64)
    whole = np.diff(sums, prepend=0, axis=1)
    first = columns - whole.sum(0)
    for column in np.flatnonzero(first < 0):
        while first[column] < 0:
            whole[whole[:, column].argmax(), column] -= 1
            first[column] += 1
    return np.concatenate([first[None], whole])


def _mix_one_against_rest(mixing: npt.NDArray[np.float64], position: int) -> Floats:
    """Return the probabilities of having a class or not, `(2, 2)`; whoever lacks it gains it equally likely."""
    gained = float(np.delete(mixing[:, position], position).mean())
    has = float(mixing[position, position])
    return np.array([[1 - gained, gained], [1 - has, has]])
