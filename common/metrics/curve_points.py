"""Points of the ROC curve and the precision-recall curve with pointwise bands, from score histograms and resamples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.metrics.counts import Counts, bin_edges, ratio
from common.metrics.curve_figures import CurvePoint
from common.metrics.early_warning import Floats, Ints
from common.metrics.figures import Evaluation
from common.metrics.intervals import make_figure
from common.task import Task

CURVE_CUTS = tuple(cut / 2 for cut in range(-16, 17))
"""Log odds at which the curves have points: probabilities from 0.03% to 99.97%."""


def add_curve_points(task: Task, evaluation: Evaluation, total: Counts, replicates: Counts | None) -> Evaluation:
    """Return an evaluation with the curves of each class that has a reliability diagram.

    Args:
        task: names the classes.
        evaluation: the results without curves.
        total: counts without leading axis.
        replicates: resampled counts; None: no bands.
    """
    classes = dict(evaluation.classes)
    for index, (name, part) in enumerate(evaluation.classes.items()):
        if part.calibration is None or not part.calibration.groups:
            continue
        drawn = None if replicates is None else replicates.scores[:, index]
        points = compute_points(total.scores[index], drawn, evaluation.patients)
        classes[name] = part.model_copy(
            update={"calibration": part.calibration.model_copy(update={"points": tuple(points)})}
        )
    return evaluation.model_copy(update={"classes": classes})


def compute_points(scores: Ints, drawn: Ints | None, patients: int) -> Sequence[CurvePoint]:
    """Return the points of one class at those CURVE_CUTS at which both histograms have a boundary.

    Args:
        scores: `(2, bins)`, examples without and with the class.
        drawn: `(resamples, 2, coarser bins)`; None: no bands.
        patients: number of resampled patients.
    """
    points = []
    for cut in CURVE_CUTS:
        values, samples = _measure_at(scores, cut), None if drawn is None else _measure_at(drawn, cut)
        if values is None or (drawn is not None and samples is None):
            continue
        sensitivity, specificity, precision = (
            make_figure(float(value), None if samples is None else samples[at], patients)
            for at, value in enumerate(values)
        )
        points.append(CurvePoint(log_odds=cut, sensitivity=sensitivity, specificity=specificity, precision=precision))
    return points


def _measure_at(scores: Ints, cut: float) -> tuple[Floats, Floats, Floats] | None:
    """Return sensitivity, specificity and precision at a threshold; None where it lies within a bin."""
    edges = bin_edges(scores.shape[-1])
    first = int(np.searchsorted(edges, cut - 1e-9))
    if first >= len(edges) or abs(edges[first] - cut) > 1e-9:
        return None
    above, every = scores[..., first:].sum(-1), scores.sum(-1)
    without, having = above[..., 0], above[..., 1]
    return (
        ratio(having, every[..., 1]),
        1 - ratio(without, every[..., 0]),
        ratio(having, having + without),
    )
