from __future__ import annotations

import numpy as np
import pytest

from client.gate.tables import (
    SMALL_CELL,
    answer_rows,
    coarsen_counts,
    loss_of_histogram,
    merge_bins,
    round_counts,
    sum_stretches,
)
from client.policy import SIMULATION_POLICY, SitePolicy
from common.metrics.calibration import bin_centres
from common.metrics.counts import Counts, auroc, bin_edges, count_predictions, locate_bins

BINS = 62
"""As fine as a hospital allows by default."""


def tally(logits: np.ndarray, truth: np.ndarray, owner: np.ndarray) -> tuple[Counts, Counts]:
    by_person = count_predictions(logits, truth, owner, int(owner.max()) + 1, BINS)
    return by_person.total(), by_person


def sample(people: int, seed: int = 1, each: int = 1) -> tuple[Counts, Counts]:
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.integers(0, 2, people), each)
    event = rng.normal(2.0 * truth - 1, 1.5)
    return tally(np.stack([np.zeros(len(event)), event], 1), truth, np.repeat(np.arange(people), each))


def exact(groups: np.ndarray) -> np.ndarray:
    """Answer as a register that was never asked before, but for groups that are near one another."""
    return np.where(groups.sum(1) >= 5, groups.sum(1), 2)


def test_stretches_hold_enough_people_and_stand_where_most_of_them_are() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        people = int(rng.integers(25, 80))
        by_person = np.zeros((people, 2, BINS), np.int64)
        by_person[np.arange(people), np.arange(people) % 2, rng.integers(20, 44, people)] = rng.integers(1, 4, people)
        stretches, middles = merge_bins(by_person, 10, exact)
        assert [first for first, _ in stretches] == [0, *(end for _, end in stretches[:-1])]
        assert stretches[-1][1] == BINS
        for (first, end), middle in zip(stretches, middles, strict=True):
            assert (by_person[:, :, first:end] > 0).any((1, 2)).sum() >= 10
            assert first <= middle < end
            assert 20 <= middle <= 44


def test_one_person_more_changes_neither_stretches_nor_middles() -> None:
    """By exact numbers, a cut showed that nobody is beside it, and a mean bin showed how many people are."""
    for alone in range(1, 5):
        by_person = np.zeros((40, 2, BINS), np.int64)
        by_person[np.arange(40), np.arange(40) % 2, 57] = 1
        without = merge_bins(by_person, 10, exact)
        by_person[:alone] = 0
        by_person[np.arange(alone), np.arange(alone) % 2, 2] = 1
        assert merge_bins(by_person, 10, exact) == without


def test_which_cell_is_the_largest_is_judged_by_answers() -> None:
    by_person = np.zeros((41, 1, 2), np.int64)
    by_person[:21, 0, 0] = by_person[21:, 0, 1] = 1

    def answer(groups: np.ndarray) -> np.ndarray:
        return groups.sum(1) + np.where(groups[:, -1] & ~groups[:, 0], 3, 0)  # the smaller cell is said to be larger

    assert answer_rows(by_person.sum(0), by_person, 5, answer).tolist() == [[21, 20]]
    assert answer_rows(by_person.sum(0)[:, ::-1], by_person[:, :, ::-1], 5, answer).tolist() == [[20, 21]]


def test_a_side_of_few_people_is_none() -> None:
    by_person = np.zeros((14, 2, BINS), np.int64)
    by_person[:10, 0, 10] = 1
    by_person[10:, 1, 50] = 1
    counts = by_person.sum(0)
    stretches, middles = merge_bins(by_person, 10, exact)
    assert sum_stretches(counts, by_person, stretches, middles, 5, exact, single=True).sum(1).tolist() == [10, 0]


