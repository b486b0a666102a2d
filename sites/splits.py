"""Simulated hospitals from patients, and train, validation and test from a hospital's patients.

The unit is the person: recordings of one person are never divided between hospitals or between the sides of a split.
`refuse_leaking_split` checks that on every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, DataError, LeakError
from common.sections.data import SitesConfig
from common.seeds import rng_for
from sites.cohort import SPLITS, Cohort, Patient

TRAIN, VALIDATION, TEST = range(3)
UNLABELLED = "training examples that count as not labelled (sites.label_share)"


def group_by_person(patients: Sequence[Patient]) -> dict[str, list[Patient]]:
    """Return the recordings of each person, sorted by recording.

    Raises:
        DataError: one recording is listed twice, or one person at two natural sites.
    """
    if len({item.id for item in patients}) != len(patients):
        raise DataError("a recording is listed twice: every recording needs its own name")
    persons: dict[str, list[Patient]] = {}
    for item in sorted(patients, key=lambda item: item.id):
        persons.setdefault(item.person, []).append(item)
    for items in persons.values():
        if len({item.site for item in items}) > 1:
            raise DataError("one person is listed at two sites: give both recordings to one site")
    return persons


def drop_shared_persons(patients: Sequence[Patient], config: SitesConfig) -> tuple[list[Patient], int]:
    """Drop training recordings of persons in the published test set; return the rest and the number dropped."""
    if config.split != "published" or config.shared_person == "keep":
        return list(patients), 0
    tested = {item.person for item in patients if item.published == "test"}
    allowed = [item for item in patients if item.published == "test" or item.person not in tested]
    return allowed, len(patients) - len(allowed)


def partition_patients(patients: Sequence[Patient], config: SitesConfig, seed: int) -> dict[str, tuple[str, ...]]:
    """Return each hospital's recordings by the configured scheme, sorted by hospital.

    With a published split each of its sides is divided over the hospitals, so that every hospital has training and
    test patients. A recording on neither side is used for training.

    Raises:
        ConfigError: fewer people than hospitals, or the data set has no published split or natural sites.
    """
    if config.scheme == "natural":
        if any(item.site is None for item in patients):
            raise ConfigError(
                "sites.scheme=natural: this data set has no hospitals; use even, size or labels with sites.count"
            )
        natural: dict[str, list[str]] = {}
        for item in patients:
            natural.setdefault(str(item.site), []).append(item.id)
        return {site: tuple(sorted(ids)) for site, ids in sorted(natural.items())}
    groups: list[tuple[str, list[Patient]]] = [("all", list(patients))]
    if config.split == "published":
        if not any(item.published for item in patients):
            raise ConfigError("sites.split=published: this data set has no published split; use patient")
        groups = [
            ("train", [item for item in patients if item.published not in ("validation", "test")]),
            ("test", [item for item in patients if item.published == "test"]),
        ]
        if validation := [item for item in patients if item.published == "validation"]:
            groups.append(("validation", validation))
    width = len(str(config.count))
    names = [f"hospital-{i + 1:0{width}d}" for i in range(config.count)]
    preference = rng_for(seed, "partition", "labels").dirichlet(
        np.full(config.count, config.alpha), size=len(patients[0].examples) if patients else 1
    )
    recordings: dict[str, list[str]] = {name: [] for name in names}
    for side, group in groups:
        persons = group_by_person(group)
        if len(persons) < config.count:
            raise ConfigError(
                f"sites.count={config.count}: only {len(persons)} people to divide ({side}); use fewer hospitals"
            )
        rng = rng_for(seed, "partition", config.scheme, side)
        order = [sorted(persons)[i] for i in rng.permutation(len(persons))]
        sizes = _sizes(len(persons), config)
        if config.scheme == "labels":
            owners = _by_labels(order, persons, preference, sizes, rng)
        else:
            owners = np.repeat(np.arange(config.count), sizes)
        for person, owner in zip(order, owners, strict=True):
            recordings[names[int(owner)]].extend(item.id for item in persons[person])
    return {name: tuple(sorted(ids)) for name, ids in recordings.items()}


def _sizes(count: int, config: SitesConfig) -> npt.NDArray[np.int64]:
    """Return each hospital's number of people, at least one: even or skewed, by largest remainders."""
    share = np.ones(config.count)
    if config.scheme == "size":
        share = 1 / np.arange(1, config.count + 1) ** config.skew
    exact = share / share.sum() * (count - config.count)
    sizes: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64) + 1
    for i in np.argsort(-(exact - np.floor(exact)), kind="stable")[: count - int(sizes.sum())]:
        sizes[i] += 1
    return sizes


