"""Every figure of a model by name, computed from counts, and again from each resample of the patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from common.metrics import calibration, early_warning
from common.metrics import counts as metrics
from common.metrics.calibration import ScoreHistogram
from common.metrics.counts import Counts
from common.metrics.early_warning import Floats
from common.metrics.figures import ResampledFigures
from common.task import Task

COARSE_FACTOR = 16
"""Score bins merged into one in resamples, which tell how far an area varies; `sampled` mends its level."""

OVERALL_FIGURES = ("accuracy", "macro_f1", "macro_auroc", "macro_auprc", "loss", "utility", "brier", "ece")
CLASS_FIGURES = ("precision", "recall", "f1", "auroc", "auprc")
CALIBRATION_FIGURES = ("brier", "ece", "ece_mass", "slope", "intercept", "large")
_FREE = ("loss", "slope", "intercept", "large", "alarms_per_day", "false_per_hour", "lead_hours")
"""Figures that are not bound to 0 to 1; those of a class have `class_` before their name, the event's too."""
_BELOW, _ABOVE = ("utility", "group_benefit"), ("brier",)
"""Figures that may lie below 0, and above 1 (Brier's score of all classes is at most 2)."""


def compute_figures(
    task: Task,
    total: Counts,
    replicates: Counts | None,
    patients: int,
    operating: Sequence[float] = (),
    curves: bool = False,
    judge: bool = True,
) -> ResampledFigures:
    """Return every figure by name, and its resampled values; `class_...` and `group_...` have an axis of classes.

    Args:
        task: names the classes.
        total: counts without leading axis.
        replicates: resampled counts, or None.
        patients: how many patients the counts come from.
        operating: sensitivities and specificities at which the other is sought.
        curves: whether to compute reliability diagrams and decision curves too.
        judge: whether to compute slopes and intercepts, which take the longest.
    """
    many = task.kind == "multilabel"
    support = metrics.class_totals(total.confusion, many)[2]
    present = support > 0
    both = present & (support < int(count_examples(total, many)))
    seek = slice(1, 2) if task.binary else slice(None)

    def computed(counts: Counts, start: Mapping[str, Floats] | None = None) -> dict[str, Floats]:
        found = {
            "class_precision": metrics.precision(counts.confusion, many),
            "class_recall": metrics.recall(counts.confusion, many),
            "class_f1": metrics.f1(counts.confusion, many),
            "class_auroc": metrics.auroc(counts.scores),
            "class_auprc": metrics.auprc(counts.scores),
        }
        size = counts.confusion[..., 0, :].sum(-1) if task.anomaly else count_examples(counts, many)
        found |= {
            "accuracy": metrics.accuracy(counts.confusion, many),
            "macro_f1": metrics.macro_mean(found["class_f1"], present),
            "macro_auroc": metrics.macro_mean(found["class_auroc"], both),
            "macro_auprc": metrics.macro_mean(found["class_auprc"], both),
            "loss": np.asarray(counts.loss / np.where(size > 0, size, np.nan), dtype=np.float64),
        }
        if counts.utility.size:
            found["utility"] = metrics.normalised_utility(counts.utility)
        scores = ScoreHistogram(counts.scores[..., seek, :, :])
        for at in operating:
            found[f"class_sensitivity_at_{at:g}"] = calibration.sensitivity_at(scores, at)
            found[f"class_specificity_at_{at:g}"] = calibration.specificity_at(scores, at)
        if counts.time.size:
            hits, called, _ = (part[..., seek] for part in metrics.class_totals(counts.confusion))
            held = counts.time.sum(-1)[..., None]
            found["class_alarms_per_day"] = metrics.ratio(24 * called, held)
            found["class_false_per_hour"] = metrics.ratio(called - hits, held - counts.time[..., seek])
        if counts.lead.size:
            found["warned"] = metrics.ratio(counts.lead[..., 1:].sum(-1), counts.lead[..., 0])
            found["lead_hours"] = early_warning.median_lead_time(counts.lead)
        if not task.probabilistic:
            return found
        found |= {
            "class_brier": calibration.brier(scores),
            "class_ece": calibration.expected_calibration_error(scores),
        }
        found["brier"] = found["class_brier"].sum(-1)
        found["ece"] = found["class_ece"].mean(-1)
        if not judge:
            return found
        begin = (start["class_slope"], start["class_intercept"]) if start is not None else None
        found["class_slope"], found["class_intercept"] = calibration.calibration_line(scores, begin)
        found["class_large"] = calibration.calibration_in_the_large(
            scores, start["class_large"] if start is not None else None
        )
        found["class_ece_mass"] = calibration.expected_calibration_error(scores, mass=True)
        if curves:
            every, events, _ = calibration.count_reliability_groups(scores)
            found["group_observed"] = metrics.ratio(events, every)
            found["group_benefit"] = calibration.net_benefit(scores)[0]
        return found

    values = computed(total)
    drawn: dict[str, Floats] = {}
    if replicates is not None and patients >= 2:
        # Coarser bins make ties, which pull an area towards a coin's: the resamples are moved by as much as
        # the figure itself moves between its own bins and theirs.
        same = replicates.scores.shape[-1] == total.scores.shape[-1]
        level = values if same else computed(total.coarser(COARSE_FACTOR))
        for name, sample in computed(replicates, level).items():
            moved = sample + (values[name] - level[name])
            if name.removeprefix("class_") not in _FREE:
                moved = np.clip(moved, -np.inf if name in _BELOW else 0.0, np.inf if name in _ABOVE else 1.0)
            drawn[name] = moved
    return ResampledFigures(values, patients, drawn)


def count_examples(counts: Counts, multilabel: bool) -> npt.NDArray[np.int64]:
    """Return the number of examples, `(...)`: each stands once in a confusion, or once in each label's."""
    each = counts.confusion.sum((-2, -1))
    return np.asarray(each[..., 0] if multilabel else each, dtype=np.int64)


EVENT_FIGURES = {
    "sensitivity": ("recall", 1),
    "specificity": ("recall", 0),
    "ppv": ("precision", 1),
    "auroc": ("auroc", 1),
}
EVENT_FIGURES |= {"auprc": ("auprc", 1)}
EVENT_ONLY_FIGURES = ("slope", "intercept", "alarms_per_day", "false_per_hour")
"""Figures of the event of two classes, and where they stand among the classes'; SOUGHT are the event's alone."""


def with_event_figures(task: Task, figures: ResampledFigures) -> ResampledFigures:
    """Return figures with those of the event of two classes under names of their own too, such as `sensitivity`."""
    if not task.binary:
        return figures
    values, drawn = dict(figures.values), dict(figures.drawn)
    for name, (part, place) in {**EVENT_FIGURES, **{name: (name, 0) for name in EVENT_ONLY_FIGURES}}.items():
        for found in (values, drawn):
            if f"class_{part}" in found:
                found[name] = found[f"class_{part}"][..., place]
    return ResampledFigures(values, figures.patients, drawn)
