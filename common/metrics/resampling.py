"""Every metric of a model, computed from counts, and again from each resample of the patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from common.metrics import calibration
from common.metrics.count_statistics import CountStatistics
from common.metrics.counts import Counts, auroc, ratio
from common.metrics.early_warning import Floats
from common.metrics.intervals import ResampledFigures
from common.metrics.registry import ALARM_METRICS, CALIBRATION_METRICS, CLASS_METRICS, METRICS, Requirement, find_metric
from common.task import Task

COARSE_BINS = 64
"""Largest number of score bins of resamples; `compute_figures` corrects for the ties that so few bins cause."""


COARSE_FACTOR = 16
"""Score bins of the default number, 1024, that are merged into one."""


def coarse_factor(bins: int) -> int:
    """Return how many neighbouring score bins are merged into one in resamples.

    >>> coarse_factor(1024), coarse_factor(64)
    (16, 1)
    """
    return max(1, bins // COARSE_BINS)


TIED_PAIRS = 0.02
"""Share of pairs of examples that score bins may tie without correction: it changes an AUROC by 0.01."""

_CURVES = {"group_observed": (0.0, 1.0), "group_benefit": (None, 1.0)}
"""Ranges of the points of reliability diagrams and decision curves."""


def compute_figures(
    task: Task,
    total: Counts,
    replicates: Counts | None,
    patients: int,
    operating: Sequence[float] = (),
    curves: bool = False,
    slow: bool = True,
    merged: npt.NDArray[np.bool_] | None = None,
) -> ResampledFigures:
    """Return every metric of the registry by name, with its resampled values.

    A per-class metric NAME is found as `class_NAME`, with an axis of classes (calibration and alarms: of the scored
    classes); points of curves as `group_...`, with axes of classes and points.

    Args:
        task: names the classes.
        total: counts without leading axis.
        replicates: resampled counts, or None.
        patients: how many patients the counts come from.
        operating: specificities and sensitivities at which the other is computed.
        curves: whether to compute reliability diagrams and decision curves too.
        slow: whether to compute the metrics that are marked as slow.
        merged: `(classes,)`, classes whose scores the bins merge (common/metrics/merged_scores.py); they have no value
            of what needs the order of scores.
    """
    whole = CountStatistics(task, total, total)
    values = _compute(whole, operating, curves, slow)
    drawn: dict[str, Floats] = {}
    if replicates is not None and patients >= 2:
        # Coarser bins make ties, which pull an area towards 0.5: the resamples are shifted by the difference between
        # the metric on its own bins and on theirs.
        same = replicates.scores.shape[-1] == total.scores.shape[-1]
        factor = -(-total.scores.shape[-1] // replicates.scores.shape[-1])
        start = whole if same else CountStatistics(task, total.coarser(factor), total)
        level = values if same else _compute(start, operating, curves, slow)
        resampled = CountStatistics(task, replicates, total, start)
        for name, sample in _compute(resampled, operating, curves, slow).items():
            drawn[name] = np.clip(sample + (values[name] - level[name]), *_metric_range(name))
        _remove_unordered(drawn, find_unordered_classes(total, replicates.scores.shape[-1]), whole.separable)
    if merged is not None and merged.any():
        values = {name: np.array(value, dtype=np.float64) for name, value in values.items()}
        _remove_unordered(values, merged, whole.separable)
        _remove_unordered(drawn, merged, whole.separable)
    return ResampledFigures(values, patients, drawn)


def find_unordered_classes(total: Counts, bins: int) -> npt.NDArray[np.bool_]:
    """Return the classes whose scores lie too close together for the score bins of the resamples, `(classes,)`.

    Within a bin the order of scores is unknown: pairs of an example of the class and one of another in the same bin
    count as tied. The shift in `compute_figures` corrects for that only while it is small. A class is found here if
    more pairs are tied by the bins than the model orders wrongly: then an interval of the AUROC has 0.8 (little
    separation of the classes) to 2 times (much) its proper width, and tends to a point with all scores in one bin.

    Args:
        total: counts without leading axis; scores in the same fine bin are taken as equal, except in the bins at
            either end, which hold all scores beyond them.
        bins: number of score bins in the resamples.
    """
    fine = total.scores.astype(np.float64)
    inner = fine.copy()
    inner[..., [0, -1]] = 0
    coarse = fine if bins == fine.shape[-1] else total.coarser(COARSE_FACTOR).scores.astype(np.float64)
    tied = (coarse[:, 0] * coarse[:, 1]).sum(-1) - (inner[:, 0] * inner[:, 1]).sum(-1)
    share = ratio(tied, fine[:, 0].sum(-1) * fine[:, 1].sum(-1))
    area = auroc(total.scores)
    return np.asarray(share > np.maximum(np.minimum(area, 1 - area), TIED_PAIRS))


def _remove_unordered(
    drawn: dict[str, Floats], unordered: npt.NDArray[np.bool_], separable: npt.NDArray[np.bool_]
) -> None:
    """Replace by NaN the values that need an order of scores that the bins do not give."""
    for name, sample in drawn.items():
        metric = find_metric(name)
        if not (metric.needs_order if metric else name.startswith(("class_sensitivity_at", "class_specificity_at"))):
            continue
        if name.startswith("class_"):
            sample[..., unordered[-sample.shape[-1] :]] = np.nan  # calibration: of the event alone
        elif (unordered & separable).any():
            sample[...] = np.nan


def _compute(statistics: CountStatistics, operating: Sequence[float], curves: bool, slow: bool) -> dict[str, Floats]:
    """Return every metric that can be computed from the counts, by name."""
    per_class = (*CLASS_METRICS.values(), *CALIBRATION_METRICS.values(), *ALARM_METRICS.values())
    figures = {
        f"class_{metric.name}": metric.compute(statistics)
        for metric in per_class
        if metric.compute and (slow or not metric.slow) and _has(statistics, metric.requires)
    }
    figures |= {
        metric.name: metric.compute(statistics)
        for metric in METRICS.values()
        if metric.compute and (slow or not metric.slow) and _has(statistics, metric.requires)
    }
    for at in operating:
        figures[f"class_sensitivity_at_{at:g}"] = calibration.sensitivity_at(statistics.histogram, at)
        figures[f"class_specificity_at_{at:g}"] = calibration.specificity_at(statistics.histogram, at)
    if curves and slow and statistics.task.probabilistic:
        every, events, _ = calibration.count_reliability_groups(statistics.histogram)
        figures["group_observed"] = ratio(events, every)
        figures["group_benefit"] = calibration.net_benefit(statistics.histogram)[0]
    return figures


def _has(statistics: CountStatistics, requirement: Requirement) -> bool:
    """Return whether the task and its counts have what a metric requires."""
    held: dict[Requirement, Callable[[], bool]] = {
        "nothing": lambda: True,
        "event": lambda: statistics.task.binary,
        "utility": lambda: bool(statistics.counts.utility.size),
        "probabilities": lambda: statistics.task.probabilistic,
        "time": lambda: bool(statistics.counts.time.size),
        "onset": lambda: bool(statistics.counts.lead.size),
    }
    return held[requirement]()


def _metric_range(name: str) -> tuple[float, float]:
    """Return the lowest and the highest value that a figure of `compute_figures` can have."""
    metric = find_metric(name)
    low, high = (metric.low, metric.high) if metric else _CURVES.get(name, (0.0, 1.0))
    return -np.inf if low is None else low, np.inf if high is None else high


def with_event_figures(task: Task, figures: ResampledFigures) -> ResampledFigures:
    """Return figures with the metrics of the event of two classes added under their own names, such as `sensitivity`.

    Tasks of more classes have none: their figures are returned as they are.
    """
    if not task.binary:
        return figures
    values, drawn = dict(figures.values), dict(figures.drawn)
    for metric in METRICS.values():
        for named in (values, drawn) if metric.class_metric else ():
            if f"class_{metric.class_metric}" in named:
                named[metric.name] = named[f"class_{metric.class_metric}"][..., metric.class_index]
    return ResampledFigures(values, figures.patients, drawn)
