"""The report's latent space views."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from common.metrics.figures import FrozenModel


class ReconstructionExample(FrozenModel):
    """One example beside what a model made of it, `(channels, samples)` each; `which`: best, median or worst."""

    kind: str = Field(alias="class")
    which: str
    error: float
    wanted: tuple[tuple[float, ...], ...]
    made: tuple[tuple[float, ...], ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class LatentView(FrozenModel):
    """A hospital's test examples in the plane of most latent variance, as counts by class and cell.

    `cells`: along each axis; `reach`: standard deviations to either side; a cell's number is `cells * row + column`;
    `hidden`: examples in cells that hold too few people to be told.
    """

    cells: int
    reach: float
    counts: dict[str, dict[int, int]]
    hidden: dict[str, int] = Field(default_factory=dict)
    examples: tuple[ReconstructionExample, ...] = ()
