"""Results of models in the report."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.metrics.figures import Evaluation, Figure, FrozenModel, Recalibration


class Subset(FrozenModel):
    """A model's results on a subset of the patients.

    Attributes:
        sites: results at each hospital.
        pooled: results on the patients of all hospitals together.
        suppressed: hospitals that report none, with the minimum number of patients that they require.
    """

    sites: dict[str, Evaluation] = Field(default_factory=dict)
    pooled: Evaluation | None = None
    suppressed: dict[str, int] = Field(default_factory=dict)


class WorstSite(FrozenModel):
    """The hospital where a model performs worst.

    Attributes:
        site: the hospital.
        metric: the metric by which it is the worst.
        value: the metric's value there.
    """

    site: str
    metric: str
    value: float


class ModelDifference(FrozenModel):
    """The federated model minus another model, on the same test patients.

    Attributes:
        model: name of the other model.
        site: a hospital, or `(pooled)`.
        metric: the metric compared.
        patients: number of test patients.
        figure: the difference; its interval is paired: both models are evaluated on the same resamples.
        note: why there is no interval; empty if there is one.
    """

    model: str
    site: str
    metric: str
    patients: int
    figure: Figure
    note: str = ""


class GroupGap(FrozenModel):
    """The difference between the groups of patients with the highest and the lowest value.

    Attributes:
        attribute: what the patients are grouped by.
        site: a hospital, or `(pooled)`.
        metric: the metric compared.
        overall: its value on all patients.
        lowest: the group with the lowest value.
        highest: the group with the highest value.
        difference: highest minus lowest.
        ratio: lowest divided by highest.
        left_out: groups with too few patients to compare.
        pairs: number of pairs of groups from which these two were chosen as the extreme ones; None in reports whose
            intervals were computed for the extreme groups of each resample.
    """

    attribute: str
    site: str
    metric: str
    overall: Figure
    lowest: str
    highest: str
    difference: Figure
    ratio: Figure
    left_out: tuple[str, ...] = ()
    pairs: int | None = None


class ReferenceGap(FrozenModel):
    """The difference of a group of patients from the reference group, over all hospitals.

    Attributes:
        attribute: what the patients are grouped by.
        group: the group.
        reference: the group with the most patients.
        metric: the metric compared.
        value: its value in the group.
        reference_value: its value in the reference group.
        difference: group minus reference.
        patients: patients behind the metric in the smaller of both groups.
    """

    attribute: str
    group: str
    reference: str
    metric: str
    value: Figure
    reference_value: Figure
    difference: Figure
    patients: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and not low <= 0 <= high


class Outcomes(FrozenModel):
    """Test examples, and how many of them are of the event.

    Attributes:
        patients: patients who have such examples.
        examples: their number.
        events: those of the event.
    """

    patients: int
    examples: int
    events: int


class WhereKnown(FrozenModel):
    """The federated model on the test examples for which a score that is used today is known, and who the others are.

    Attributes:
        known: the examples with the score.
        unknown: the examples without.
        rate_difference: share of the event without the score minus that with it; its interval is over patients.
        federated: results of the federated model where the score is known.
        federated_elsewhere: results of the federated model where it is unknown.
    """

    known: Outcomes
    unknown: Outcomes
    rate_difference: Figure
    federated: Subset = Subset()
    federated_elsewhere: Subset = Subset()


class ModelResult(Subset):
    """One model on test patients.

    Attributes:
        name: federated, pooled, local:SITE, or the name of another model.
        title: its name for readers.
        kind: how it was trained.
        trained_at: the hospital where a local model was trained; None for other models.
        without: results with selected patients excluded, by label.
        against: results on normal examples and one abnormal class alone, by class.
        groups: results in groups of patients, by attribute and group.
        gaps: differences between the groups with the extreme values.
        reference_gaps: differences of each group from the largest.
        worst: the hospital where the model performs worst.
        threshold: log odds from which the event is predicted, chosen on validation patients; None: the likelier class.
        recalibrated: results after each hospital recalibrated the model on its validation patients, by method.
        recalibration: what recalibration changed, by hospital.
        unknown: test examples for which a score that is used today is not known; it is tested on the others.
        where_known: the federated model on those others; None: the score is known for all, or was not compared so.
    """

    name: str
    title: str
    kind: Literal["federated", "pooled", "local", "personal", "classical", "classical-local"]
    trained_at: str | None = None
    without: dict[str, Subset] = Field(default_factory=dict)
    against: dict[str, Subset] = Field(default_factory=dict)
    groups: dict[str, dict[str, Subset]] = Field(default_factory=dict)
    gaps: tuple[GroupGap, ...] = ()
    reference_gaps: tuple[ReferenceGap, ...] = ()
    worst: WorstSite | None = None
    threshold: float | None = None
    recalibrated: dict[str, Subset] = Field(default_factory=dict)
    recalibration: dict[str, Recalibration] = Field(default_factory=dict)
    unknown: int = 0
    where_known: WhereKnown | None = None
