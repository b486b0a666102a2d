"""The classifier two-sample test between hospitals, for simulations only, because it needs the rows of both.

A classifier is trained to distinguish two hospitals' training patients, and tested on other patients (Lopez-Paz and
Oquab 2017, ICLR). An AUROC of 0.5 means that the patients have the same distribution in the columns; 1 means that every
patient can be assigned to a hospital. With few people an AUROC far from 0.5, on either side, is chance: the people on
whom the trees are tested are others than those they were trained on, and so is what distinguishes them. Each pair
therefore has the range that chance gives (`compute_null_range`). For real hospitals the report has a linear
discriminant computed from aggregates instead (common/distance.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from client.policy import SIMULATION_POLICY
from client.site import Site, load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.metrics import evaluation, resampling
from common.metrics.counts import count_predictions
from common.metrics.figures import Figure
from common.metrics.resampling import COARSE_FACTOR
from common.seeds import rng_for, seed_for
from common.task import Task
from experiments.baselines.classical import limit_threads
from sites.comparison_columns import column_names, column_table

ROWS = 8000
"""Largest number of rows drawn from a hospital."""
FOLDS, TREES, BINS = 3, 60, 1024
ONE_THREAD_ROWS = 4000
"""Rows of a pair below which one thread grows the trees: more threads wait for each other most of the time."""
Ints = npt.NDArray[np.int64]
SampledRows = tuple[npt.NDArray[np.float32], Ints]
"""Columns `(rows, columns)` and the index of each row's person."""
PAIR_TASK = Task("hospital", "multiclass", ("one", "other"), ("one", "other"), 0, 0, 0.0, ("z",), ())


def run_two_sample_tests(config: RunConfig, count: int, on_pair: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the AUROC of each pair of a simulation's hospitals, with its interval over patients.

    Args:
        config: the run.
        count: the number of hospitals.
        on_pair: called with a description before each pair.
    """
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    rows = {site.name: sample_rows(site, config) for site in sites if len(site.train.y) and column_names(site.task)}
    pairs = []
    for one, other in itertools.combinations(sorted(rows), 2):
        on_pair(f"comparing {one} with {other}")
        figure = pair_auroc(rows[one], rows[other], seed_for(config.seed, one, other, "two-sample"), config)
        pair: dict[str, Any] = {"one": one, "other": other, "auroc": figure.model_dump() if figure else None}
        if figure:
            pair["null_range"] = compute_null_range(*(len(set(rows[name][1].tolist())) for name in (one, other)))
        pairs.append(pair)
    return pairs


def sample_rows(site: Site, config: RunConfig) -> SampledRows:
    """Return at most ROWS of a site's training rows, and the person of each."""
    cohort = site.train
    if len(cohort.y) > ROWS:
        chosen = rng_for(config.seed, site.name, "two-sample").choice(len(cohort.y), ROWS, replace=False)
        cohort = cohort.take(np.sort(chosen))
    person = np.unique(np.asarray(cohort.persons, dtype=object), return_inverse=True)[1][cohort.patient]
    return column_table(cohort), person


def pair_auroc(one: SampledRows, other: SampledRows, seed: int, config: RunConfig) -> Figure | None:
    """Return the AUROC of trees that distinguish two hospitals' rows, on held-out persons; None: too few persons.

    As many rows of each hospital are used: weights would do the same, but make scikit-learn's trees many times slower.
    """
    if min(len(set(one[1].tolist())), len(set(other[1].tolist()))) < FOLDS:
        return None
    one, other = _draw_equal_rows(one, other, rng_for(seed, "rows"))
    x = np.concatenate([one[0], other[0]])
    y = np.repeat([0, 1], [len(one[0]), len(other[0])])
    person = np.concatenate([one[1], other[1] + one[1].max() + 1])
    odds = np.zeros(len(y))
    with limit_threads(1) if len(y) < ONE_THREAD_ROWS else nullcontext():
        for train, test in _folds(y, person, seed):
            trees = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=seed % 2**32)
            odds[test] = trees.fit(x[train], y[train]).decision_function(x[test])
    group = np.unique(person, return_inverse=True)[1]
    counts = count_predictions(np.stack([np.zeros_like(odds), odds], 1), y, group, int(group.max()) + 1, BINS)
    drawn = evaluation.resample_patients(
        counts.coarser(COARSE_FACTOR), config.evaluation.bootstrap, rng_for(seed, "bootstrap")
    )
    people = int(group.max()) + 1
    return resampling.with_event_figures(
        PAIR_TASK, resampling.compute_figures(PAIR_TASK, counts.total(), drawn, people)
    ).figure("auroc")


def compute_null_range(one: int, other: int) -> tuple[float, float]:
    """Return between which AUROCs 95% lie if the people of two hospitals do not differ.

    Mann and Whitney 1947 (Ann. Math. Statist. 18:50): the AUROC of n and m people in random order has a mean of 0.5 and
    a variance of (n + m + 1) / (12 n m). The rows of a person count as one, as they resemble one another: if they do
    not, chance gives less.

    Args:
        one, other: people of the hospitals.

    >>> [round(limit, 2) for limit in compute_null_range(5, 4)]
    [0.1, 0.9]
    """
    half = 1.96 * math.sqrt((one + other + 1) / (12 * one * other))
    return max(0.0, 0.5 - half), min(1.0, 0.5 + half)


def _draw_equal_rows(one: SampledRows, other: SampledRows, rng: np.random.Generator) -> tuple[SampledRows, SampledRows]:
    """Return the hospitals' rows without a random part of the larger hospital's, as many of each; all people stay."""
    size = min(len(one[1]), len(other[1]))
    drawn = []
    for columns, person in (one, other):
        first = np.unique(person, return_index=True)[1]
        rest = np.setdiff1d(np.arange(len(person)), first)
        extra = rng.choice(rest, min(len(rest), max(0, size - len(first))), replace=False)
        chosen = np.sort(np.concatenate([first, extra]))
        drawn.append((columns[chosen], person[chosen]))
    return drawn[0], drawn[1]


def _folds(y: Ints, person: Ints, seed: int) -> list[tuple[Ints, Ints]]:
    """Return folds of whole persons; each hospital's persons are spread over all folds."""
    splitter = GroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    sides = [np.flatnonzero(y == side) for side in (0, 1)]
    parts = [[(rows[a], rows[b]) for a, b in splitter.split(rows, groups=person[rows])] for rows in sides]
    return [
        (np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]]))
        for one, other in zip(*parts, strict=True)
    ]
