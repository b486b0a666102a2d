"""Counts rounded and merged so that they may leave a hospital.

- Score histograms: neighbouring bins are merged in a fixed binary tree until each holds examples of enough people; a
  merged bin's count stands at the middle of the narrowest stretch in it that does.
- Where each person has one example, a count is the size of a group of people, with an error (`Register.answer_sizes`).
  A cell of a confusion matrix with fewer people than the floor (also an empty one) is reported as 2, and the largest
  cell of its row as the rest of the row. So counts are a few people off.
- Where people have many examples, such as beats, every count is rounded to a multiple of `round_counts_to`, and cells
  of too few people are 0.
- Everything that is decided on a number of people, such as what is merged and which cell is the largest, is decided on
  answers with an error. An exact number shows one person more or less wherever a decision changes.
- The loss is computed from the histogram: a sum of real numbers can carry a patient's value in its digits.

Figures are computed from the resulting counts, so that they reveal no more than the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from client.policy import SitePolicy
from common.metrics.counts import Counts
from common.metrics.early_warning import Floats, Ints
from common.metrics.histogram_loss import sum_histogram_loss

SMALL_CELL = 2
"""What stands in a histogram for a cell of few people or of nobody."""
STRETCH_FLOORS = 2
"""Fewest people of a stretch of a histogram, of both classes together, in floors."""
Sizes = Callable[[npt.NDArray[np.bool_]], Ints]
"""From groups `(groups, people)` to the number of people to report for each (`Register.answer_sizes`)."""


def coarsen_counts(
    total: Counts,
    people: Counts,
    policy: SitePolicy,
    sizes: Sizes,
    sizes_in: Callable[[str], Sizes] | None = None,
    growth: float = 1.0,
) -> Counts:
    """Return the counts of a table as they may leave, of the shape of `total`.

    Args:
        total: counts of the table, without a leading axis.
        people: the same for each person, on a leading axis; the number of bins of `total` is a multiple of theirs.
        policy: gives `min_cell_patients` and `round_counts_to`.
        sizes: the register's answers for groups of the people.
        sizes_in: the same for a named part of the table, with errors of its own; default: `sizes`. With the same
            errors, the same number in two parts would show that nobody is in one group and not in the other.
        growth: how many times as large as the policy's `count_noise` the errors are.
    """
    part: Callable[[str], Sizes] = sizes_in or (lambda _: sizes)
    floor, grain = policy.min_cell_patients, policy.round_counts_to
    if are_exact(policy):
        return total
    single = is_single(people)
    # all groups of nobody have one error, of 4 deviations at most: none of them may be enough for a stretch
    minimum = max(STRETCH_FLOORS * floor, math.ceil(4 * policy.count_noise * growth) + 1)
    scores = np.zeros_like(total.scores)
    width = total.scores.shape[-1] // people.scores.shape[-1]
    for position in range(len(scores)):
        by_person = people.scores[:, position]
        own = part(f"scores {position}")
        stretches, middles = merge_bins(by_person, minimum, own)
        scores[position] = sum_stretches(
            total.scores[position], by_person, stretches, middles, floor, sizes, single, cells=own
        )
    own = part("confusion")
    if single:
        confusion = answer_rows(total.confusion, people.confusion, floor, sizes, cells=own)
    else:
        confusion = round_counts(np.where(are_enough(people.confusion, floor, own), total.confusion, 0), grain)
        scores = round_counts(scores, grain)
    wide = [(first * width, end * width) for first, end in stretches]
    gain, utility = total.gain, total.utility
    if gain.size:  # of the event, the last class
        inside = np.stack([people.gain[:, first:end].sum(-1) for first, end in stretches], -1)
        has = np.stack([by_person[:, :, first:end].any((1, 2)) for first, end in stretches], -1)
        gain = np.zeros_like(total.gain)
        gain[[first for first, _ in wide]] = answer_sums(inside, has, floor, part("gain"))
    if utility.size:
        everybody = np.ones((len(people.utility), 1), dtype=np.bool_)
        columns = range(people.utility.shape[-1])
        answered = [answer_sums(people.utility[:, [i]], everybody, floor, part(f"utility {i}")) for i in columns]
        utility = np.concatenate(answered)
    time, lead = total.time, total.lead
    if time.size:
        columns = range(people.time.shape[-1])
        hours = [answer_sums(people.time[:, [i]], people.time[:, [i]] > 0, floor, part(f"time {i}")) for i in columns]
        time = round_sums(np.concatenate(hours))
    if lead.size:
        warned = part("lead")((people.lead > 0).T)
        lead = round_counts(np.where(warned >= floor, warned, 0), max(grain, floor)).astype(np.float64)
    return replace(
        total,
        confusion=confusion,
        scores=scores,
        loss=np.asarray(loss_of_histogram(scores, confusion)),
        gain=round_sums(gain),
        utility=round_sums(utility),
        time=time,
        lead=lead,
    )


def are_exact(policy: SitePolicy) -> bool:
    """Return whether a policy lets counts leave without a floor and without rounding."""
    return policy.min_cell_patients <= 1 and policy.round_counts_to <= 1


def is_single(people: Counts) -> bool:
    """Return whether each person has one example at most."""
    return bool((people.scores.sum((-2, -1)) <= 1).all())


def resample_table(total: Counts, resamples: int, rng: np.random.Generator) -> Counts:
    """Return bootstrap resamples of a table's counts, with a leading axis `(resamples, ...)`.

    Each row of a confusion matrix and each histogram is resampled separately, with its total unchanged.
    """

    def draw(values: Ints) -> Ints:
        flat = values.reshape(-1, values.shape[-1])
        drawn = np.zeros((resamples, *flat.shape), dtype=np.int64)
        for position, row in enumerate(flat):
            if count := int(row.sum()):
                drawn[:, position] = rng.multinomial(count, row / count, size=resamples)
        return drawn.reshape(resamples, *values.shape)

    confusion, scores = draw(total.confusion), draw(total.scores)
    losses = np.asarray([loss_of_histogram(*parts) for parts in zip(scores, confusion, strict=True)], dtype=np.float64)
    utility = np.repeat(total.utility[None], resamples, 0) if total.utility.size else total.utility
    return Counts(confusion, scores, losses, utility)


def answer_rows(
    confusion: Ints,
    by_person: Ints,
    floor: int,
    sizes: Sizes,
    small: int | None = None,
    cells: Sizes | None = None,
) -> Ints:
    """Return counts `(..., rows, columns)` with the register's answers for the people of the cells.

    The largest cell of each row is the number that the register answers for the row's people, minus the other cells; a
    row of fewer than `floor` people is 0. Which cell is the largest is judged by answers: by exact numbers it would
    compare two groups to one person.

    Args:
        confusion: the exact counts.
        by_person: the same for each person, on a leading axis.
        floor: the smallest number of people.
        sizes: the register's answers.
        small: what stands for a cell of few people or of nobody; default: what the register answers for it.
        cells: the register's answers for cells; default: `sizes`, which gives those for rows.
    """
    cells = cells or sizes
    answered = np.zeros_like(confusion)
    for row in np.ndindex(confusion.shape[:-1]):
        if int(confusion[row].sum()) < floor:
            continue
        groups = (by_person[(slice(None), *row)] > 0).T
        whole = int(sizes(np.asarray(groups.any(0))[None])[0])
        counts = cells(groups)
        largest = int(counts.argmax())
        if small is not None:
            counts = np.where(counts < floor, small, counts)
        counts[largest] = 0
        counts[largest] = max(whole - int(counts.sum()), 0)
        answered[row] = counts
    return answered


def are_enough(by_person: Ints, floor: int, sizes: Sizes) -> npt.NDArray[np.bool_]:
    """Return of which cells `(...)` the register answers that at least `floor` people have examples in them.

    By exact numbers, the cell of a crafted model would show to one person how many are in it.

    Args:
        by_person: counts of each person, `(people, ...)`.
        floor: the smallest number of people.
        sizes: the register's answers.
    """
    groups = (by_person > 0).reshape(len(by_person), -1).T
    return np.asarray(sizes(groups) >= floor).reshape(by_person.shape[1:])


def sum_stretches(
    counts: Ints,
    by_person: Ints,
    stretches: Sequence[tuple[int, int]],
    middles: Sequence[int],
    floor: int,
    sizes: Sizes,
    single: bool,
    cells: Sizes | None = None,
) -> Ints:
    """Return the counts `(2, bins)` of a histogram, each stretch's at one bin; those of few people are answered alike.

    Args:
        counts: the exact counts, whose number of bins is a multiple of that of coarse bins.
        by_person: each person's, `(people, 2, coarse bins)`.
        stretches, middles: as `merge_bins` returns them.
        floor: the smallest number of people.
        sizes: the register's answers for rows.
        single: whether each person has one example at most.
        cells: the register's answers for stretches; default: `sizes`.
    """
    cells = cells or sizes
    width = counts.shape[-1] // by_person.shape[-1]
    people = np.stack([by_person[:, :, first:end].sum(-1) for first, end in stretches], -1)
    inside = np.stack([counts[:, first * width : end * width].sum(-1) for first, end in stretches], -1)
    if single:
        inside = answer_rows(inside, people, floor, sizes, SMALL_CELL, cells)
    else:
        inside = np.where(are_enough(people, floor, cells), inside, 0)
    placed = np.zeros_like(counts)
    placed[:, [middle * width + width // 2 for middle in middles]] = inside
    return placed


def merge_bins(by_person: Ints, minimum: int, sizes: Sizes) -> tuple[list[tuple[int, int]], list[int]]:
    """Merge neighbouring bins until each holds examples of enough people, with the class or without it.

    Bins are merged in a fixed binary tree: a stretch is cut in its middle only if each half holds enough people. That
    is what the register answers about them, and a half of nobody is like one of few: by exact numbers the place of a
    cut would show whether somebody is there. Both sides are merged at the same bins, so that examples of a merged bin
    have tied scores. A stretch stands in the middle of the smallest node of the tree that holds enough of its people.

    Args:
        by_person: `(people, 2, coarse bins)`, without the class and with it.
        minimum: the smallest number of people of a stretch, of both classes together.
        sizes: the register's answers.

    Returns:
        the stretches, as pairs of the first coarse bin and the one after the last; and the coarse bin at which each
        stands.
    """
    has: npt.NDArray[np.bool_] = by_person.sum(1) > 0

    def enough(first: int, end: int) -> bool:
        inside: npt.NDArray[np.bool_] = np.any(has[:, first:end], axis=1)
        return bool(sizes(inside[None])[0] >= minimum)

    return cut_stretches(has.shape[1], enough)


def cut_stretches(bins: int, enough: Callable[[int, int], bool]) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the stretches into which a fixed binary tree cuts bins, and the bin at which each stands.

    Args:
        bins: their number.
        enough: whether a stretch, from its first bin to the one after the last, holds enough people.
    """
    stretches: list[tuple[int, int]] = []
    middles: list[int] = []

    def cut(first: int, end: int, low: int, high: int) -> None:
        middle = (low + high) // 2
        left, right = (enough(low, middle), enough(middle, high)) if high - low > 1 else (False, False)
        if left and right:
            cut(first, middle, low, middle)
            cut(middle, end, middle, high)
        elif left or right:  # the few of the other half go with these
            cut(first, end, *((low, middle) if left else (middle, high)))
        else:
            stretches.append((first, end))
            middles.append(middle)

    cut(0, bins, 0, bins)
    return stretches, middles


