"""Every metric, defined once: computation, title, unit, range, direction, format and the tasks that it applies to.

A new metric is one `Metric` in METRICS. It is then computed with a 95% interval at every site and over all of them,
accepted as `evaluation.metric` (`selectable=True`), able to choose the best round and the worst site, compared with
other models, and written to report.json, sites.csv, the report and the terminal. Nothing else lists metrics by name.

    METRICS["macro_f1"].title                   'macro-F1', within a sentence
    METRICS["loss"].is_better(0.2, 0.3)         True: a lower loss is better
    METRICS["auroc"].worst([0.8, 0.9])          0.8
    METRICS["auroc"].format(0.91342)            '0.913'
    evaluation.figure("auroc")                  the metric's Figure in a common.metrics.figures.Evaluation, or None
    [m for m in METRICS.values() if m.selectable]

METRICS holds one value a model: over all classes or, with `class_metric`, of the event of a task of two classes.
CLASS_METRICS holds one value for each class, CALIBRATION_METRICS and ALARM_METRICS those of classes whose
probabilities or alarms are judged. Order is the order of columns and lines wherever all are listed.

This module imports no numpy: configurations are checked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from common.metrics.installed_metrics import find_installed_metrics

if TYPE_CHECKING:
    from common.metrics.count_statistics import CountStatistics
    from common.metrics.early_warning import Floats

Requirement = Literal["nothing", "event", "utility", "probabilities", "time", "onset"]
Basis = Literal["all", "class", "others", "fewer", "predicted", "onset"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: its key in configurations, report.json, rounds.jsonl and sites.csv.
        title: its name within a sentence.
        compute: returns the value from counts, `(...)`; per-class metrics `(..., classes)`. None: see `class_metric`.
        unit: unit of the value, empty for a share or a score without unit.
        low: lowest possible value; None: unbounded.
        high: highest possible value; None: unbounded.
        better: which values are better: higher ones, lower ones, or those closer to `target`.
        target: the best value where `better` is "closer".
        digits: digits after the point when it is shown.
        requires: what the task must have: an event (two classes), a utility for each alarm, scores that are
            probabilities, examples that stand for time, or an onset of the event.
        judges: what it rests on: decisions at a threshold, the ranking of examples, or their probabilities.
        selectable: whether `evaluation.metric` accepts it; such metrics are computed on validation patients each round.
        class_metric: the per-class metric of which this is the value for one class of a task of two classes.
        class_index: which class that is: -1 the event, 0 the other.
        slow: left out where speed matters more (resampled groups of patients).
        basis: the patients whose number limits its precision: all; those with the class; those without it; the fewer of
            the two; those for which the class is predicted; those with an onset. For a mean over classes: its smallest
            class.
        inflated: whether resampling inflates it, as it does a mean of absolute deviations: its interval is reflected
            (common/metrics/intervals.py).
        needs_order: whether its resampled values need the order of scores within a bin: no interval where score bins
            are too coarse for it (common/metrics/resampling.py).
    """

    name: str
    title: str
    compute: Callable[[CountStatistics], Floats] | None = None
    unit: str = ""
    low: float | None = 0.0
    high: float | None = 1.0
    better: Literal["higher", "lower", "closer"] = "higher"
    target: float = 0.0
    digits: int = 3
    requires: Requirement = "nothing"
    judges: Literal["decisions", "ranking", "probabilities"] = "decisions"
    selectable: bool = False
    class_metric: str | None = None
    class_index: int = -1
    slow: bool = False
    basis: Basis = "all"
    inflated: bool = False
    needs_order: bool = False

    def badness(self, value: float) -> float:
        """Return a number that increases as the value gets worse."""
        if self.better == "closer":
            return abs(value - self.target)
        return value if self.better == "lower" else -value

    def is_better(self, value: float, other: float) -> bool:
        """Return whether a value is better than another.

        >>> METRICS["auroc"].is_better(0.9, 0.8), METRICS["loss"].is_better(0.9, 0.8)
        (True, False)
        """
        return self.badness(value) < self.badness(other)

    def worst(self, values: Iterable[float]) -> float | None:
        """Return the worst of several values, None if there are none."""
        return max(values, key=self.badness, default=None)

    def format(self, value: float) -> str:
        """Return a value as text.

        >>> METRICS["auroc"].format(0.91342)
        '0.913'
        """
        return f"{value:.{self.digits}f}"


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _by_name(
    Metric("macro_f1", "macro-F1", lambda s: s.macro(s.f1), selectable=True, basis="class"),
    Metric(
        "macro_auroc",
        "macro-AUROC",
        lambda s: s.macro_ranking(s.auroc),
        judges="ranking",
        selectable=True,
        basis="fewer",
        needs_order=True,
    ),
    Metric(
        "macro_auprc",
        "macro-AUPRC",
        lambda s: s.macro_ranking(s.auprc),
        judges="ranking",
        selectable=True,
        basis="fewer",
        needs_order=True,
    ),
    Metric("auroc", "AUROC", requires="event", judges="ranking", selectable=True, class_metric="auroc"),
    Metric("auprc", "AUPRC", requires="event", judges="ranking", selectable=True, class_metric="auprc"),
    Metric("utility", "utility", lambda s: s.utility, low=None, requires="utility", selectable=True),
    Metric("sensitivity", "sensitivity", requires="event", class_metric="recall"),
    Metric("specificity", "specificity", requires="event", class_metric="recall", class_index=0),
    Metric("ppv", "positive predictive value", requires="event", class_metric="precision"),
    Metric("accuracy", "accuracy", lambda s: s.accuracy, selectable=True),
    Metric(
        "loss",
        "loss",
        lambda s: s.loss,
        unit="nats",
        high=None,
        better="lower",
        judges="probabilities",
        selectable=True,
    ),
    Metric(
        "brier",
        "Brier score",
        lambda s: s.brier.sum(-1),
        high=2.0,  # the sum over several classes
        better="lower",
        requires="probabilities",
        judges="probabilities",
    ),
    Metric(
        "ece",
        "expected calibration error",
        lambda s: s.ece.mean(-1),
        better="lower",
        requires="probabilities",
        judges="probabilities",
        inflated=True,
    ),
    Metric(
        "slope",
        "calibration slope",
        low=None,
        high=None,
        better="closer",
        target=1.0,
        requires="event",
        judges="probabilities",
        class_metric="slope",
    ),
    Metric(
        "intercept",
        "calibration intercept",
        unit="log odds",
        low=None,
        high=None,
        better="closer",
        requires="event",
        judges="probabilities",
        class_metric="intercept",
    ),
    Metric(
        "alarms_per_day",
        "alarms a patient-day",
        unit="per patient-day",
        high=None,
        better="lower",
        requires="event",
        class_metric="alarms_per_day",
    ),
    Metric(
        "false_per_hour",
        "false alarms an hour",
        unit="per hour",
        high=None,
        better="lower",
        requires="event",
        class_metric="false_per_hour",
    ),
    Metric("warned", "patients warned", lambda s: s.warned, requires="onset", basis="onset"),
    Metric(
        "lead_hours",
        "median lead time (hours)",
        lambda s: s.lead_hours,
        unit="hours",
        high=None,
        requires="onset",
        basis="onset",
    ),
)
"""Metrics of one value, by name."""

