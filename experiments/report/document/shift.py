"""Comparisons of hospitals in the report: domain shift, transfer, hospitals left out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.metrics.figures import Evaluation, Figure, FrozenModel


class ColumnShift(FrozenModel):
    """One column of two hospitals.

    Attributes:
        name: name of the column.
        psi: population stability index.
        ks: Kolmogorov-Smirnov statistic.
        suppressed: number of histogram cells that a hospital suppressed.
    """

    name: str
    psi: float | None
    ks: float | None
    suppressed: int = 0


class PairShift(FrozenModel):
    """How much the training patients of two hospitals differ (common/distance.py); None: not computable.

    Attributes:
        one: the first hospital.
        other: the second hospital.
        label_distance: Jensen-Shannon distance of the class proportions.
        label_association: Cramér's V of hospital and class.
        mmd: squared maximum mean discrepancy of the inputs, unbiased.
        lda_auroc: AUROC of a linear discriminant between the hospitals.
        psi_median: median population stability index over the columns.
        psi_large: number of columns with a PSI over 0.25.
        columns: the columns that differ most.
        suppressed: number of suppressed cells over all columns.
    """

    one: str
    other: str
    label_distance: float | None
    label_association: float | None
    mmd: float | None
    lda_auroc: float | None
    psi_median: float | None
    psi_large: int
    columns: tuple[ColumnShift, ...] = ()
    suppressed: int = 0


class TwoSample(FrozenModel):
    """A classifier two-sample test of two hospitals, in simulation (experiments/baselines/two_sample_test.py).

    Attributes:
        one: the first hospital.
        other: the second hospital.
        auroc: AUROC of a tree ensemble between the hospitals, on patients that it was not trained on.
        null_range: between which AUROCs 95% lie if the people of the two hospitals do not differ; None: not known.
    """

    one: str
    other: str
    auroc: Figure | None
    null_range: tuple[float, float] | None = None


class ColumnDescription(FrozenModel):
    """One input of a hospital's training patients, from what it sent to be compared; None: of few people, or unknown.

    Attributes:
        name: name of the input.
        measured: number of patients with a value; None also where patients have several examples.
        missing: number of patients without a value, likewise.
        missing_share: share of examples without a value.
        mean: mean of the values.
        deviation: their standard deviation.
        quartiles: lower quartile, median and upper quartile, rounded to about the width of a histogram's bin.
        yes_no: whether the input is yes or no.
        yes: number of patients with yes; None also where patients have several examples.
        yes_share: share of measured examples with yes.
    """

    name: str
    measured: int | None = None
    missing: int | None = None
    missing_share: float | None = None
    mean: float | None = None
    deviation: float | None = None
    quartiles: tuple[float, float, float] | None = None
    yes_no: bool = False
    yes: int | None = None
    yes_share: float | None = None


class SiteColumns(FrozenModel):
    """The inputs of one hospital's training patients.

    Attributes:
        patients: number of training patients.
        examples: number of training examples.
        columns: the inputs.
    """

    patients: int
    examples: int
    columns: tuple[ColumnDescription, ...]


class Shift(FrozenModel):
    """How much the data of the hospitals differ.

    Attributes:
        pairs: each pair of hospitals.
        two_sample: classifier two-sample tests, if requested.
        shares: class proportions at each hospital.
        columns: number of columns compared.
        sites: each hospital's inputs.
        lost: hospitals that were not compared, and why.
    """

    pairs: tuple[PairShift, ...]
    two_sample: tuple[TwoSample, ...] = ()
    shares: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    columns: int = 0
    sites: dict[str, SiteColumns] = Field(default_factory=dict)
    lost: dict[str, str] = Field(default_factory=dict)

    def format_null_range(self, one: str, other: str) -> str:
        """Return the AUROCs that chance gives between two hospitals, as `0.10 to 0.90`, or "" if not known."""
        limits = next((item.null_range for item in self.two_sample if {item.one, item.other} == {one, other}), None)
        return f"{limits[0]:.2f} to {limits[1]:.2f}" if limits else ""

    def exact(self, one: str, other: str) -> Figure | None:
        """Return the AUROC of the tree ensemble between two hospitals; None if it was not requested."""
        return next((item.auroc for item in self.two_sample if {item.one, item.other} == {one, other}), None)

    @property
    def hidden(self) -> int:
        """Number of suppressed cells over all pairs."""
        return sum(item.suppressed for item in self.pairs)


class TransferResult(FrozenModel):
    """A local model tested at another hospital, and why it performs worse there (experiments/baselines/transfer.py).

    Attributes:
        family: kind of model.
        trained: hospital where the model was trained.
        tested: hospital where it is tested.
        ranking: metric of the ranking.
        decision: metric of the decisions at the threshold.
        recalibration: method that made the local threshold; empty if there was none.
        home: both metrics of the model where it was trained.
        away: both metrics of the model where it is tested.
        recalibrated: both metrics where it is tested, with a local threshold.
        own: both metrics of the tested hospital's own model there.
        ranking_difference: ranking, away minus own.
        decision_difference: decision, away minus own.
        recovered: decision, recalibrated minus away.
        cause: what explains the difference.
        verdict: the result as sentences.
    """

    family: str
    trained: str
    tested: str
    ranking: str
    decision: str
    recalibration: str = ""
    home: dict[str, Figure] | None = None
    away: dict[str, Figure]
    recalibrated: dict[str, Figure] | None = None
    own: dict[str, Figure]
    ranking_difference: Figure
    decision_difference: Figure
    recovered: Figure | None = None
    cause: Literal["ranking", "threshold", "both", "neither", "unknown"]
    verdict: str


class LeftOutSite(FrozenModel):
    """A hospital that was left out in turn, and two models on its test patients.

    Attributes:
        site: the hospital.
        internal: results of the model trained with the hospital.
        external: results of the model trained without it.
        difference: external minus internal by metric, with paired intervals.
        transfer: why the results differ, with the internal model in the role of the hospital's own.
    """

    site: str
    internal: Evaluation | None = None
    external: Evaluation | None = None
    difference: dict[str, Figure] = Field(default_factory=dict)
    transfer: TransferResult | None = None