def _by_labels(
    order: Sequence[str],
    persons: dict[str, list[Patient]],
    preference: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return the hospital of each person, drawn by each hospital's preference for their labels, up to its size.

    A person's weight on a class is their share of all examples of that class, so that rare classes count.
    """
    table = np.asarray([np.sum([item.examples for item in persons[name]], axis=0) for name in order], dtype=float)
    share = table / np.maximum(table.sum(0), 1)
    share /= np.maximum(share.sum(1, keepdims=True), 1e-12)
    free = sizes.copy()
    owners = np.zeros(len(order), dtype=np.int64)
    for i in range(len(order)):
        weight = (share[i] @ preference + 1e-9) * (free > 0)
        owners[i] = rng.choice(len(free), p=weight / weight.sum())
        free[owners[i]] -= 1
    return owners


def assign_split(cohort: Cohort, patients: Sequence[Patient], config: SitesConfig, seed: int, site: str) -> Cohort:
    """Return one hospital's cohort with its examples split as configured.

    Raises:
        LeakError: a person would be on two sides of the split.
    """
    rng = rng_for(seed, site, "split", config.draw) if config.draw else rng_for(seed, site, "split")
    index = {name: i for i, name in enumerate(cohort.patients)}
    if config.split == "beat-level":
        draw = rng.permutation(len(cohort.y)) / max(1, len(cohort.y))
        inner = config.test + (1 - config.test) * config.validation
        split = np.where(draw < config.test, TEST, np.where(draw < inner, VALIDATION, TRAIN)).astype(np.int8)
        return _limit_training(cohort.with_split(split), config, seed, site)
    by_person = group_by_person(patients)
    sides: dict[str, int] = {}
    side_codes = np.full(len(cohort.patients), TRAIN, dtype=np.int8)
    if config.split == "published":
        for item in patients:
            side_codes[index[item.id]] = SPLITS.index(item.published) if item.published else TRAIN
        rest = {name: items for name, items in by_person.items() if any(i.published != "test" for i in items)}
        if any(item.published == "validation" for item in patients):
            rest = {}
    elif config.split == "folds":
        fold_by_person = _folds(by_person, config, seed)
        sides = {name: TEST for name in by_person if fold_by_person[name] == config.fold}
        rest = {name: items for name, items in by_person.items() if name not in sides}
    else:
        sides = _draw_persons(by_person, config.test, TEST, rng)
        rest = {name: items for name, items in by_person.items() if name not in sides}
    sides |= _draw_persons(rest, config.validation, VALIDATION, rng)
    for item in patients:
        if item.person in sides and side_codes[index[item.id]] == TRAIN:
            side_codes[index[item.id]] = sides[item.person]
    assigned = cohort.with_split(side_codes[cohort.patient] if len(cohort.y) else cohort.split)
    if not (config.split == "published" and config.shared_person == "keep"):
        refuse_leaking_split(assigned, site)
    return _limit_training(assigned, config, seed, site)


def _folds(persons: dict[str, list[Patient]], config: SitesConfig, seed: int) -> dict[str, int]:
    """Return each person's fold: persons of one group share a fold, and so do groups that share a person.

    Folds hold about the same number of people.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for person, items in persons.items():
        for item in items:
            ends = sorted((root(f"p{person}"), root(f"g{item.group}" if item.group else f"p{person}")))
            parent[ends[1]] = ends[0]
    sizes: dict[str, int] = {}
    for person in persons:
        key = root(f"p{person}")
        sizes[key] = sizes.get(key, 0) + 1
    order = sorted(sizes)
    rng = rng_for(seed, "folds", config.draw)
    order = [order[i] for i in rng.permutation(len(order))]
    filled = [0] * config.folds
    fold: dict[str, int] = {}
    for key in sorted(order, key=lambda name: -sizes[name]):  # the largest first, each into the emptiest fold
        fold[key] = filled.index(min(filled))
        filled[fold[key]] += sizes[key]
    return {person: fold[root(f"p{person}")] for person in persons}


def _draw_persons(
    persons: dict[str, list[Patient]], share: float, side: int, rng: np.random.Generator
) -> dict[str, int]:
    """Return about `share` of the people, each with `side`, so that every class has examples on both sides if possible.

    Of many drawn sets, the one whose share of each class is nearest to `share`.
    """
    names = sorted(persons)
    count = min(round(share * len(names)) or (1 if share > 0 and len(names) > 2 else 0), max(0, len(names) - 1))
    if count == 0:
        return {}
    recordings = [persons[name] for name in names]
    counts = [
        own[0].examples if len(own) == 1 else np.sum([item.examples for item in own], axis=0) for own in recordings
    ]
    table = np.sqrt(np.asarray(counts, dtype=float))
    total, there = np.maximum(table.sum(0), 1e-12), table.sum(0) > 0
    best, best_cost = np.arange(count), np.inf
    for _ in range(200):
        chosen = rng.permutation(len(names))[:count]
        cost = float((np.abs(table[chosen].sum(0) / total - share) * there).sum())
        if cost < best_cost:
            best, best_cost = chosen, cost
    return {names[int(i)]: side for i in best}


def _limit_training(cohort: Cohort, config: SitesConfig, seed: int, site: str) -> Cohort:
    """Return the cohort with at most `config.limit` training examples, after some labels were hidden."""
    cohort = _hide_labels(cohort, config, seed, site)
    train = np.flatnonzero(cohort.split == TRAIN)
    if config.limit is None or len(train) <= config.limit:
        return cohort
    allowed = rng_for(seed, site, "limit").permutation(train)[: config.limit]
    mask = cohort.split != TRAIN
    mask[allowed] = True
    return cohort.take(mask)


def _hide_labels(cohort: Cohort, config: SitesConfig, seed: int, site: str) -> Cohort:
    """Return the cohort with a labelled share of its training examples; a smaller share is part of a larger one."""
    train = np.flatnonzero(cohort.split == TRAIN)
    count = max(1, round(config.label_share * len(train)))
    if count >= len(train):
        return cohort
    mask = cohort.split != TRAIN
    mask[rng_for(seed, site, "labels").permutation(train)[:count]] = True
    excluded = dict(cohort.excluded) | {UNLABELLED: len(train) - count}
    return replace(cohort.take(mask), excluded=excluded)


def refuse_leaking_split(cohort: Cohort, site: str) -> None:
    """Refuse a cohort in which one person is in two splits.

    Raises:
        LeakError: names the site and the splits, never the person.
    """
    code_by_person: dict[str, int] = {}
    for code in range(len(SPLITS)):
        for index in np.unique(cohort.patient[cohort.split == code]):
            person = cohort.persons[int(index)]
            if code_by_person.setdefault(person, code) != code:
                raise LeakError(
                    f"{site}: one person is in {SPLITS[code_by_person[person]]} and in {SPLITS[code]}: refused, "
                    "because figures from a leaking split do not hold for a new patient"
                )


def refuse_shared_persons(persons: dict[str, set[str]]) -> None:
    """Refuse a partition that assigns one person to two hospitals.

    Raises:
        LeakError: names the two hospitals.
    """
    owner: dict[str, str] = {}
    for site, names in sorted(persons.items()):
        for name in names:
            if owner.setdefault(name, site) != site:
                raise LeakError(
                    f"one person is at {owner[name]} and at {site}: "
                    "a partition must keep all recordings of a person together"
                )
