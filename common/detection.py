"""Anomaly detection with autoencoders: the task of distinguishing abnormal from normal examples.

An autoencoder learns normal examples; the anomaly score of an example measures how badly it is reconstructed. The data
set's task is replaced by one of two classes, normal and abnormal. The logarithm of the score takes the place of a
classifier's log odds, so that the same merged histograms give AUROC, AUPRC and thresholds; it is not a probability.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from common import plugins
from common.errors import ConfigError
from common.sections.detection import DetectionConfig
from common.task import Task

NORMAL, ABNORMAL = "normal", "abnormal"


@cache
def is_reconstruction_model(model: str) -> bool:
    """Return whether a model of common/models is an autoencoder: its file sets `RECONSTRUCTS = True`."""
    return model in plugins.list_plugins("common.models", "RECONSTRUCTS")


def resolve_normal_classes(task: Task, config: DetectionConfig) -> tuple[str, ...]:
    """Return the classes that are normal: those of the configuration, or the task's first.

    Raises:
        ConfigError: the task has no such class, or no other class.
    """
    wanted = config.normal or task.classes[:1]
    unknown = [name for name in wanted if name not in task.classes]
    if unknown:
        raise ConfigError(f"detection.normal: no class {unknown[0]!r}; there are {', '.join(task.classes)}")
    if set(wanted) == set(task.classes):
        raise ConfigError("detection.normal: names every class; leave at least one that is abnormal")
    return wanted


def to_detection_task(task: Task, config: DetectionConfig) -> Task:
    """Return the task that distinguishes abnormal from normal examples; `against` names the abnormal classes.

    Raises:
        ConfigError: as `resolve_normal_classes`.
    """
    normal = resolve_normal_classes(task, config)
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
