"""Figures with their 95% intervals: the parts of an evaluation, and the resampled values intervals are read off.

Intervals are percentile bootstraps over patients (Efron and Tibshirani 1993, ch. 13), because beats of one
person are not independent, with the percentiles moved outwards for few patients (Hesterberg 2015, The American
Statistician 69(4):371-386, sec. 4.2.1): a plain percentile interval of n patients is as much too narrow as a normal
one with the variance's divisor n in place of Student's with n - 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import special

Floats = npt.NDArray[np.float64]

FEW_PATIENTS = 5
"""A figure that rests on fewer patients than this is marked wherever it is shown."""


class FrozenModel(BaseModel):
    """Base of the report's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(FrozenModel):
    """A figure and its 95% interval; None where it cannot be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ReliabilityGroup(FrozenModel):
    """Examples of like scores in a reliability diagram, `low` to `high` log odds (None: open).

    `patients`: that have one of the examples, None where it is not known; `predicted`: their mean chance;
    `observed`: the share of them that had the class.
    """

    low: float | None
    high: float | None
    examples: int
    events: int
    patients: int | None
    predicted: float | None
    observed: Figure


class NetBenefit(FrozenModel):
    """One threshold of a decision curve: what calling the class from this chance on is worth, `treat_all` calling all.

    In true positives an example; calling none is worth 0.
    """

    chance: float
    value: Figure
    treat_all: float | None


class Calibration(FrozenModel):
    """How far a class's scores can be read as chances (common/metrics/calibration.py).

    `ece`, `ece_mass`: expected calibration error over groups of equal width, of equal size; `slope`, `intercept`:
    logistic recalibration, 1 and 0 at best; `large`: the intercept at slope 1. `groups`, `curve`: the reliability
    diagram and the decision curve, where they were asked for.
    """

    brier: Figure
    ece: Figure
    ece_mass: Figure
    slope: Figure
    intercept: Figure
    large: Figure
    groups: tuple[ReliabilityGroup, ...] = ()
    curve: tuple[NetBenefit, ...] = ()


class OperatingPoint(FrozenModel):
    """A point of the ROC curve: the sensitivity where the specificity is `at`, and the reverse."""

    at: float
    sensitivity: Figure
    specificity: Figure


class Alarms(FrozenModel):
    """How often a class is called where examples stand for time.

    `hours`: of all examples; `per_day`: calls a patient-day; `false_per_hour`: wrong calls an hour without the class.
    """

    hours: float
    per_day: Figure
    false_per_hour: Figure


class LeadTimes(FrozenModel):
    """How long before the event patients were warned (common/metrics/early_warning.py).

    `patients`: with the event; `warned`: the share of them; `hours`: the median lead of those; `histogram`: how many
    were first warned 0, 1, ... full hours before.
    """

    patients: int
    warned: Figure
    hours: Figure
    histogram: tuple[int, ...]


class ClassFigures(FrozenModel):
    """One class against the rest; of two classes only the second, the event, has what follows `auprc`."""

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


class Evaluation(FrozenModel):
    """A model's figures on some patients.

    `confusion`: rows truth, columns prediction, in class order; multilabel: a row for each class, of its true
    negatives, false positives, false negatives, true positives. `threshold`: the log odds from which on the
    event was called, none: the likelier class. `utility`: normalised (common/metrics/counts.py), where the task has it.
    `brier`: of the event, or summed over classes; `ece`: of the event, or the mean over classes. `loss`: mean negative
    log likelihood; of an anomaly score the mean reconstruction error of what is normal. `suppressed`: classes that too
    few patients have to be told, with the least that the hospital tells.
    """

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

    @property
    def binary(self) -> bool:
        """Whether there is one event, the second of two classes."""
        return [len(row) for row in self.confusion] == [2, 2]

    @property
    def auroc(self) -> Figure | None:
        """The event's AUROC, which is the other class's too."""
        return self._of(1).auroc if self.binary else None

    @property
    def auprc(self) -> Figure | None:
        """The event's average precision."""
        return self._of(1).auprc if self.binary else None

    @property
    def sensitivity(self) -> Figure | None:
        """The event's recall."""
        return self._of(1).recall if self.binary else None

    @property
    def specificity(self) -> Figure | None:
        """The other class's recall."""
        return self._of(0).recall if self.binary else None

    @property
    def ppv(self) -> Figure | None:
        """The event's precision, the positive predictive value."""
        return self._of(1).precision if self.binary else None

    @property
    def slope(self) -> Figure | None:
        """The event's calibration slope."""
        found = self._of(1).calibration if self.binary else None
        return found.slope if found else None

    @property
    def intercept(self) -> Figure | None:
        """The event's calibration intercept."""
        found = self._of(1).calibration if self.binary else None
        return found.intercept if found else None

    @property
    def alarms_per_day(self) -> Figure | None:
        """How often the event is called in a patient-day."""
        found = self._of(1).alarms if self.binary else None
        return found.per_day if found else None

    @property
    def false_per_hour(self) -> Figure | None:
        """How often the event is called wrongly in an hour without it."""
        found = self._of(1).alarms if self.binary else None
        return found.false_per_hour if found else None

    @property
    def warned(self) -> Figure | None:
        """The share of patients with the event who were warned of it."""
        return self.lead.warned if self.lead else None

    @property
    def lead_hours(self) -> Figure | None:
        """The median hours from the first alarm to the event."""
        return self.lead.hours if self.lead else None

    def _of(self, place: int) -> ClassFigures:
        return list(self.classes.values())[place]


