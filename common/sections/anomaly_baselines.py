"""Which detectors of the abnormal, other than networks, a run compares with:
experiments/baselines/anomaly_detectors.py makes them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Section

DetectorKind = Literal["template", "age_sex", "isolation_forest", "one_class_svm", "lof", "pca"]
DetectorInput = Literal["features", "signal", "latent"]


class AnomalyConfig(Section):
    """scikit-learn's detectors of the abnormal, and two rivals without any model.

    See docs/reference/anomaly_detectors.md.

    They need a task of two classes, of which the first is the normal one, or a model that reconstructs, and are trained
    as local and pooled say: on the rows that a network is trained on, of a classifier's on normal ones. Nothing is
    tuned: no validation or test patient is looked at.
    """

    models: tuple[DetectorKind, ...] = Field(
        (), description="template: energy of a beat minus its recording's median beat; age_sex: age for the sex"
    )
    inputs: tuple[DetectorInput, ...] = Field(
        ("features",),
        description="what the scikit-learn ones see: hand-crafted features, samples, or an autoencoder's latent values",
    )
    contamination: float = Field(
        0.05, gt=0, le=0.5, description="share of the training rows from which on a score counts as abnormal"
    )
    trees: int = Field(200, ge=1, le=5000, description="isolation_forest: trees")
    rows: int = Field(256, ge=2, le=1_000_000, description="isolation_forest: rows that each tree draws")
    components: float = Field(
        0.95, gt=0, le=10_000, description="pca: components kept, or below 1 the share of variance that they hold"
    )
    neighbours: int = Field(20, ge=1, le=1000, description="lof: neighbours")
    nu: float = Field(0.05, gt=0, le=1, description="one_class_svm: largest share of training rows outside")
    most: int = Field(5000, ge=10, le=1_000_000, description="one_class_svm and lof: the most rows to train on, drawn")