CLASS_METRICS = _by_name(
    Metric("precision", "precision", lambda s: s.precision, basis="predicted"),
    Metric("recall", "recall", lambda s: s.recall, basis="class"),
    Metric("f1", "F1", lambda s: s.f1, basis="class"),
    Metric("auroc", "AUROC", lambda s: s.auroc, judges="ranking", basis="fewer", needs_order=True),
    Metric("auprc", "AUPRC", lambda s: s.auprc, judges="ranking", basis="fewer", needs_order=True),
)
"""Metrics of each class, by name; fields of common.metrics.figures.ClassFigures."""


def _calibration(
    name: str,
    title: str,
    compute: Callable[[CountStatistics], Floats],
    unit: str = "",
    target: float | None = None,
    slow: bool = True,
    **more: Any,
) -> Metric:
    """Return a calibration metric: if it is unbounded, values closer to `target` are better, else lower ones."""
    bounds: tuple[float | None, float | None] = (0.0, 1.0) if target is None else (None, None)
    return Metric(
        name,
        title,
        compute,
        unit=unit,
        low=bounds[0],
        high=bounds[1],
        better="lower" if target is None else "closer",
        target=target or 0.0,
        requires="probabilities",
        judges="probabilities",
        slow=slow,
        **more,
    )


CALIBRATION_METRICS = _by_name(
    _calibration("brier", "Brier score", lambda s: s.brier, slow=False),
    _calibration("ece", "expected calibration error", lambda s: s.ece, slow=False, inflated=True),
    _calibration("ece_mass", "expected calibration error, groups of equal size", lambda s: s.ece_mass, inflated=True),
    _calibration(
        "slope",
        "calibration slope",
        lambda s: s.calibration_line[0],
        target=1.0,
        basis="fewer",
        needs_order=True,
    ),
    _calibration(
        "intercept",
        "calibration intercept",
        lambda s: s.calibration_line[1],
        "log odds",
        0.0,
        basis="fewer",
        needs_order=True,
    ),
    _calibration(
        "large",
        "calibration in the large",
        lambda s: s.calibration_in_the_large,
        "log odds",
        0.0,
        basis="fewer",
    ),
)
"""Calibration of each class whose probabilities are judged, by name; fields of common.metrics.figures.Calibration."""

ALARM_METRICS = _by_name(
    Metric(
        "alarms_per_day",
        "alarms a patient-day",
        lambda s: s.alarms_per_day,
        unit="per patient-day",
        high=None,
        better="lower",
        requires="time",
    ),
    Metric(
        "false_per_hour",
        "false alarms an hour",
        lambda s: s.false_per_hour,
        unit="per hour",
        high=None,
        better="lower",
        requires="time",
        basis="others",
    ),
)
"""Alarm rates of each class that may alarm, by name; fields of common.metrics.figures.Alarms."""


def find_metric(name: str) -> Metric | None:
    """Return the metric of a name in `ResampledFigures`, where those of each class start with `class_`; None: a curve.

    >>> find_metric("class_ece").title, find_metric("group_observed")
    ('expected calibration error', None)
    """
    if name.startswith("class_"):
        return (CLASS_METRICS | CALIBRATION_METRICS | ALARM_METRICS).get(name.removeprefix("class_"))
    return METRICS.get(name)


METRICS |= find_installed_metrics(Metric, METRICS)
SELECTABLE = tuple(metric.name for metric in METRICS.values() if metric.selectable)
"""Names of the metrics that `evaluation.metric` accepts."""

if TYPE_CHECKING:
    SelectableMetric = str
else:
    SelectableMetric = Literal[SELECTABLE]
    """The type of `evaluation.metric`; the type checker cannot read choices that are computed."""
