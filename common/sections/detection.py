"""The section detection of a configuration: which examples are normal, and how the anomaly score is computed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Section


class DetectionConfig(Section):
    """Anomaly detection with an autoencoder: which examples are normal, and how the anomaly score is computed."""

    normal: tuple[str, ...] = Field((), description="classes that are normal; empty: the data set's first class")
    train_on: Literal["normal", "all"] = Field(
        "normal", description="train on a site's normal examples, or on all of them (no label is used)"
    )
    score: Literal["reconstruction", "latent", "both"] = Field(
        "reconstruction",
        description="anomaly score: reconstruction: mean squared reconstruction error; latent: squared Mahalanobis "
        "distance of the latent values from those of the training examples, by merged moments; both: the mean of the "
        "two, "
        "each divided by its mean over the training examples",
    )
    relative: bool = Field(
        False,
        description="score relative to the first minutes of the same recording, whatever they contain; needs times",
    )
    baseline_minutes: float = Field(5.0, gt=0, le=1440, description="relative: length of that first part, in minutes")
    threshold: Literal["global", "site"] = Field(
        "global", description="threshold chosen on the sites' merged validation counts, or by each site on its own"
    )
