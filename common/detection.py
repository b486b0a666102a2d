"""Detection of the abnormal: what a model that reconstructs is trained on, and what its figures are about.

Such a model learns what is normal, and an example's anomaly score says how badly it fits what was learned. The task of
a data set becomes a task of two classes, normal and abnormal; the score's logarithm stands where a classifier's log
odds do, so that the same merged histograms give AUROC, AUPRC and thresholds. It is no probability.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Literal

from pydantic import Field

from common import plugins
from common.errors import ConfigError
from common.section import Section
from common.task import Task

NORMAL, ABNORMAL = "normal", "abnormal"


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


@cache
def detects(model: str) -> bool:
    """Return whether a model of common/models reconstructs: its file says `RECONSTRUCTS = True`."""
    return model in plugins.names("common.models", "RECONSTRUCTS")


def normal_classes(task: Task, config: DetectionConfig) -> tuple[str, ...]:
    """Return the classes that are normal.

    Raises:
        ConfigError: the task has no such class, or no other.
    """
    wanted = config.normal or task.classes[:1]
    unknown = [name for name in wanted if name not in task.classes]
    if unknown:
        raise ConfigError(f"detection.normal: no class {unknown[0]!r}; there are {', '.join(task.classes)}")
    if set(wanted) == set(task.classes):
        raise ConfigError("detection.normal: nothing is left that could be abnormal")
    return wanted


def task_of(task: Task, config: DetectionConfig) -> Task:
    """Return the task of telling normal from abnormal examples; `against` keeps the names of what is abnormal.

    Raises:
        ConfigError: as `normal_classes`.
    """
    normal = normal_classes(task, config)
    rest = tuple(name for name in task.classes if name not in normal)
    titles = dict(zip(task.classes, task.class_titles, strict=True))
    return replace(
        task,
        name=f"{task.name}, {'+'.join(normal)} against the rest",
        kind="multiclass",
        classes=(NORMAL, ABNORMAL),
        class_titles=(" or ".join(titles[name] for name in normal), "anything else"),
        utility=False,
        anomaly=True,
        against=rest,
    )
