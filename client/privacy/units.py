"""Units of privacy (person, example, hospital) and digests of who trains."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort, Windows

if TYPE_CHECKING:
    from client.site import Site


UNIT_NAMES = {"patient": "person", "record": "example", "hospital": "hospital"}


TRAINING_PEOPLE_KEY = "people"
"""Under which the ledger keeps a digest of who trains."""


STATISTICS_ROUND = 0
"""The round under which the ledger holds sums over patients, before the first."""


_digests: dict[int, tuple[Site, str]] = {}
"""Of the last sites that were asked for: hashing a cohort takes as long as an epoch of a small model."""


def digest_cohort(site: Site) -> str:
    """Return a digest of all examples of a site, with whose they are, whatever their split."""
    known = _digests.get(id(site))
    if known is not None and known[0] is site:
        return known[1]
    every = []
    for part in (site.train, site.validation, site.test):
        person = np.asarray(part.persons, dtype=object)[part.patient] if len(part.y) else np.zeros(0, object)
        for row, name in enumerate(person):
            x = part.x[row : row + 1]
            held = hashlib.sha256(str(name).encode() + b"\x1f")
            held.update(np.ascontiguousarray(x.dense() if isinstance(x, Windows) else x).tobytes())
            held.update(
                np.ascontiguousarray(part.features[row]).tobytes() + np.ascontiguousarray(part.y[row]).tobytes()
            )
            every.append(held.digest())
    found = hashlib.sha256(b"".join(sorted(every))).hexdigest()
    if len(_digests) >= 1024:
        _digests.clear()
    _digests[id(site)] = site, found
    return found


def digest_training_people(train: Cohort) -> str:
    """Return a digest of who trains, whatever their examples."""
    names = sorted({train.persons[i] for i in np.unique(train.patient)})
    return hashlib.sha256("\x1f".join(names).encode()).hexdigest()


def count_units(train: Cohort, level: str) -> int:
    """Return how many people or examples train; a hospital is one."""
    if level == "hospital":
        return 1
    return train.people() if level == "patient" else len(train.y)


def group_rows_by_unit(train: Cohort, level: str) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each unit: of each person, whatever their recordings, or each row for itself."""
    if level == "record":
        return list(np.arange(len(train.y))[:, None])
    persons = sorted({train.persons[i] for i in np.unique(train.patient)})
    number = {name: i for i, name in enumerate(persons)}
    owner = np.asarray([number.get(name, -1) for name in train.persons])[train.patient]
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(owner[order])) + 1)
