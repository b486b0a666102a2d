"""The report's comparison of hospitals: domain shift, transfer, hospitals left out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.metrics.figures import Evaluation, Figure, FrozenModel


class ColumnShift(FrozenModel):
    """A column of two hospitals: population stability index, KS, and the cells that a hospital suppressed."""

    name: str
    psi: float | None
    ks: float | None
    suppressed: int = 0


class PairShift(FrozenModel):
    """How far two hospitals' training patients lie apart (common/distance.py); `columns`: those farthest apart.

    `psi_large`: columns with a PSI over 0.25; `suppressed`: cells, over all columns.
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
    """How well trees tell two hospitals' patients apart, in simulation (experiments/baselines/two_sample_test.py)."""

    one: str
    other: str
    auroc: Figure | None


class Shift(FrozenModel):
    """How far the hospitals lie apart; `shares`: of classes at each; `lost`: who was not compared, and why."""

    pairs: tuple[PairShift, ...]
    two_sample: tuple[TwoSample, ...] = ()
    shares: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    columns: int = 0
    lost: dict[str, str] = Field(default_factory=dict)

    def exact(self, one: str, other: str) -> Figure | None:
        """Return how well trees tell two hospitals apart, if it was asked."""
        return next((item.auroc for item in self.two_sample if {item.one, item.other} == {one, other}), None)

    @property
    def hidden(self) -> int:
        """The cells that were suppressed."""
        return sum(item.suppressed for item in self.pairs)


class TransferResult(FrozenModel):
    """A model of one hospital at another, and why it does worse there, if it does (experiments/baselines/transfer.py).

    `family`: which kind of model; `ranking`, `decision`: the two figures, which `home` (where it was trained),
    `away` (here), `mended` (here with a threshold of the hospital's own, made by `mend`) and `own` (this hospital's
    own model here) give; `lost`: away minus own, of the ranking; `gap`: likewise of the decision; `won`: mended minus
    away, of the decision.
    """

    family: str
    trained: str
    tested: str
    ranking: str
    decision: str
    mend: str = ""
    home: dict[str, Figure] | None = None
    away: dict[str, Figure]
    mended: dict[str, Figure] | None = None
    own: dict[str, Figure]
    lost: Figure
    gap: Figure
    won: Figure | None = None
    cause: Literal["ranking", "threshold", "both", "neither", "unknown"]
    verdict: str


class LeftOutSite(FrozenModel):
    """A hospital that was left out in turn: figures on its test patients of the model that trained there too
    (`internal`) and of the one that did not (`external`), and how much more the latter has, with paired intervals;
    `travel`: why, where the model that trained there too stands for the hospital's own.
    """

    site: str
    internal: Evaluation | None = None
    external: Evaluation | None = None
    difference: dict[str, Figure] = Field(default_factory=dict)
    travel: TransferResult | None = None
