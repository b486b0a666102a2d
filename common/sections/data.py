"""The sections data and sites of a configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from common.settings import Name, Section


class DataConfig(Section):
    """The data set, and where it is on the researcher's machine (simulation only)."""

    dataset: Name = Field("synthetic", description="name of a file or folder of sites/datasets")
    path: str | None = Field(
        None, description="folder of the data; none: the data set's own default, which may generate data"
    )
    cache: str | None = Field(None, description="folder for prepared data; none: the user's cache folder")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the data set")
    scaling: Literal["auto", "none", "standard", "site", "quantile", "bins"] = Field(
        "auto",
        description="scaling of the inputs: standard: by the hospitals' merged means and standard deviations; site: by "
        "each site's own; quantile: by ranks in the merged distribution; bins: the same, but "
        "missing values stay missing, for models of trees; auto: standard where inputs have units, "
        "else none",
    )


class SitesConfig(Section):
    """How patients are assigned to hospitals, and how each hospital's patients are split."""

    scheme: Literal["natural", "even", "size", "labels"] = Field(
        "natural",
        description="natural: the data set's own hospitals; even: equal sizes; size: skewed sizes; labels: class "
        "shares "
        "drawn from a Dirichlet distribution over patients",
    )
    count: int = Field(4, ge=1, le=1000, description="number of hospitals; ignored by scheme natural")
    alpha: float = Field(0.5, gt=0, le=1000, description="scheme labels: Dirichlet concentration")
    skew: float = Field(
        1.0, ge=0, le=5, description="scheme size: the share of hospital k is proportional to 1/k**skew"
    )
    split: Literal["patient", "published", "folds", "beat-level"] = Field(
        "patient",
        description="division into training, validation and test: patient: no patient in two of them; published: the "
        "data set's published split between patients; folds: cross-validation, in whole groups of patients where the "
        "data set names them; beat-level: by example, LEAKY on purpose, to compare with papers that split so",
    )
    folds: int = Field(5, ge=2, le=100, description="split folds: number of folds")
    fold: int = Field(0, ge=0, le=99, description="split folds: the fold that is the test set, counted from 0")
    draw: int = Field(0, ge=0, le=10_000, description="seed of the split, for another split of the same kind")
    validation: float = Field(
        0.2, ge=0, lt=1, description="share of a hospital's training patients that become validation patients"
    )
    test: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="share of patients (beat-level: of examples) in the test set; ignored by split published",
    )
    shared_person: Literal["drop", "keep"] = Field(
        "drop",
        description="a person on both sides of a published split: drop them from training, or keep them (a leak)",
    )
    limit: int | None = Field(None, ge=1, description="keep at most this many training examples per hospital")
    label_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="keep this share of a hospital's training examples, drawn at random, at least one: as if the "
        "others "
        "had no label",
    )
    external: tuple[str, ...] = Field(
        (), description="hospitals that are only tested: nothing is trained, chosen or scaled on their data"
    )
