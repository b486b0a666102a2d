"""Check that the records of people who were part of earlier answers have not changed.

Two answers about the same people differ by what changed between them. If one person's record was corrected, or a row
was removed from a file that names people by their line, the difference of two exact sums is that person's values, and
people who trained may be tested. The register therefore keeps a keyed digest of what each person's examples hold, as
they were read under each set of the data set's options. Where a known person's examples differ, nothing is answered
until the hospital has put the old records back or has drawn its split anew (`wardround site redraw`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from client.gate.register import Register
from client.gate.register_file import hash_person
from common.errors import SiteError
from sites.cohort import Cohort, Patient, Windows
from sites.datasets import Source

log = logging.getLogger("wardround.site")

CHANGED = (
    "policy: records of people who were answered for have changed here, so nothing is answered: put the old ones back, "
    "or draw who trains and who is tested anew (wardround site redraw)"
)
"""The one text of this refusal; whose records changed stands nowhere, and how many only in the site's own log."""
MAX_READINGS = 20
"""Different sets of options under which a hospital's data can be read; each is read again when another comes."""
ROW_FIELDS = ("y", "utility", "hours", "until", "seconds", "kinds")
PATIENT_FIELDS = ("age", "sex")


ListPatients = Callable[[Source], Sequence[Patient]]
"""From a data set to the recordings that a site takes of it."""


def check_records(
    register: Register, dataset: str, source: Source, cohort: Cohort, list_patients: ListPatients
) -> None:
    """Refuse if the records of a known person differ, and keep digests of those who are not known yet.

    Args:
        register: the site's register.
        dataset: the data set's name.
        source: reads the data again under other options that were used before.
        cohort: the site's examples as `source` read them, of people who have a split.
        list_patients: lists the site's recordings under other options.

    Raises:
        SiteError: somebody's records changed, or there are too many sets of options.
    """
    options = source.options.model_dump_json()
    with register.open() as connection:
        secret = register.read_secret()
        query = "SELECT options, person, digest FROM contents WHERE dataset = ?"
        stored: dict[str, dict[str, str]] = {options: {}}
        for read_with, person, digest in connection.execute(query, (dataset,)):
            stored.setdefault(read_with, {})[person] = digest
    digests = digest_people(cohort, secret)
    fresh = set(digests) - set(stored[options])
    _compare(stored[options], digests)
    if not fresh:
        return
    if len(stored) > MAX_READINGS:
        raise SiteError(f"policy: this hospital reads its data under at most {MAX_READINGS} different data.options")
    for other, known in stored.items():
        if other != options and (both := fresh & set(known)):
            before = replace(source, options=type(source.options).model_validate_json(other))
            _compare(
                {person: known[person] for person in both}, _read_people(before, list_patients(before), both, secret)
            )
    rows = [(dataset, options, person, digests[person]) for person in sorted(fresh)]
    with register.open() as connection:
        connection.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?, ?, ?)", rows)


def _compare(known: dict[str, str], digests: dict[str, str]) -> None:
    changed = sum(known.get(person, digest) != digest for person, digest in digests.items())
    if changed:
        log.error("the records of %d of %d people are not what they were", changed, len(digests))
        raise SiteError(CHANGED)


def _read_people(source: Source, patients: Sequence[Patient], people: set[str], secret: bytes) -> dict[str, str]:
    """Return digests of people by their names in the register; "" for those who have no recording any more.

    Other options use other recordings, so the people's recordings are looked up among the site's own.
    """
    recordings = sorted(item.id for item in patients if hash_person(secret, item.person) in people)
    digests = digest_people(source.read(recordings), secret) if recordings else {}
    return dict.fromkeys(people, "") | digests


def digest_people(cohort: Cohort, secret: bytes) -> dict[str, str]:
    """Return a digest of what each person's examples hold, by the person's name in the register.

    The split is no part of it, and neither is the order of the people.
    """
    person = np.asarray(cohort.persons, dtype=object)[cohort.patient] if len(cohort.y) else np.zeros(0, object)
    order = np.argsort(person.astype(str), kind="stable")
    names, starts = np.unique(person[order].astype(str), return_index=True)
    digests = {}
    for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
        digest = hashlib.blake2b(key=secret[:32], digest_size=16)
        for part in _list_parts(cohort, rows):
            digest.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        digests[hash_person(secret, name)] = digest.hexdigest()
    return digests


def _list_parts(cohort: Cohort, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.generic]]:
    parts = [cohort.features[rows], *(getattr(cohort, name)[rows] for name in ROW_FIELDS if _has(cohort, name))]
    patients = np.unique(cohort.patient[rows])
    parts += [getattr(cohort, name)[patients] for name in PATIENT_FIELDS if _has(cohort, name)]
    if not isinstance(cohort.x, Windows):
        return [*parts, cohort.x[rows]]
    for patient in patients:
        mine = rows[cohort.patient[rows] == patient]
        first, end = int(cohort.x.first[mine].min()), cohort.x.end[mine]
        parts += [end - first, cohort.x.rows[first : int(end.max()) + 1]]
    return parts


def _has(cohort: Cohort, name: str) -> bool:
    return getattr(cohort, name) is not None
