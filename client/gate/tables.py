"""Counts rounded and merged so that they may leave a hospital.

- Score histograms: neighbouring bins are merged in a fixed binary tree until each holds examples of enough people; a
  merged bin's count stands at the mean bin of its examples.
- Where each person has one example, a count is the size of a group of people. A group that differs from an earlier one
  by fewer people than the floor gets the earlier answer again, so that the answers to two crafted models never differ
  by one person. A cell of a confusion matrix with fewer people than the floor (also an empty one) is reported as 2, and
  the largest cell of its row as the rest of the row. So counts are at most a few people off.
- Where people have many examples, such as beats, every count is rounded to a multiple of `round_counts_to`, and cells
  of too few people are 0.
- The loss is computed from the histogram: a sum of real numbers can carry a patient's value in its digits.

Figures are computed from the resulting counts, so that they reveal no more than the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt

from client.policy import SitePolicy
from common.metrics.counts import Counts
from common.metrics.early_warning import Floats, Ints
from common.metrics.histogram_loss import sum_histogram_loss

Sizes = Callable[[npt.NDArray[np.bool_]], Ints]
"""From groups `(groups, people)` to the number of people to report for each (`Register.answer_sizes`)."""


def coarsen_counts(total: Counts, people: Counts, policy: SitePolicy, sizes: Sizes) -> Counts:
    """Return the counts of a table as they may leave.

    Args:
        total: counts of the table, without a leading axis.
        people: the same for each person, on a leading axis; the number of bins of `total` is a multiple of theirs.
        policy: gives `min_cell_patients` and `round_counts_to`.
        sizes: the register's answers for groups of the people.

    Returns:
        counts of the shape of `total`.
    """
    floor, grain = policy.min_cell_patients, policy.round_counts_to
    if floor <= 1 and grain <= 1:
        return total
    single = is_single(people)
    scores = np.zeros_like(total.scores)
    width = total.scores.shape[-1] // people.scores.shape[-1]
    for position in range(len(scores)):
        by_person = people.scores[:, position]
        scores[position], stretches = merge_bins(total.scores[position], by_person, floor)
        cells = [
            (side, first, end) for side in (0, 1) for first, end in stretches if scores[position, side, first:end].any()
        ]
        if single and cells:
            groups = [by_person[:, side, first // width : end // width].any(1) for side, first, end in cells]
            for (side, first, end), count in zip(cells, sizes(np.stack(groups)), strict=True):
                scores[position, side, first + int(scores[position, side, first:end].argmax())] = count
    if single:
        confusion = answer_rows(total.confusion, people.confusion, floor, sizes)
    else:
        confusion = round_counts(np.where((people.confusion > 0).sum(0) >= floor, total.confusion, 0), grain)
        scores = round_counts(scores, grain)
    gain = merge_gain(total.gain, stretches) if total.gain.size else total.gain  # of the event, the last class
    lead = round_counts(np.where(total.lead >= floor, total.lead, 0), max(grain, floor))
    return replace(
        total,
        confusion=confusion,
        scores=scores,
        loss=np.asarray(loss_of_histogram(scores, confusion)),
        gain=round_sums(gain),
        utility=round_sums(total.utility),
        lead=np.asarray(lead, dtype=np.float64),
    )


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


def answer_rows(confusion: Ints, by_person: Ints, floor: int, sizes: Sizes) -> Ints:
    """Return a confusion matrix `(..., rows, columns)` with the register's answers for the people of its cells.

    The largest cell of each row is the number that the register answers for the row's people, minus the other cells; a
    row of fewer than `floor` people is 0.
    """
    answered = np.zeros_like(confusion)
    for row in np.ndindex(confusion.shape[:-1]):
        whole = int(confusion[row].sum())
        if whole < floor:
            continue
        cells = (by_person[(slice(None), *row)] > 0).T
        whole = int(sizes(np.asarray(cells.any(0))[None])[0])
        counts = sizes(cells)
        largest = int(confusion[row].argmax())
        counts[largest] = 0
        counts[largest] = max(whole - int(counts.sum()), 0)
        answered[row] = counts
    return answered


def merge_bins(counts: Ints, by_person: Ints, floor: int) -> tuple[Ints, list[tuple[int, int]]]:
    """Merge neighbouring bins until each holds examples of at least `floor` people on each side, or of nobody.

    Bins are merged in a fixed binary tree: a stretch is cut in its middle only if each half holds enough people or
    nobody, without the class and with it. Both sides are merged at the same bins, so that examples of a merged bin have
    tied scores. A side with too few people altogether becomes 0.

    Args:
        counts: `(2, bins)`, without the class and with it.
        by_person: `(people, 2, coarse bins)`; the number of bins is a multiple of that of coarse bins.
        floor: the smallest number of people.

    Returns:
        counts `(2, bins)`, those of each merged stretch at the mean bin of its examples; and the stretches as pairs of
        the first bin and the one after the last.
    """
    coarse = by_person.shape[-1]
    width = counts.shape[-1] // coarse
    has: npt.NDArray[np.bool_] = by_person > 0
    enough_people = np.asarray(has.any(axis=2).sum(axis=0) >= floor)
    counts = np.where(enough_people[:, None], counts, 0)
    has = has & np.asarray(counts.any(axis=1))[None, :, None]
    count_people = count_in_stretches(has)
    running = np.cumsum(counts, axis=1, dtype=np.int64)
    placed = np.cumsum(counts.sum(0, dtype=np.int64) * np.arange(counts.shape[1]))
    merged = np.zeros_like(counts)
    stretches: list[tuple[int, int]] = []

    def total(sums: Ints, first: int, end: int) -> Ints:
        return np.asarray(sums[..., end - 1] - (sums[..., first - 1] if first else 0))

    def enough(first: int, end: int) -> bool:
        return all(not (people := count_people(side, first, end)) or people >= floor for side in (0, 1))

    def cut(first: int, end: int) -> None:
        middle = (first + end) // 2
        if end - first > 1 and enough(first, middle) and enough(middle, end):
            cut(first, middle)
            cut(middle, end)
            return
        start, stop = first * width, end * width
        inside = total(running, start, stop)
        examples = int(inside.sum())
        middle = (stop - start) // 2
        mean = round((int(total(placed, start, stop)) - start * examples) / examples) if examples else middle
        merged[:, start + mean] = inside
        stretches.append((start, stop))

    cut(0, coarse)
    return merged, stretches


def count_in_stretches(has: npt.NDArray[np.bool_]) -> Callable[[int, int, int], int]:
    """Return a function `(side, first, end)` that counts the people with examples in a stretch of bins.

    Args:
        has: who has examples where, `(people, sides, bins)`.
    """
    if (has.sum((1, 2)) <= 1).all():  # nobody is in two bins: sums over bins are numbers of people
        below = np.concatenate([np.zeros((has.shape[1], 1), np.int64), np.cumsum(has.sum(0), axis=1)], axis=1).tolist()
        return lambda side, first, end: int(below[side][end] - below[side][first])
    # people as bits of integers: whoever is in a stretch is in the union of its bins
    packed = np.packbits(has, axis=0).transpose(1, 2, 0)
    bits = [[int.from_bytes(each.tobytes(), "little") for each in side] for side in packed]

    @cache
    def unite(side: int, first: int, end: int) -> int:
        if end - first == 1:
            return bits[side][first]
        middle = (first + end) // 2
        return unite(side, first, middle) | unite(side, middle, end)

    return lambda side, first, end: unite(side, first, end).bit_count()


def merge_gain(gain: Floats, stretches: Sequence[tuple[int, int]]) -> Floats:
    """Return the gain of alarms by bin `(bins,)`: each stretch's sum, placed at its first bin."""
    merged = np.zeros_like(gain)
    for first, end in stretches:
        merged[first] = gain[first:end].sum()
    return merged


BinNoise = Callable[[int, int, int], int]
"""Function from (column, first bin, bin behind the last) to the error that is added to the count of these bins."""


def merge_rank_bins(histogram: Floats, floor: int, error: BinNoise | None = None) -> Floats:
    """Return histograms of inputs `(inputs, bins)`, neighbouring bins merged until each holds `floor` values.

    The merged bins are as in `merge_bins`, by values rather than people: a person with many rows counts many times.
    Their counts are off by `error`, and at least `floor`.
    """
    merged = np.zeros_like(histogram)

    def cut(row: int, first: int, end: int) -> None:
        middle = (first + end) // 2
        halves = histogram[row, first:middle].sum(), histogram[row, middle:end].sum()
        if end - first > 1 and all(count == 0 or count >= floor for count in halves):
            cut(row, first, middle)
            cut(row, middle, end)
        elif sum(halves) >= floor or end - first == histogram.shape[1]:
            merged[row, middle] = sum(halves)
            if error is not None and sum(halves):
                merged[row, middle] = max(floor, sum(halves) + error(row, first, end))

    for row in range(len(histogram)):
        cut(row, 0, histogram.shape[1])
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