@pytest.mark.parametrize("growth", [1.0, 2.0, 5.0])
def test_a_large_error_of_nobody_cuts_no_stretches(growth: float) -> None:
    """All groups of nobody have one error: where it reached two floors, each of 62 bins was answered with people."""
    event = np.linspace(0.5, 3.0, 31)  # nobody has a score in the lower half of the bins
    total, people = tally(np.stack([np.zeros(31), event], 1), np.arange(31) % 2, np.arange(31))
    largest = round(4 * SitePolicy().count_noise * growth)  # as draw_error bounds it

    def answer(groups: np.ndarray) -> np.ndarray:
        sizes = groups.sum(1) + np.where(groups.any(1), 0, largest)
        return np.where(sizes >= 5, sizes, 2)

    found = coarsen_counts(total, people, SitePolicy(), answer, growth=growth)
    assert ((found.scores > 0).any(1).sum(-1) <= 31 // 10).all()


def test_small_cells_all_say_the_same_and_rows_keep_their_sum() -> None:
    total, people = sample(40)
    policy = SitePolicy()
    found = coarsen_counts(total, people, policy, exact)
    assert found.scores.shape == total.scores.shape
    assert (found.confusion.sum(1) == total.confusion.sum(1)).all()
    for row, true in zip(found.confusion, total.confusion, strict=True):
        small = np.flatnonzero(true < 5)
        assert all(row[c] == 2 for c in small if c != true.argmax())
    assert np.abs(found.confusion - total.confusion).max() <= 2


def test_counts_of_many_examples_are_multiples() -> None:
    total, people = sample(40, each=7)
    found = coarsen_counts(total, people, SitePolicy(), exact)
    for values in (found.confusion, found.scores):
        assert (np.asarray(values) % 5 == 0).all()


def test_the_loss_is_the_histograms_alone() -> None:
    total, people = sample(200)
    found = coarsen_counts(total, people, SitePolicy(), exact)
    by_hand = sum(
        float(count * np.log1p(np.exp(-centre)))
        for side in found.scores[:, 1]
        for count, centre in zip(side, bin_centres(BINS), strict=True)
    )
    assert float(found.loss) == pytest.approx(by_hand)
    assert loss_of_histogram(found.scores, found.confusion) == pytest.approx(by_hand)
    assert float(found.loss) / 200 == pytest.approx(float(total.loss) / 200, abs=0.15)  # so that rounds can be chosen


def test_figures_of_a_large_hospital_stay_near() -> None:
    total, people = sample(2000)
    found = coarsen_counts(total, people, SitePolicy(), exact)
    assert abs(float(auroc(found.scores)[1]) - float(auroc(total.scores)[1])) < 0.01
    assert (found.confusion == total.confusion).all()


def test_a_simulation_keeps_every_digit() -> None:
    total, people = sample(30)
    assert coarsen_counts(total, people, SIMULATION_POLICY, exact) is total


def test_a_crafted_model_writes_nobodys_row_into_a_histogram() -> None:
    """Each person's attributes as a code in the score: no cell that leaves says how few people it rests on."""
    rng = np.random.default_rng(3)
    people = 273
    event = (rng.permutation(4096)[:people] + 0.5) / 128 - 16
    logits = np.stack([np.zeros(people), event], 1)
    total, by_person = tally(logits, rng.integers(0, 2, people), np.arange(people))
    found = coarsen_counts(total, by_person, SitePolicy(), exact)
    cells = found.scores[found.scores > 0]
    assert set(cells[cells < 5]) <= {SMALL_CELL}
    assert np.count_nonzero(found.scores[1].sum(0)) <= people // 10


def test_rounding_is_by_halves_upwards() -> None:
    assert round_counts(np.arange(13), 5).tolist() == [0, 0, 0, 5, 5, 5, 5, 5, 10, 10, 10, 10, 10]


def test_few_bins_are_finest_about_zero_and_hold_what_lies_in_them() -> None:
    edges = np.append(bin_edges(BINS), np.inf)
    assert np.diff(edges[:-1]).min() < 0.1 < 1 < np.diff(edges[:-1]).max()
    odds = np.random.default_rng(1).normal(0, 4, 1000)
    place = locate_bins(odds, BINS)
    inside = (np.maximum(odds, -16) >= edges[place]) & (odds < edges[place + 1])
    assert inside.all()
