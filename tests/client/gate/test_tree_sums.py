"""What of a hospital's histograms leaves it."""

from __future__ import annotations

import numpy as np

from client.gate.tree_sums import merge_cells, release_node_sums
from client.policy import SitePolicy
from client.training.histograms import NodeSums

EXACT = SitePolicy(
    update_noise=0.0, record_noise=0.0, replaced_values=0.0, count_noise=0.0, round_counts_to=1, min_cell_patients=5
)


def make_sums(people: np.ndarray) -> NodeSums:
    rng = np.random.default_rng(3)
    shape = (*people.shape, 1)
    gradient, hessian = rng.normal(size=shape), rng.uniform(0.1, 1, shape)
    return NodeSums(gradient, hessian, people, np.ones((len(people), 2)))


def test_each_released_bin_holds_the_floors_people_and_nothing_is_lost() -> None:
    rng = np.random.default_rng(1)
    people = rng.integers(0, 6, (30, 4, 12)).astype(float)
    sums = make_sums(people)
    released = release_node_sums(sums, EXACT, rng)
    totals = people.sum(2)
    held = released["people"]
    # a missing bin that is merged into few others is the only case of a smaller group: none has fewer than the floor
    assert ((held == 0) | (held >= 5)).all()
    assert np.array_equal(held.sum(2), np.where(totals >= 5, totals, 0))
    np.testing.assert_allclose(released["gradient"].sum(2), sums.gradient.sum(2) * (totals >= 5)[..., None])


def test_a_node_of_few_people_gives_zeros() -> None:
    released = release_node_sums(make_sums(np.full((1, 2, 4), 1.0)), EXACT, np.random.default_rng(1))
    assert not any(value.any() for value in released.values())


def test_cells_are_merged_to_the_right_and_a_rest_to_the_left() -> None:
    people = np.array([[[2.0, 3.0, 0.0, 6.0, 1.0, 0.0]]])
    assert merge_cells(people, 5)[0, 0].tolist() == [1, 1, 4, 4, 4, 1]
    people[..., -1] = 7.0
    assert merge_cells(people, 5)[0, 0].tolist() == [1, 1, 4, 4, 4, 5]


def test_noise_has_the_size_of_one_persons_part() -> None:
    people = np.full((400, 1, 5), 10.0)
    sums = make_sums(people)
    released = release_node_sums(sums, SitePolicy(update_noise=2.0), np.random.default_rng(1))
    off = released["gradient"] - sums.gradient
    assert 1.8 < off.std() < 2.2
    assert set(np.unique(released["people"] % 5)) == {0.0}
