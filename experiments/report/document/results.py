"""The report's results of one model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.metrics.figures import Evaluation, Figure, FrozenModel, Recalibration


class Subset(FrozenModel):
    """A model's figures by hospital and over all hospitals' patients.

    `suppressed`: hospitals that tell none, for fewer than so many patients.
    """

    sites: dict[str, Evaluation] = Field(default_factory=dict)
    pooled: Evaluation | None = None
    suppressed: dict[str, int] = Field(default_factory=dict)


class WorstSite(FrozenModel):
    """The hospital where a model does worst, by one metric."""

    site: str
    metric: str
    value: float


class ModelDifference(FrozenModel):
    """What the federated model has more of a figure than another `model` on a hospital's test patients.

    `site`: a hospital, or `(pooled)`. `figure`: with a paired interval, both models resampled together; `note`: why
    there is no interval.
    """

    model: str
    site: str
    metric: str
    patients: int
    figure: Figure
    note: str = ""


class GroupGap(FrozenModel):
    """What lies between groups of patients of one attribute, at a hospital or `(pooled)`.

    `lowest`, `highest`: the groups with the least and the greatest value; `difference`, `ratio`: between them;
    `left_out`: groups of too few patients to compare.
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


class ModelResult(Subset):
    """One model on test patients.

    `name`: federated, pooled, local:SITE, or another's; `without`: patients left out; `against`: normal examples and
    one abnormal class alone; `groups`: of patients (`sex=female`), by attribute, and `gaps` between them; `threshold`:
    the log odds from which on the event is called, chosen on validation patients, none: the likelier class;
    `recalibrated`: by method, its figures after each hospital recalibrated it on its validation patients;
    `recalibration`: by hospital.
    """

    name: str
    title: str
    kind: Literal["federated", "pooled", "local", "personal", "classical", "classical-local"]
    trained_at: str | None = None
    without: dict[str, Subset] = Field(default_factory=dict)
    against: dict[str, Subset] = Field(default_factory=dict)
    groups: dict[str, dict[str, Subset]] = Field(default_factory=dict)
    gaps: tuple[GroupGap, ...] = ()
    worst: WorstSite | None = None
    threshold: float | None = None
    recalibrated: dict[str, Subset] = Field(default_factory=dict)
    recalibration: dict[str, Recalibration] = Field(default_factory=dict)
