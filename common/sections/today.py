"""Settings of what is used today, to compare a model with (experiments/baselines/today.py)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from common.settings import Section


class BandPoints(Section):
    """Points of a score for the bands of one input, such as those of a heart rate in NEWS."""

    edges: tuple[float, ...] = Field(description="bounds between the bands, rising; a value at a bound is above it")
    points: tuple[float, ...] = Field(description="points of each band, one more than bounds")
    missing: float = Field(0.0, description="points where the input was not measured")

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        if len(self.points) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must rise, and points must be one more")
        return self


class ScoreConfig(Section):
    """A score that is used today: a column of a table, an input of the task, or points for bands of inputs."""

    title: str = Field("", description="its name in the report; empty: its key")
    file: str | None = Field(None, description="CSV table with a row for each recording, relative to data.path")
    id: str = Field("id", description="the table's column with the name of the recording")
    column: str | None = Field(None, description="the table's column with the score; without a table, an input")
    where: dict[str, str] = Field(default_factory=dict, description="only rows with this text in this column")
    scale: Literal["points", "probability"] = Field(
        "points", description="points become a probability by a logistic regression on the training patients"
    )
    points: dict[str, BandPoints] = Field(default_factory=dict, description="by input, points for its bands")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.column is None) == (not self.points):
            raise ValueError("give either column or points")
        if self.file is not None and self.column is None:
            raise ValueError("file needs column")
        if self.points and self.scale == "probability":
            raise ValueError("points are no probability")
        return self


class TodayConfig(Section):
    """What is used today, in simulation: age and sex alone, and scores, on the same test patients (two classes)."""

    age_sex: bool = Field(False, description="logistic regression on age, its square and sex of the training patients")
    scores: dict[str, ScoreConfig] = Field(default_factory=dict, description="scores, by a name of your choice")
