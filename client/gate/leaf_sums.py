"""Protection of people in the sums of leaves that fill trees whose splits the run's seed draws.

The splits depend on nobody, but a round's answer is many sums over the same people: whoever knows their inputs could
solve for the outcome of each if every sum had its own small error. So in what leaves a hospital

- a leaf of fewer people than the floor gives an error alone, of the same size as in every other leaf: nothing shows
  that it is so;
- the deviation of the error in each leaf is `update_noise` times the norm of the largest part that one person has in
  the whole answer, over all its trees: answers of two hospitals that differ by one person differ by that at most;
- no number of people leaves.

The same question has the same errors, drawn by a secret of the hospital, so asking again averages nothing away; each
message counts as a round of training. This is not differential privacy, which `privacy.epsilon` gives.
"""

from __future__ import annotations

import numpy as np

from client.policy import SitePolicy
from client.training.leaf_sums import LeafRows
from common.replies import Sums
from common.trees import Ints


def release_leaf_sums(rows: LeafRows, person: Ints, people: int, policy: SitePolicy, rng: np.random.Generator) -> Sums:
    """Return the sums of leaves as they may leave a hospital.

    Args:
        rows: the examples with their leaves.
        person: each example's person, counted from 0.
        people: number of people.
        policy: the larger of `min_cell_patients` and `min_unit_patients` is the floor.
        rng: generator of the errors.
    """
    floor = max(policy.min_cell_patients, policy.min_unit_patients)
    enough = rows.count_people(person) >= floor
    released = {}
    for name, sums, norms in zip(
        ("gradient", "hessian"), rows.sum_by_leaf(), rows.measure_norms(person, people), strict=True
    ):
        error = rng.normal(size=sums.shape) * policy.update_noise * norms.max(initial=0.0)
        released[name] = sums * enough[..., None] + error
    return released
