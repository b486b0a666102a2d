"""Sums of gradients in the leaves of trees, against plain loops over people."""

from __future__ import annotations

import numpy as np

from client.training.leaf_sums import LeafRows


def make_rows(seed: int = 3) -> tuple[LeafRows, np.ndarray]:
    """Return 200 examples of 40 people in 7 trees of 8 leaves, with two outputs."""
    rng = np.random.default_rng(seed)
    leaf = rng.integers(0, 8, (7, 200))
    return LeafRows(8, leaf, rng.normal(size=(200, 2)), rng.uniform(0.1, 1, (200, 2))), rng.integers(0, 40, 200)


def test_they_add_up_the_examples_of_each_leaf() -> None:
    rows, _ = make_rows()
    weight = np.linspace(0, 1, 200)
    for given in (None, weight):
        first, second = rows.sum_by_leaf(given)
        assert first.shape == second.shape == (7, 8, 2)
        for tree in range(7):
            for leaf in range(8):
                inside = rows.leaf[tree] == leaf
                scale = np.ones(200) if given is None else given
                np.testing.assert_allclose(first[tree, leaf], (rows.first * scale[:, None])[inside].sum(0))
                np.testing.assert_allclose(second[tree, leaf], (rows.second * scale[:, None])[inside].sum(0))


def test_a_persons_part_is_what_leaves_lose_without_them() -> None:
    rows, person = make_rows()
    norms = rows.measure_norms(person, 40)
    for one in range(40):
        rest = (person != one).astype(float)
        for which in (0, 1):
            lost = rows.sum_by_leaf()[which] - rows.sum_by_leaf(rest)[which]
            np.testing.assert_allclose(norms[which][one], np.sqrt((lost**2).sum()), atol=1e-12)


def test_people_are_counted_once_in_a_leaf() -> None:
    rows, person = make_rows()
    counted = rows.count_people(person)
    for tree in range(7):
        for leaf in range(8):
            assert counted[tree, leaf] == len(set(person[rows.leaf[tree] == leaf]))
