"""Units of privacy (person, example, hospital), and digests of the data and people that train."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from client.site import Site
from sites.cohort import Cohort, Windows

UNIT_NAMES = {"patient": "person", "record": "example", "hospital": "hospital"}
"""What one unit of each privacy level is."""

PEOPLE_KEY = "people"
"""A ledger's key of the digest of the people who were charged."""

STATISTICS_ROUND = 0
"""The ledger's round number of noisy sums and counts, which are released before round 1."""

_digests: dict[int, tuple[Site, str]] = {}
"""Cached by the site object's id, with the site: hashing a cohort takes as long as an epoch of a small model."""


_people: dict[int, tuple[Site, str]] = {}
"""The same for digests of people: each message about a model asks for one."""


def digest_cohort(site: Site) -> str:
    """Return a digest of all examples of a site and the persons they belong to; splits do not change it."""
    known = _digests.get(id(site))
    if known is not None and known[0] is site:
        return known[1]
    digests = []
    for part in (site.train, site.validation, site.test):
        person = np.asarray(part.persons, dtype=object)[part.patient] if len(part.y) else np.zeros(0, object)
        for row, name in enumerate(person):
            x = part.x[row : row + 1]
            example = hashlib.sha256(str(name).encode() + b"\x1f")
            example.update(np.ascontiguousarray(x.dense() if isinstance(x, Windows) else x).tobytes())
            example.update(
                np.ascontiguousarray(part.features[row]).tobytes() + np.ascontiguousarray(part.y[row]).tobytes()
            )
            digests.append(example.digest())
    digest = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    if len(_digests) >= 1024:
        _digests.clear()
    _digests[id(site)] = site, digest
    return digest


def digest_people(cohort: Cohort) -> str:
    """Return a digest of the persons of a split; their examples do not change it."""
    names = sorted({cohort.persons[i] for i in np.unique(cohort.patient)})
    return hashlib.sha256("\x1f".join(names).encode()).hexdigest()


def digest_splits(site: Site) -> str:
    """Return a digest of the persons of each split; their examples do not change it."""
    known = _people.get(id(site))
    if known is not None and known[0] is site:
        return known[1]
    digest = " ".join(digest_people(part) for part in (site.train, site.validation, site.test))
    if len(_people) >= 64:
        _people.clear()
    _people[id(site)] = site, digest
    return digest


def count_units(train: Cohort, level: str) -> int:
    """Return the number of units that train: persons, examples, or one hospital."""
    if level == "hospital":
        return 1
    return train.people() if level == "patient" else len(train.y)


def group_rows_by_unit(train: Cohort, level: str) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each unit: all rows of a person, over all recordings, or single rows."""
    if level == "record":
        return list(np.arange(len(train.y))[:, None])
    persons = sorted({train.persons[i] for i in np.unique(train.patient)})
    number = {name: i for i, name in enumerate(persons)}
    owner = np.asarray([number.get(name, -1) for name in train.persons])[train.patient]
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(owner[order])) + 1)
