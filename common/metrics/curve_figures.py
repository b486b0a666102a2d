"""Parts of an evaluation that describe a class's scores: intervals, calibration, and points of curves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """Base of the parts of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(FrozenModel):
    """A value and its 95% interval.

    Attributes:
        value: None where it cannot be computed.
        low: lower end of the interval; None without one.
        high: upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


class ReliabilityGroup(FrozenModel):
    """Examples of similar scores in a reliability diagram.

    Attributes:
        low: lowest log odds of the group; None: unbounded.
        high: highest log odds; None: unbounded.
        examples: number of examples.
        events: how many of them have the class.
        patients: patients with at least one of the examples; None where that is unknown.
        predicted: mean predicted probability.
        observed: share of the examples that have the class.
    """

    low: float | None
    high: float | None
    examples: int
    events: int
    patients: int | None
    predicted: float | None
    observed: Figure


class NetBenefit(FrozenModel):
    """One threshold of a decision curve; benefits in true positives per example; treating no one has benefit 0.

    Attributes:
        probability: the threshold: examples whose probability is at least this are treated.
        value: net benefit of treating these examples.
        treat_all: net benefit of treating every example.
    """

    probability: float
    value: Figure
    treat_all: float | None


class CurvePoint(FrozenModel):
    """One threshold of the ROC curve and of the precision-recall curve, over all hospitals.

    Attributes:
        log_odds: the threshold.
        sensitivity: share of the examples with the class that are at or above it.
        specificity: share of the examples without the class that are below it.
        precision: share of the examples at or above it that have the class.
    """

    log_odds: float
    sensitivity: Figure
    specificity: Figure
    precision: Figure


class Calibration(FrozenModel):
    """How well a class's scores can be read as probabilities (common/metrics/calibration.py).

    Attributes:
        brier: Brier score.
        ece: expected calibration error over groups of equal width.
        ece_mass: expected calibration error over groups of equal size.
        slope: slope of the logistic recalibration, 1 at best.
        intercept: its intercept, 0 at best.
        large: the intercept at slope 1 (calibration in the large).
        groups: the reliability diagram, if it was computed.
        curve: the decision curve, if it was computed.
        points: the ROC and the precision-recall curve over all hospitals, if they were computed.
    """

    brier: Figure
    ece: Figure
    ece_mass: Figure
    slope: Figure
    intercept: Figure
    large: Figure
    groups: tuple[ReliabilityGroup, ...] = ()
    curve: tuple[NetBenefit, ...] = ()
    points: tuple[CurvePoint, ...] = ()


class OperatingPoint(FrozenModel):
    """Two points of the ROC curve.

    Attributes:
        at: the given specificity, or sensitivity.
        sensitivity: sensitivity at that specificity.
        specificity: specificity at that sensitivity.
    """

    at: float
    sensitivity: Figure
    specificity: Figure
