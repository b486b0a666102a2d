"""The sections evaluation, baselines and report of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.metrics.registry import SelectableMetric
from common.sections.anomaly_baselines import AnomalyConfig
from common.settings import Section


class SubgroupsConfig(Section):
    """Figures of groups of patients beside those of all, where the data have what tells the groups apart."""

    sex: bool = Field(False, description="female, male, unknown")
    age: tuple[float, ...] = Field((), description="years at which age bands begin, rising, such as [40, 65, 80]")
    columns: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="features of the task by name, each with the values at which bands begin; by a patient's median",
    )

    @model_validator(mode="after")
    def _check_bands(self) -> SubgroupsConfig:
        for name, edges in {
            "age": self.age,
            **{f"columns.{key}": value for key, value in self.columns.items()},
        }.items():
            if list(edges) != sorted(set(edges)) or (name != "age" and not edges):
                raise ValueError(f"subgroups.{name}: give rising values at which bands begin, such as [40, 65]")
        return self


class EvaluationConfig(Section):
    """What is measured on test patients, and how sure."""

    metric: SelectableMetric = Field(
        "macro_f1", description="chooses the round (on merged validation counts) and the worst site"
    )
    threshold: Literal["likelier", "f1", "youden", "utility", "false_alarms"] = Field(
        "likelier",
        description="two classes: call the event where it is likelier than not, or from the score on that is best "
        "on the sites' merged validation counts, or that gives the wanted false alarms there",
    )
    false_alarms: float = Field(
        0.05, gt=0, lt=1, description="threshold false_alarms: share of examples without the event that are called"
    )
    bootstrap: int = Field(1000, ge=0, le=100_000, description="resamples of patients for 95% intervals")
    bins: int = Field(1024, ge=16, le=4096, description="score histogram bins, spaced evenly in logit")
    keep_counts: bool = Field(
        False, description="keep the sites' counts in the run's folder, so that folds can be merged into one figure"
    )
    keep_resamples: bool = Field(
        True,
        description="keep each figure's resampled values, from which differences between models, and between runs "
        "(`wardround compare`), have their intervals",
    )
    operating: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.9, 0.95), description="the sensitivity at each such specificity is given, and the reverse"
    )
    explain: Literal["none", "occlusion", "integrated_gradients"] = Field(
        "none", description="tell which inputs move the score of the true class, as means over test patients"
    )
    domain_shift: bool = Field(
        False, description="measure how far the hospitals' inputs and labels lie apart (not in private runs)"
    )
    recalibrate: tuple[Literal["threshold", "platt", "temperature", "isotonic"], ...] = Field(
        ("threshold", "platt", "temperature", "isotonic"),
        description="what each alone wins back at a hospital, fitted on its validation patients (not in private runs)",
    )
    subgroups: SubgroupsConfig = SubgroupsConfig()
    without: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="further figures with these patients left out (if the site allows)"
    )


class BaselinesConfig(Section):
    """What to compare with, in simulation: the same training on one hospital alone, or on all rows pooled."""

    local: bool = True
    pooled: bool = True
    classical: tuple[Literal["logreg", "forest", "boosting"], ...] = Field(
        (), description="scikit-learn's models, trained as local and pooled say (experiments/baselines/classical.py)"
    )
    anomaly: AnomalyConfig = AnomalyConfig()


class ReportConfig(Section):
    """Where a run's figures go beside its folder (experiments/runs/sinks.py)."""

    sinks: tuple[str, ...] = Field(
        (), description="mlflow:PATH (an SQLite file, or a folder for one), tensorboard:PATH; each needs its extra"
    )
