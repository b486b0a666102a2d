"""Differences between models on the same patients, and between groups of patients of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure
from common.metrics.intervals import make_figure
from common.metrics.paired_resamples import POOLED, Draws, load_resamples
from common.metrics.registry import METRICS
from common.metrics.subgroups import UNKNOWN, GroupComparison
from common.metrics.table_names import ALL_PATIENTS, GROUP_PREFIX, PERSONAL, WHERE_KNOWN
from common.run_folder import RunFolder
from experiments.report.document.results import GroupGap, ModelDifference, ModelResult, Subset

NO_RESAMPLES = "no interval: the counts that are compared share no resamples, or the run did not keep them"


def list_compared_metrics(metric: str, binary: bool) -> list[str]:
    """Return the metrics that models and groups are compared by, the run's own first."""
    more = ["auroc", "sensitivity", "specificity", "utility"] if binary else ["macro_f1", "macro_auroc", "accuracy"]
    return list(dict.fromkeys([metric, *more, "brier"]))


def compare_models(
    models: Sequence[ModelResult], metric: str, binary: bool, folder: Path
) -> tuple[ModelDifference, ...]:
    """Return the federated model's metrics minus those of each other model, on the same patients.

    A local model is compared at the hospital where it was trained, other models at every hospital and over all. A score
    that is unknown for some patients is compared on the others.

    Args:
        models: the models of a run.
        metric: the metric that selects the run's best round.
        binary: whether the task has two classes.
        folder: the run's folder, with the resampled metrics of each model.
    """
    federated = next((model for model in models if model.kind == "federated"), None)
    if federated is None:
        return ()
    all_samples = load_resamples(RunFolder(folder).resamples(federated.name))
    differences: list[ModelDifference] = []
    for other in models:
        if other is federated:
            continue
        other_samples = load_resamples(RunFolder(folder).resamples(other.name))
        own: Subset = federated
        own_samples = all_samples
        if other.where_known is not None:
            own = other.where_known.federated
            own_samples = load_resamples(RunFolder(folder).resamples(f"federated:{other.name}{WHERE_KNOWN}"))
        table = PERSONAL if other.kind == "personal" else ALL_PATIENTS
        pairs: dict[str, tuple[Evaluation | None, Evaluation | None]] = {
            site: (own.sites.get(site), evaluation)
            for site, evaluation in other.sites.items()
            if other.trained_at in (None, site)
        }
        if other.trained_at is None:
            pairs[POOLED] = own.pooled, other.pooled
        differences += _subtract_models(
            other.name, pairs, list_compared_metrics(metric, binary), own_samples, other_samples, table
        )
    return tuple(differences)


def _subtract_models(
    name: str,
    pairs: Mapping[str, tuple[Evaluation | None, Evaluation | None]],
    metrics: Sequence[str],
    own: Draws,
    other: Draws,
    table: str,
) -> list[ModelDifference]:
    """Return the differences of pairs of evaluations on the same patients, by hospital and metric."""
    differences = []
    for site, (one, two) in pairs.items():
        if one is None or two is None or one.examples != two.examples:
            continue
        for metric in metrics:
            mine, theirs = one.figure(metric), two.figure(metric)
            if mine is None or theirs is None or mine.value is None or theirs.value is None:
                continue
            sample = _subtract(own.get((ALL_PATIENTS, site), {}).get(metric), other.get((table, site), {}).get(metric))
            differences.append(
                ModelDifference(
                    model=name,
                    site=site,
                    metric=metric,
                    patients=one.patients,
                    figure=make_figure(mine.value - theirs.value, sample, one.patients),
                    note="" if sample is not None else NO_RESAMPLES,
                )
            )
    return differences


def _subtract(
    one: npt.NDArray[np.float64] | None, other: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64] | None:
    """Return the difference in each resample, `(resamples,)`; None if the resamples are missing or not paired."""
    if one is None or other is None or one.shape != other.shape:
        return None
    return one - other


def compare_groups(model: ModelResult, metric: str, binary: bool, folder: Path) -> tuple[GroupGap, ...]:
    """Return the difference between the groups with the highest and the lowest value.

    There is one for each attribute, hospital and metric. Groups of fewer than FEW_PATIENTS patients are named but not
    compared; patients whose attribute is unknown are not compared either.

    Args:
        model: a model with groups.
        metric: the metric that selects the run's best round.
        binary: whether the task has two classes.
        folder: the run's folder, with the resampled metrics of each group.
    """
    samples = load_resamples(RunFolder(folder).resamples(model.name)) if model.groups else {}
    gaps = []
    for attribute, groups in model.groups.items():
        sites = [site for site in model.sites if any(site in subset.sites for subset in groups.values())]
        for site in [*([POOLED] if model.pooled else []), *sites]:
            everyone = model.pooled if site == POOLED else model.sites[site]
            known = {
                name: evaluation
                for name, subset in groups.items()
                if name != UNKNOWN and (evaluation := _get_evaluation(subset, site)) is not None
            }
            few = [name for name, evaluation in known.items() if evaluation.patients < FEW_PATIENTS]
            compared = {name: evaluation for name, evaluation in known.items() if name not in few}
            for name in list_compared_metrics(metric, binary):
                if (gap := _compute_gap(attribute, site, name, compared, everyone, samples)) is not None:
                    gaps.append(gap.model_copy(update={"left_out": tuple(few)}))
    return tuple(gaps)


def _get_evaluation(subset: Subset, site: str) -> Evaluation | None:
    return subset.pooled if site == POOLED else subset.sites.get(site)


def _compute_gap(
    attribute: str,
    site: str,
    metric: str,
    groups: Mapping[str, Evaluation],
    everyone: Evaluation | None,
    samples: Draws,
) -> GroupGap | None:
    """Return the gap between groups at one hospital by one metric; None if fewer than two groups have it."""
    figures = {name: figure for name, item in groups.items() if (figure := item.figure(metric)) is not None}
    values = {name: figure.value for name, figure in figures.items() if figure.value is not None}
    if len(values) < 2:
        return None
    overall = everyone.figure(metric) if everyone is not None else None
    tables = {name: samples.get((f"{GROUP_PREFIX}{attribute}={name}", site), {}) for name in values}
    comparison = GroupComparison(
        values,
        float("nan") if overall is None or overall.value is None else overall.value,
        {name: table[metric] for name, table in tables.items() if metric in table},
        {name: groups[name].patients for name in values},
    )
    low, high = comparison.group_min(), comparison.group_max()
    if low is None or high is None:
        return None
    has_ratio = METRICS[metric].high is not None and low[1] >= 0
    return GroupGap(
        attribute=attribute,
        site=site,
        metric=metric,
        overall=overall or Figure(value=None),
        lowest=low[0],
        highest=high[0],
        difference=comparison.difference(),
        ratio=comparison.ratio() if has_ratio else Figure(value=None),
        pairs=comparison.pairs,
    )
