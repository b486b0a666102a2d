"""The hospital's own split: who trains, who validates and who is tested, drawn once and kept.

A run asks for a seed and for shares; at a hospital these do not count. The split is the one that the data set
publishes, or drawn by the site from a secret seed, when it is first needed. It is kept in the register and is the same
for every run and every kind of request, so nobody who trained for one run is tested for another. `wardround site
redraw` draws anew, on purpose.

People who are added later get a split only when there are enough of them, so that no answer differs from an
earlier one by a few people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from client.gate.register import Register
from client.policy import SitePolicy
from common.errors import SiteError
from common.sections.data import SitesConfig
from common.seeds import seed_for
from sites.cohort import Cohort, Patient
from sites.splits import TEST, TRAIN, VALIDATION, assign_split, refuse_leaking_split

WAITING = "examples of people who came later and wait until they are enough (the site's own split)"


def apply_own_split(
    register: Register, dataset: str, cohort: Cohort, patients: Sequence[Patient], policy: SitePolicy
) -> Cohort:
    """Return the cohort split as the register says, after drawing for people who have no split yet.

    Args:
        register: the site's register.
        dataset: the data set's name.
        cohort: all examples of the site, without a split.
        patients: its recordings, with their persons and the side of a published split, if there is one.
        policy: gives the shares of validation and test, and how many people must come together.

    Raises:
        SiteError: the site has fewer people than its policy asks for training.
        LeakError: a person would be in two splits.
    """
    names = sorted({cohort.persons[int(i)] for i in np.unique(cohort.patient)})
    with register.open() as connection:
        sides = {name: side for name, side in register.read_sides(connection, dataset, names).items() if side >= 0}
        fresh = [name for name in names if name not in sides]
        if len(fresh) >= (policy.min_training_patients if sides else 1):
            secret, redraws = register.read_secret(), register.count_redraws(connection, dataset)
            seed = seed_for(int.from_bytes(secret[:8], "big"), "own split", len(sides), redraws)
            drawn = draw_sides(cohort, patients, set(fresh), policy, seed, register.site, first=not sides)
            register.record_split(connection, dataset, drawn)
            sides |= drawn
    person = np.asarray(cohort.persons, dtype=object)[cohort.patient] if len(cohort.y) else np.zeros(0, object)
    here = np.asarray([name in sides for name in person], dtype=bool)
    if not here.any():
        raise SiteError("this site has no examples")
    split = np.asarray([sides.get(name, TRAIN) for name in person], dtype=np.int8)
    done = cohort.with_split(split)
    if not here.all():
        excluded = dict(done.excluded) | {WAITING: int((~here).sum())}
        done = replace(done.take(here), excluded=excluded)
    refuse_leaking_split(done, register.site)
    return done


def draw_sides(
    cohort: Cohort,
    patients: Sequence[Patient],
    names: set[str],
    policy: SitePolicy,
    seed: int,
    site: str,
    first: bool,
) -> dict[str, int]:
    """Return the split of each of `names`: the published one where there is one, else drawn by class.

    Those added later (`first` is false) go to validation or test only if at least `min_cell_patients` do so together.
    """
    mine = [item for item in patients if item.person in names]
    rows = np.isin(np.asarray(cohort.persons, dtype=object)[cohort.patient], list(names))
    published = any(item.published for item in mine)
    wanted = SitesConfig(
        split="published" if published else "patient", test=policy.test_share, validation=policy.validation_share
    )
    part = assign_split(cohort.take(rows), mine, wanted, seed, site)
    sides: dict[str, int] = {}
    for index, side in zip(part.patient.tolist(), part.split.tolist(), strict=True):
        sides[part.persons[index]] = int(side)
    for side in () if first else (VALIDATION, TEST):
        chosen = [name for name, where in sides.items() if where == side]
        if len(chosen) < policy.min_cell_patients:
            sides |= dict.fromkeys(chosen, TRAIN)
    return sides
