"""The parts of an evaluation: values with their 95% intervals (common/metrics/intervals.py), as reports hold them."""

from __future__ import annotations

from pydantic import ConfigDict, Field, model_validator

from common.metrics.curve_figures import Calibration as Calibration
from common.metrics.curve_figures import CurvePoint as CurvePoint
from common.metrics.curve_figures import Figure as Figure
from common.metrics.curve_figures import FrozenModel as FrozenModel
from common.metrics.curve_figures import NetBenefit as NetBenefit
from common.metrics.curve_figures import OperatingPoint as OperatingPoint
from common.metrics.curve_figures import ReliabilityGroup as ReliabilityGroup
from common.metrics.registry import METRICS

FEW_PATIENTS = 5
"""Figures from fewer patients than this are marked wherever they are shown."""


class Alarms(FrozenModel):
    """How often a class is called where examples stand for time.

    Attributes:
        hours: hours of all examples.
        per_day: alarms a patient-day.
        false_per_hour: false alarms an hour without the class.
    """

    hours: float
    per_day: Figure
    false_per_hour: Figure


class LeadTimes(FrozenModel):
    """How long before the event patients were first warned (common/metrics/early_warning.py).

    Attributes:
        patients: patients with the event.
        warned: share of them who were warned.
        hours: median lead time of those, in hours.
        histogram: how many were first warned 0, 1, ... full hours before.
    """

    patients: int
    warned: Figure
    hours: Figure
    histogram: tuple[int, ...]


class ClassFigures(FrozenModel):
    """One class against the rest.

    Attributes:
        examples: examples of the class.
        patients: patients with at least one example of it.
        precision: positive predictive value.
        recall: sensitivity.
        f1: harmonic mean of precision and recall.
        auroc: area under the ROC curve.
        auprc: average precision.
        calibration: calibration of the predicted probability. With two classes only the second, the event, has one.
        operating: points of the ROC curve, for the same classes as `calibration`.
        alarms: alarm rates, for the same classes; None: examples have no duration.
    """

    examples: int
    patients: int
    precision: Figure
    recall: Figure
    f1: Figure
    auroc: Figure
    auprc: Figure
    calibration: Calibration | None = None
    operating: tuple[OperatingPoint, ...] = ()
    alarms: Alarms | None = None


class EvaluationNoise(FrozenModel):
    """The noise in an evaluation's counts, which gives the evaluated people differential privacy.

    Attributes:
        epsilon: epsilon that this run charged for these people, the largest over sites; None: infinite.
        delta: delta of that epsilon.
        deviation: standard deviation of the noise on a cell of the confusion matrix, in people.
        private: false where the noise can be repeated and therefore removed.
    """

    epsilon: float | None
    delta: float
    deviation: float = 0.0
    private: bool = True