def answer_sums(by_person: Floats, has: npt.NDArray[np.bool_], floor: int, sizes: Sizes) -> Floats:
    """Return sums over people as they may leave, `(sums,)`: off by the people that the register's answer is off.

    A sum's error is that of the number of people in it, times the largest part that anybody has in one of these sums. A
    sum over fewer people than the floor, by the register's answer, is 0.

    Args:
        by_person: each person's part, `(people, sums)`.
        has: whether the person is in the sum.
        floor: the smallest number of people.
        sizes: the register's answers, with errors of their own.
    """
    answered = sizes(has.T)
    largest = float(np.abs(by_person).max(initial=0.0))
    return np.asarray(np.where(answered >= floor, by_person.sum(0) + (answered - has.sum(0)) * largest, 0.0))


BinNoise = Callable[[int, int, int], int]
"""Function from (column, first bin, bin behind the last) to the error that is added to the count of these bins."""


def merge_rank_bins(histogram: Floats, floor: int, error: BinNoise | None = None) -> Floats:
    """Return histograms of inputs `(inputs, bins)`, neighbouring bins merged until each holds `floor` values.

    The merged bins are as in `merge_bins`, by values rather than people: a person with many rows counts many times.
    Their counts are off by `error`, and at least `floor`. The same error decides what is enough, so that the place of a
    cut does not show one value.
    """
    merged = np.zeros_like(histogram)
    for row, counts in enumerate(histogram):
        below = np.concatenate([[0.0], np.cumsum(counts)])

        def count_values(first: int, end: int, row: int = row, below: Floats = below) -> tuple[float, int]:
            inside = float(below[end] - below[first])
            return inside, error(row, first, end) if error is not None and inside else 0

        def enough(first: int, end: int) -> bool:
            inside, off = count_values(first, end)
            return inside - abs(off) >= floor

        for (first, end), middle in zip(*cut_stretches(len(counts), enough), strict=True):
            inside, off = count_values(first, end)
            merged[row, middle] = max(floor, inside + off) if inside else 0
    return merged


def round_counts(values: Ints, grain: int) -> Ints:
    """Return counts rounded to multiples of `grain`; halves go up.

    >>> round_counts(np.array([0, 2, 3, 7, 8]), 5).tolist()
    [0, 0, 5, 5, 10]
    """
    return np.asarray(np.floor(np.asarray(values) / grain + 0.5) * grain, dtype=np.int64) if grain > 1 else values


def round_sums(values: Floats) -> Floats:
    """Return sums rounded to three significant digits.

    >>> round_sums(np.array([123456.0, -0.0123456, 0.0])).tolist()
    [123000.0, -0.0123, 0.0]
    """
    size = np.where(values == 0, 1.0, np.abs(values))
    scale = 10.0 ** (np.floor(np.log10(size)) - 2)
    return np.asarray(np.rint(values / scale) * scale, dtype=np.float64)


def loss_of_histogram(scores: Ints, confusion: Ints) -> float:
    """Return the summed loss in nats that histograms `(classes, 2, bins)` give, of one table."""
    return float(sum_histogram_loss(scores, confusion.ndim == 3))
