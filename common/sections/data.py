"""The sections data and sites of a configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from common.settings import Name, Section


class DataConfig(Section):
    """Which data set, and where it lies on the researcher's machine (simulation only)."""

    dataset: Name = "synthetic"
    path: str | None = Field(None, description="folder of the data; none: made or found by the data set itself")
    cache: str | None = Field(None, description="folder of prepared data; none: the user's cache folder")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the data set's own file")
    scaling: Literal["auto", "none", "standard", "site", "quantile"] = Field(
        "auto",
        description="of inputs: by the hospitals' merged means and deviations, by each site's own, or by merged ranks; "
        "auto: standard where inputs have units",
    )


class SitesConfig(Section):
    """How patients become hospitals, and how each hospital's patients are split.

    `scheme`: `natural` (as the data say), `even`, `size` (skewed sizes), `labels` (Dirichlet over patients).
    `split`: `patient` (patient-disjoint train, validation and test), `published` (the data set's published
    split between patients), `folds` (cross-validation: fold `fold` of `folds` is the test set, whole groups
    of patients where the data set knows them), or `beat-level` (LEAKY on purpose, for comparison with papers
    that do so).
    """

    scheme: Literal["natural", "even", "size", "labels"] = "natural"
    count: int = Field(4, ge=1, le=1000, description="number of hospitals; unused when scheme is natural")
    alpha: float = Field(0.5, gt=0, le=1000, description="Dirichlet concentration of scheme labels")
    skew: float = Field(1.0, ge=0, le=5, description="scheme size: hospital k gets a share of 1/k**skew")
    split: Literal["patient", "published", "folds", "beat-level"] = "patient"
    folds: int = Field(5, ge=2, le=100, description="parts of a split into folds")
    fold: int = Field(0, ge=0, le=99, description="the fold that is the test set, from 0")
    draw: int = Field(0, ge=0, le=10_000, description="another split of the same kind: seeds it")
    validation: float = Field(0.2, ge=0, lt=1, description="share of a hospital's training patients")
    test: float = Field(0.25, gt=0, lt=1, description="share of patients (beats if beat-level); not published")
    shared_person: Literal["drop", "keep"] = Field(
        "drop",
        description="a person on both sides of a published split: drop from training, or keep (a leak)",
    )
    limit: int | None = Field(None, ge=1, description="keep at most so many training examples a hospital")
    label_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="keep this share of a hospital's training examples, drawn by row, at least one: as if the others "
        "had no label",
    )
    external: tuple[str, ...] = Field(
        (), description="hospitals that are only tested: they train nothing, and nothing is chosen or scaled by them"
    )