class MeanSignal(FrozenModel):
    """A class's mean signal and the mean importance of each sample, `(channels, samples)`, over so many patients."""

    patients: int
    signal: tuple[tuple[float, ...], ...]
    importance: tuple[tuple[float, ...], ...]


class Explanation(FrozenModel):
    """Which inputs move a model's score at a site, as means of |attribution| over patients
    (client/evaluation/attribution.py).
    """

    method: str
    patients: int
    features: dict[str, float] = {}
    channels: dict[str, float] = {}
    classes: dict[str, MeanSignal] = {}
    suppressed: tuple[str, ...] = ()


class RecalibrationEffect(FrozenModel):
    """One recalibration at one site: the threshold after it (log odds), and how much more it has of each figure."""

    threshold: float | None = None
    difference: dict[str, Figure] = {}


class Recalibration(FrozenModel):
    """What recalibration wins back at a site: by method, fitted on so many validation patients; or why none was."""

    patients: int
    methods: dict[str, RecalibrationEffect] = {}
    reason: str = ""


def tail_probability(patients: int) -> float:
    """Return the share of resamples below a 95% interval from so many patients, 0.025 for very many.

    Phi(-sqrt(n / (n - 1)) t), t the 97.5% point of Student's distribution with n - 1 degrees of freedom.

    >>> round(tail(10_000), 4), round(tail(20), 4), round(tail(5), 5)
    (0.025, 0.0159, 0.00095)
    """
    if patients < 2:
        return 0.0
    return float(special.ndtr(special.stdtrit(patients - 1, 0.025) * np.sqrt(patients / (patients - 1))))


def make_figure(value: float, sample: Floats | None, patients: int) -> Figure:
    """Return a figure with the interval of its resampled values.

    Args:
        value: the figure; NaN or infinite: there is none.
        sample: `(resamples,)`, NaN where a resample has none; None for no interval.
        patients: how many were resampled.
    """
    if not np.isfinite(value):
        return Figure(value=None)
    if sample is None:
        return Figure(value=float(value))
    known = sample[np.isfinite(sample)]
    if len(known) < max(2, len(sample) // 2):
        return Figure(value=float(value))
    alpha = tail_probability(patients)
    low, high = np.quantile(known, [alpha, 1 - alpha])
    return Figure(value=float(value), low=float(low), high=float(high))


@dataclass(frozen=True)
class ResampledFigures:
    """Figures by name, `(...)`, and their values in resamples of patients, `(resamples, ...)`."""

    values: Mapping[str, Floats]
    patients: int
    drawn: Mapping[str, Floats] = field(default_factory=dict)

    def figure(self, name: str, index: int | tuple[int, ...] | None = None) -> Figure:
        """Return one figure, of an array the one at `index`."""
        at = () if index is None else index
        sample = np.moveaxis(self.drawn[name], 0, -1)[at] if name in self.drawn else None
        return make_figure(float(self.values[name][at]), sample, self.patients)


def paired_difference(one: ResampledFigures, other: ResampledFigures, name: str) -> Figure:
    """Return how much more one model has of a figure than another, with a paired interval.

    Both were resampled with the same draws of the same patients, so that what makes patients hard for both
    cancels.

    Raises:
        ValueError: the resamples differ in number, so they are not the same draws.
    """
    first, second = one.drawn.get(name), other.drawn.get(name)
    if first is not None and second is not None and first.shape != second.shape:
        raise ValueError("the models were not resampled together")
    sample = None if first is None or second is None else first - second
    return make_figure(float(one.values[name] - other.values[name]), sample, one.patients)
