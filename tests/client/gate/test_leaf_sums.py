"""What of a hospital's sums of leaves leaves it."""

from __future__ import annotations

import numpy as np

from client.gate.leaf_sums import release_leaf_sums
from client.policy import SitePolicy
from tests.client.training.test_leaf_sums import make_rows

EXACT = SitePolicy(update_noise=0.0, min_cell_patients=5, min_unit_patients=12)


def test_leaves_of_fewer_people_than_the_floor_give_nothing() -> None:
    rows, person = make_rows()
    released = release_leaf_sums(rows, person, 40, EXACT, np.random.default_rng(1))
    enough = rows.count_people(person) >= 12
    assert 0.2 < enough.mean() < 0.99
    for name, sums in zip(("gradient", "hessian"), rows.sum_by_leaf(), strict=True):
        np.testing.assert_allclose(released[name], np.where(enough[..., None], sums, 0.0))
    assert set(released) == {"gradient", "hessian"}  # no number of people


def test_every_leaf_has_an_error_of_the_largest_part_of_a_person_in_the_whole_answer() -> None:
    rows, person = make_rows()
    policy = SitePolicy(update_noise=2.0, min_cell_patients=5, min_unit_patients=12)
    enough = rows.count_people(person) >= 12
    off = {"gradient": [], "hessian": []}
    for seed in range(60):
        released = release_leaf_sums(rows, person, 40, policy, np.random.default_rng(seed))
        for name, sums in zip(off, rows.sum_by_leaf(), strict=True):
            off[name].append(released[name] - np.where(enough[..., None], sums, 0.0))
    for name, norms in zip(off, rows.measure_norms(person, 40), strict=True):
        errors = np.asarray(off[name])
        assert 0.95 < errors.std() / (2.0 * norms.max()) < 1.05
        # those of small leaves look like all others
        assert 0.9 < errors[:, ~enough].std() / errors[:, enough].std() < 1.1
