"""The report's run, data, hospitals and rounds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from common.metrics.figures import FrozenModel

Split = Literal["train", "validation", "test"]


Level = Literal["synthetic", "leak", "not-private", "warning"]


class Run(FrozenModel):
    """Which run this was. `created`: ISO 8601 in UTC; `commit`: of the code that ran, where known."""

    id: str
    name: str
    title: str = ""
    created: str = ""
    status: Literal["complete", "interrupted", "failed"]
    error: str = ""
    seconds: float = 0.0
    engine: str = ""
    seed: int | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None


class Notice(FrozenModel):
    """A sentence that must stand beside every figure."""

    level: Level
    text: str


class Data(FrozenModel):
    """What the data are, in the words of their publishers."""

    title: str = ""
    inputs: str = ""
    labels: str = ""
    sites: str = ""
    splits: str = ""
    source: str = ""
    citation: str = ""
    licence: str = ""
    synthetic: bool = False
    warning: str = ""


class SplitCounts(FrozenModel):
    """How much one split of one hospital holds; `classes`: examples of each class, None: suppressed.

    `suppressed`: the least patients that the hospital tells of, where the split has fewer.
    """

    patients: int
    examples: int
    classes: dict[str, int | None]
    suppressed: int | None = None


class Site(FrozenModel):
    """One hospital.

    `excluded`: what was left out, counted; `shift`: how a simulation made it differ, in words; `lost`: why it
    last gave no answer.
    """

    name: str
    counts: dict[Split, SplitCounts]
    excluded: dict[str, int] = Field(default_factory=dict)
    shift: dict[str, str] = Field(default_factory=dict)
    lost: str | None = None


class RoundFigures(FrozenModel):
    """A round's model on validation patients; a selectable metric without a field is one more key.

    Attributes:
        examples: validation examples.
        patients: validation patients.
        threshold: log odds from which on the event was called; None: the likelier class.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    examples: int
    patients: int
    accuracy: float | None = None
    macro_f1: float | None = None
    macro_auroc: float | None = None
    macro_auprc: float | None = None
    auroc: float | None = None
    auprc: float | None = None
    loss: float | None = None
    utility: float | None = None
    threshold: float | None = None


class RoundSite(FrozenModel):
    """One hospital in one round. `train`: what its training told (examples, loss, steps, ...)."""

    train: dict[str, float | int | bool | str | None] | None = None
    validation: RoundFigures | None = None


class Round(FrozenModel):
    """One round. `validation`: over all hospitals' validation patients; `chosen`: the best round so far."""

    number: int
    seconds: float = 0.0
    weights: str = ""
    chosen: int = 0
    validation: RoundFigures | None = None
    sites: dict[str, RoundSite] = Field(default_factory=dict)
    lost: dict[str, str] = Field(default_factory=dict)
