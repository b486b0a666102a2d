"""The section detection of a configuration: what is normal, and how an anomaly score is computed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Section


class DetectionConfig(Section):
    """Of models that reconstruct (autoencoder, tabular_autoencoder): what is normal, and how far from it an example is.

    `score`: `reconstruction` (mean squared error of what the model makes of an example), `latent` (squared Mahalanobis
    distance of its latent values from those of the training examples, from merged moments), or `both` (the mean of the
    two, each divided by its mean over the training examples).
    """

    normal: tuple[str, ...] = Field((), description="classes that are normal; none: the first of the data set's")
    train_on: Literal["normal", "all"] = Field(
        "normal", description="train on what a site holds as normal, or on everything (no label is used)"
    )
    score: Literal["reconstruction", "latent", "both"] = "reconstruction"
    relative: bool = Field(
        False, description="score relative to the recording's own first minutes, whatever they hold; needs times"
    )
    baseline_minutes: float = Field(5.0, gt=0, le=1440, description="relative: how long those minutes are")
    threshold: Literal["global", "site"] = Field(
        "global", description="from the sites' merged validation counts, or at each site from its own"
    )
