"""Latent space views of an autoencoder in the report."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from common.metrics.figures import FrozenModel


class ReconstructionExample(FrozenModel):
    """One example and its reconstruction.

    Attributes:
        kind: the class of the example.
        which: whether its error is the class's best, median or worst.
        error: reconstruction error.
        wanted: the recorded signal, `(channels, samples)`.
        made: the reconstruction, `(channels, samples)`.
    """

    kind: str = Field(alias="class")
    which: str
    error: float
    wanted: tuple[tuple[float, ...], ...]
    made: tuple[tuple[float, ...], ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class LatentView(FrozenModel):
    """A hospital's test examples in the plane of the two latent directions with the greatest variance.

    Attributes:
        cells: number of cells along each axis.
        reach: half the width of the plane, in standard deviations.
        counts: examples by class and cell; a cell's number is `cells * row + column`.
        hidden: by class, examples in cells that hold too few patients to be reported.
        examples: single examples, if the hospital may share them.
    """

    cells: int
    reach: float
    counts: dict[str, dict[int, int]]
    hidden: dict[str, int] = Field(default_factory=dict)
    examples: tuple[ReconstructionExample, ...] = ()
