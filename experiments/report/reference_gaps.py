"""Signed differences of groups of patients from a reference group that is fixed without looking at any result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from common.metrics.figures import FEW_PATIENTS, Evaluation
from common.metrics.intervals import make_figure
from common.metrics.paired_resamples import POOLED, load_resamples
from common.metrics.patient_counts import count_patients
from common.metrics.registry import METRICS
from common.metrics.subgroups import UNKNOWN
from common.metrics.table_names import GROUP_PREFIX
from common.run_folder import RunFolder
from experiments.report.differences import list_compared_metrics
from experiments.report.document.results import ModelResult, ReferenceGap


def choose_reference(groups: Mapping[str, Evaluation]) -> str:
    """Return the group with the most patients, of equals the first by name: no result has a part in the choice."""
    return min(groups, key=lambda name: (-groups[name].patients, name))


def compare_with_reference(model: ModelResult, metric: str, binary: bool, folder: Path) -> tuple[ReferenceGap, ...]:
    """Return each group's metrics minus those of the reference group, over all hospitals, worst first.

    Groups of fewer than FEW_PATIENTS patients and patients whose attribute is unknown are not compared.

    Args:
        model: a model with groups.
        metric: the metric that selects the run's best round.
        binary: whether the task has two classes.
        folder: the run's folder, with the resampled metrics of each group.
    """
    samples = load_resamples(RunFolder(folder).resamples(model.name)) if model.groups else {}
    gaps = []
    for attribute, subsets in model.groups.items():
        groups = {
            name: subset.pooled
            for name, subset in subsets.items()
            if name != UNKNOWN and subset.pooled is not None and subset.pooled.patients >= FEW_PATIENTS
        }
        if len(groups) < 2:
            continue
        reference = choose_reference(groups)
        drawn = {name: samples.get((f"{GROUP_PREFIX}{attribute}={name}", POOLED), {}) for name in groups}
        for group, evaluation in groups.items():
            for name in list_compared_metrics(metric, binary) if group != reference else ():
                mine, theirs = evaluation.figure(name), groups[reference].figure(name)
                if mine is None or theirs is None or mine.value is None or theirs.value is None:
                    continue
                one, other = drawn[group].get(name), drawn[reference].get(name)
                paired = one is not None and other is not None and one.shape == other.shape
                sample = one - other if paired and one is not None and other is not None else None
                patients = min(evaluation.patients, groups[reference].patients)
                gaps.append(
                    ReferenceGap(
                        attribute=attribute,
                        group=group,
                        reference=reference,
                        metric=name,
                        value=mine,
                        reference_value=theirs,
                        difference=make_figure(mine.value - theirs.value, sample, patients),
                        patients=min(count_patients(item, name) for item in (evaluation, groups[reference])),
                    )
                )
    return tuple(sorted(gaps, key=_rank))


def _rank(gap: ReferenceGap) -> tuple[bool, float]:
    """Return the order: gaps whose interval excludes 0 first, then by how much worse the group is."""
    loss = METRICS[gap.metric].badness(gap.difference.value or 0.0) - METRICS[gap.metric].badness(0.0)
    return not gap.excludes_zero, -loss


def describe_reference_gaps(gaps: tuple[ReferenceGap, ...]) -> str:
    """Return how many differences were compared, and how many intervals exclude 0; with the role of accident."""
    known = [gap for gap in gaps if gap.difference.low is not None]
    excluding = sum(gap.excludes_zero for gap in known)
    if not known:
        return f"{len(gaps)} differences were compared; none has an interval."
    expected = len(known) / 20
    return (
        f"{len(known)} differences were compared, each of a group from the largest group of its kind. The intervals of "
        f"{excluding} exclude 0; without any true difference about {expected:.1f} would, by accident."
    )
