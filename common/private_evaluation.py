"""What both ends know of a private evaluation before it: how many releases a run plans, and in how many tables each
person occurs. The mechanism is described in client/privacy/private_evaluation.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.config import RunConfig
from common.metrics.noisy_counts import NoisyCounts, ReleaseLayout
from common.metrics.table_names import ALL_PATIENTS
from common.task import Task

EvaluatedSplit = Literal["validation", "test"]
EVALUATED_SPLITS: tuple[EvaluatedSplit, ...] = ("validation", "test")
CONFUSION, SCORES = "confusion", "scores"
"""Parts of a table of noisy sums, as they follow its name and a slash."""


def count_planned_releases(config: RunConfig, split: EvaluatedSplit) -> int:
    """Return the number of releases about a split's people that share `privacy.evaluation_epsilon` in a run."""
    return config.federation.rounds if split == "validation" and config.federation.choose == "best" else 1


def build_layout(config: RunConfig, task: Task, split: EvaluatedSplit, personal: bool) -> ReleaseLayout:
    """Return the layout of one release: validation has one table; test has groups and a personal model's tables too.

    Args:
        config: the run.
        task: what is predicted.
        split: whose people are counted.
        personal: whether the strategy trains a personal model at each site, which is tested besides the federated one.
    """
    groups = config.evaluation.subgroups
    attributes = int(groups.sex) + int(bool(groups.age)) + len(groups.columns)
    parts = 1 if split == "validation" else (1 + attributes) * (2 if personal else 1)
    return ReleaseLayout.from_task(task, parts)


def name_sums(table: str) -> tuple[str, str]:
    """Return the names of a table's sums in a reply: of its confusion matrix and of its histograms.

    >>> name_sums("all")
    ('all/confusion', 'all/scores')
    """
    return f"{table}/{CONFUSION}", f"{table}/{SCORES}"


def find_shapes(task: Task, bins: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a table's sums: of its confusion matrix and of its histograms."""
    return task.confusion_shape, (ReleaseLayout.from_task(task).histograms, 2, bins)


def read_noisy_counts(
    sums: Mapping[str, npt.NDArray[np.float64]], layout: ReleaseLayout, sigma: float
) -> dict[str, NoisyCounts]:
    """Return the noisy counts by table of a reply's sums, which were checked to be complete."""
    tables = sorted(name.removesuffix(f"/{CONFUSION}") for name in sums if name.endswith(f"/{CONFUSION}"))
    cell, bin_ = layout.deviations(sigma)
    counts = {}
    for table in sorted(tables, key=lambda name: (name != ALL_PATIENTS, name)):
        confusion, scores = name_sums(table)
        counts[table] = NoisyCounts(sums[confusion], sums[scores], cell, bin_)
    return counts
