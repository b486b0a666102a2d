"""Settings of the anomaly detectors used as baselines (experiments/baselines/anomaly_detectors.py)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Section

DetectorKind = Literal["template", "age_sex", "isolation_forest", "one_class_svm", "lof", "pca"]
DetectorInput = Literal["features", "signal", "latent"]


class AnomalyConfig(Section):
    """Anomaly detectors of scikit-learn, and two without a model.

    See docs/reference/anomaly_detectors.md.

    They need a task of two classes, of which the first is normal, or an autoencoder. They are trained locally and
    pooled as `baselines` says: on the rows that an autoencoder is trained on, or on the normal rows of a classifier.
    Nothing is tuned: no validation or test patient is used.
    """

    models: tuple[DetectorKind, ...] = Field(
        (),
        description="detectors; template: energy of a beat minus the median beat of its recording; age_sex: age, by "
        "sex",
    )
    inputs: tuple[DetectorInput, ...] = Field(
        ("features",),
        description="inputs of the scikit-learn detectors: hand-crafted features, samples, or latent values of an "
        "autoencoder",
    )
    contamination: float = Field(
        0.05, gt=0, le=0.5, description="share of the training rows that count as abnormal, which sets the threshold"
    )
    trees: int = Field(200, ge=1, le=5000, description="isolation_forest: number of trees")
    rows: int = Field(256, ge=2, le=1_000_000, description="isolation_forest: rows drawn for each tree")
    components: float = Field(
        0.95,
        gt=0,
        le=10_000,
        description="pca: number of components kept; below 1: the share of variance that they explain",
    )
    neighbours: int = Field(20, ge=1, le=1000, description="lof: number of neighbours")
    nu: float = Field(0.05, gt=0, le=1, description="one_class_svm: upper bound of the share of training rows outside")
    most: int = Field(
        5000, ge=10, le=1_000_000, description="one_class_svm and lof: train on at most this many rows, drawn at random"
    )
