"""The federated model against the others over all folds of a cross-validation, on the same patients.

Within a fold the models' counts are resampled with the same draws of patients (common/metrics/paired_resamples.py), so
the difference is taken in each resample of all folds together, and what makes a patient hard for both cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.metrics.counts import Counts
from common.metrics.figures import Evaluation, Figure
from common.metrics.intervals import make_figure
from common.metrics.paired_resamples import Drawn
from common.metrics.resampling import compute_figures, with_event_figures
from common.metrics.table_names import ALL_PATIENTS, RESAMPLED_SUFFIX
from common.task import Task
from experiments.markdown_table import render_markdown_table
from experiments.report.text.formatting import format_difference, metric_title

FEDERATED = "federated"
_WHERE = "federated where "


@dataclass(frozen=True)
class FoldTables:
    """A model's counts of one fold.

    Attributes:
        tables: counts by hospital, then by table.
        sites: the evaluation at each hospital.
    """

    tables: Mapping[str, Mapping[str, Counts]]
    sites: Mapping[str, Evaluation]


def compare_folds(
    models: Mapping[str, Mapping[str, FoldTables]], task: Task, metrics: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the federated model's metrics minus those of each other model, JSON-ready, by model and metric.

    They are over the test patients of all hospitals. A model that was not tested on the same ones is left out.

    Args:
        models: counts by model and fold.
        task: names the classes.
        metrics: which metrics.
    """
    if FEDERATED not in models:
        return {}
    differences: dict[str, dict[str, Any]] = {}
    for name, folds in models.items():
        if name == FEDERATED or name.startswith(_WHERE):
            continue
        own = models.get(name_where_known(name), models[FEDERATED])
        tested = _count_tested(own)
        if _count_tested(folds) != tested:
            continue
        patients = sum(tested.values())
        values, drawn = _compute_merged(own, sorted(tested), task, patients)
        others, other_drawn = _compute_merged(folds, sorted(tested), task, patients)
        rows: dict[str, Any] = {}
        for metric in metrics:
            if metric not in values or metric not in others:
                continue
            sample = None
            if metric in drawn and metric in other_drawn and drawn[metric].shape == other_drawn[metric].shape:
                sample = drawn[metric] - other_drawn[metric]
            rows[metric] = make_figure(values[metric] - others[metric], sample, patients).model_dump()
        differences[name] = rows
    return differences


def name_where_known(name: str) -> str:
    """Return the name under which the federated model is listed for those patients alone whose score is known."""
    return f"{_WHERE}{name} is known"


def _count_tested(folds: Mapping[str, FoldTables]) -> dict[tuple[str, str], int]:
    """Return the number of patients that a model was tested on, by fold and hospital."""
    return {
        (fold, site): item.patients
        for fold, part in folds.items()
        for site, item in part.sites.items()
        if site in part.tables
    }


def _compute_merged(
    folds: Mapping[str, FoldTables], tested: Sequence[tuple[str, str]], task: Task, patients: int
) -> tuple[dict[str, float], Drawn]:
    """Return the values of all metrics of one value over folds and hospitals, and in each resample."""
    tables = [folds[fold].tables[site] for fold, site in tested]
    first, *rest = [item[ALL_PATIENTS] for item in tables]
    shared = [item[ALL_PATIENTS + RESAMPLED_SUFFIX] for item in tables if ALL_PATIENTS + RESAMPLED_SUFFIX in item]
    drawn: Counts | None = None
    if len(shared) == len(tables) and len({len(item.confusion) for item in shared}) == 1:
        start, *others = shared
        drawn = sum(others, start)
    figures = with_event_figures(task, compute_figures(task, sum(rest, first), drawn, patients))
    values = {name: float(value) for name, value in figures.values.items() if np.ndim(value) == 0}
    return values, {name: sample for name, sample in figures.drawn.items() if sample.ndim == 1}


def render_differences(differences: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of differences as Markdown; empty if there are none."""
    metrics = list(dict.fromkeys(metric for rows in differences.values() for metric in rows))
    if not metrics:
        return ""
    cells = [
        [name, *(format_difference(Figure.model_validate(rows[m])) if m in rows else "n/a" for m in metrics)]
        for name, rows in differences.items()
    ]
    head = "\nThe federated model minus each other, all folds together, on the same patients, paired 95% intervals.\n\n"
    return head + render_markdown_table(["minus", *map(metric_title, metrics)], cells) + "\n"
