"""The sections evaluation, baselines and report of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.metrics.registry import SelectableMetric
from common.sections.anomaly_baselines import AnomalyConfig
from common.sections.today import TodayConfig
from common.settings import Section


class SubgroupsConfig(Section):
    """Figures for subgroups of patients, where the data have the columns that define them."""

    sex: bool = Field(False, description="groups by sex: female, male, unknown")
    age: tuple[float, ...] = Field(
        (), description="lower bounds of age bands in years, increasing, such as [40, 65, 80]"
    )
    columns: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="groups by a feature: its name with the increasing lower bounds of bands; a patient belongs to "
        "the band of "
        "the median of their values",
    )

    @model_validator(mode="after")
    def _check_bands(self) -> SubgroupsConfig:
        for name, edges in {
            "age": self.age,
            **{f"columns.{key}": value for key, value in self.columns.items()},
        }.items():
            if list(edges) != sorted(set(edges)) or (name != "age" and not edges):
                raise ValueError(f"subgroups.{name}: give increasing lower bounds of bands, such as [40, 65]")
        return self


class EvaluationConfig(Section):
    """What is measured on test patients, and with which uncertainty."""

    metric: SelectableMetric = Field(
        "macro_f1",
        description="metric that selects the best round (on merged validation counts) and the worst site; anomaly "
        "detection selects the round by the loss",
    )
    threshold: Literal["auto", "likelier", "f1", "youden", "utility", "false_alarms", "sensitivity"] = Field(
        "auto",
        description="two classes: scores from the threshold on predict the event. likelier: probability 0.5; f1, "
        "youden, utility: the threshold that maximises this on the sites' merged validation counts; false_alarms, "
        "sensitivity: the threshold that gives the share of that name there; auto: youden for the chosen model where "
        "there are 5 validation examples of each class, otherwise and in private runs likelier",
    )
    false_alarms: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="threshold false_alarms: largest share of the examples without the event in which it is predicted",
    )
    sensitivity: float = Field(
        0.9, gt=0, le=1, description="threshold sensitivity: least share of the examples with the event to predict"
    )
    bootstrap: int = Field(
        1000, ge=0, le=100_000, description="resamples of patients for 95% intervals; 0: no intervals"
    )
    bins: int = Field(1024, ge=16, le=4096, description="bins of the score histograms, evenly spaced in log odds")
    keep_counts: bool = Field(
        False, description="keep the sites' counts in the run's folder, so that the figures of folds can be merged"
    )
    keep_resamples: bool = Field(
        True,
        description="keep each figure's resampled values, which give paired intervals of differences between models "
        "and between runs (`wardround compare`)",
    )
    operating: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.9, 0.95), description="specificities at which the sensitivity is given, and the reverse"
    )
    explain: Literal["none", "occlusion", "integrated_gradients", "shap"] = Field(
        "none",
        description="attribute the score of the true class to inputs, as means over test patients. shap: exact "
        "Shapley values, of trees (with the extra `trees`)",
    )
    domain_shift: bool = Field(
        False, description="measure how much the hospitals' inputs and labels differ (not in private runs)"
    )
    recalibrate: tuple[Literal["threshold", "platt", "temperature", "isotonic"], ...] = Field(
        ("threshold", "platt", "temperature", "isotonic"),
        description="recalibration methods of which each is fitted on a hospital's validation patients and tested on "
        "its test patients (not in private runs)",
    )
    subgroups: SubgroupsConfig = SubgroupsConfig()
    without: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="label: names of patients; metrics are also computed without them, if the site's policy allows",
    )


class BaselinesConfig(Section):
    """Models to compare with, in simulation: the same training on each hospital alone, or on all data pooled."""

    local: bool = Field(True, description="train a model on each hospital alone")
    pooled: bool = Field(True, description="train a model on the data of all hospitals together")
    classical: tuple[Literal["logreg", "forest", "boosting", "lightgbm"], ...] = Field(
        (),
        description="models of scikit-learn and LightGBM, trained locally and pooled as set above; pooled if both are "
        "false (experiments/baselines/classical.py)",
    )
    reuse: bool = Field(
        True,
        description="take these, and two-sample tests, from an earlier run with the same data, settings and code "
        "(experiments/baselines/reuse.py)",
    )
    anomaly: AnomalyConfig = AnomalyConfig()
    today: TodayConfig = TodayConfig()


class ReportConfig(Section):
    """Where a run's figures are sent, in addition to its folder (experiments/runs/sinks.py)."""

    sinks: tuple[str, ...] = Field(
        (),
        description="mlflow:PATH (an SQLite file, or a folder for one), tensorboard:PATH; needs the package extra "
        "mlflow or tensorboard, as in pip install '.[mlflow]'",
    )