class Evaluation(FrozenModel):
    """A model's metrics on a set of patients.

    A metric of common/metrics/registry.py that has no field here is a further key with the metric's name.

    Attributes:
        patients: number of patients.
        examples: number of examples.
        resamples: bootstrap resamples behind the intervals.
        confusion: rows truth, columns prediction, in class order; multilabel: for each class a row of its true
            negatives, false positives, false negatives and true positives.
        accuracy: share of examples predicted right.
        macro_f1: mean F1 over classes.
        macro_auroc: mean AUROC over classes.
        macro_auprc: mean average precision over classes.
        loss: mean negative log likelihood, in nats; of an anomaly score the mean reconstruction error of normal
            examples.
        classes: figures of each class by name, in class order.
        notes: sentences that limit what the figures say.
        threshold: log odds at or above which the event was predicted; None: the likelier class.
        utility: normalised utility, where the task defines one.
        brier: Brier score of the event, or summed over classes.
        ece: expected calibration error of the event, or its mean over classes.
        lead: lead times, where the event has an onset.
        suppressed: classes withheld because too few patients have them, with the hospital's minimum of patients.
        noise: where evaluation is private: examples are then people, each of whom counts once; None: no noise.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Figure] = Field(init=False)

    patients: int
    examples: int
    resamples: int
    confusion: tuple[tuple[int, ...], ...]
    accuracy: Figure
    macro_f1: Figure
    macro_auroc: Figure
    macro_auprc: Figure
    loss: Figure
    classes: dict[str, ClassFigures]
    notes: tuple[str, ...] = ()
    threshold: float | None = None
    utility: Figure | None = None
    brier: Figure | None = None
    ece: Figure | None = None
    lead: LeadTimes | None = None
    suppressed: dict[str, int] = Field(default_factory=dict)
    noise: EvaluationNoise | None = None

    @model_validator(mode="after")
    def _check_extra(self) -> Evaluation:
        if unknown := sorted(name for name in self.__pydantic_extra__ if name not in METRICS or is_derived(name)):
            raise ValueError(f"unknown metric {unknown[0]}")
        return self

    def figure(self, metric: str) -> Figure | None:
        """Return a metric of the registry by name, None where these patients or this task have no such metric."""
        figure = getattr(self, metric, None)
        return figure if isinstance(figure, Figure) else None

    @property
    def binary(self) -> bool:
        """Whether there is one event, the second of two classes."""
        return [len(row) for row in self.confusion] == [2, 2]

    @property
    def auroc(self) -> Figure | None:
        """AUROC of the event, the same as that of the other class; None unless the task has exactly two classes."""
        return self._class_at(-1).auroc if self.binary else None

    @property
    def auprc(self) -> Figure | None:
        """Average precision of the event."""
        return self._class_at(-1).auprc if self.binary else None

    @property
    def sensitivity(self) -> Figure | None:
        """Recall of the event."""
        return self._class_at(-1).recall if self.binary else None

    @property
    def specificity(self) -> Figure | None:
        """Recall of the class that is not the event."""
        return self._class_at(0).recall if self.binary else None

    @property
    def ppv(self) -> Figure | None:
        """Precision of the event, the positive predictive value."""
        return self._class_at(-1).precision if self.binary else None

    @property
    def slope(self) -> Figure | None:
        """Calibration slope of the event."""
        calibration = self._class_at(-1).calibration if self.binary else None
        return calibration.slope if calibration else None

    @property
    def intercept(self) -> Figure | None:
        """Calibration intercept of the event."""
        calibration = self._class_at(-1).calibration if self.binary else None
        return calibration.intercept if calibration else None

    @property
    def alarms_per_day(self) -> Figure | None:
        """Number of alarms for the event per patient-day."""
        alarms = self._class_at(-1).alarms if self.binary else None
        return alarms.per_day if alarms else None

    @property
    def false_per_hour(self) -> Figure | None:
        """Number of false alarms for the event per hour without the event."""
        alarms = self._class_at(-1).alarms if self.binary else None
        return alarms.false_per_hour if alarms else None

    @property
    def warned(self) -> Figure | None:
        """Share of the patients with the event who were warned of it."""
        return self.lead.warned if self.lead else None

    @property
    def lead_hours(self) -> Figure | None:
        """Median hours from the first warning to the event."""
        return self.lead.hours if self.lead else None

    def _class_at(self, position: int) -> ClassFigures:
        return list(self.classes.values())[position]


def is_derived(metric: str) -> bool:
    """Return whether a metric is read from another part of an Evaluation, and so has no separate key."""
    return isinstance(getattr(Evaluation, metric, None), property)


class RecalibrationEffect(FrozenModel):
    """One recalibration method at one site.

    Attributes:
        threshold: log odds at or above which the event is predicted after recalibration.
        difference: paired difference of each metric, recalibrated minus original model.
    """

    threshold: float | None = None
    difference: dict[str, Figure] = Field(default_factory=dict)


class Recalibration(FrozenModel):
    """What recalibration recovers at a site.

    Attributes:
        patients: validation patients that the methods were fitted on.
        methods: effect by method.
        reason: why nothing was recalibrated, or empty.
    """

    patients: int
    methods: dict[str, RecalibrationEffect] = Field(default_factory=dict)
    reason: str = ""
