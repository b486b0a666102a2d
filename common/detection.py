"""Detection of the abnormal: what a model that reconstructs is trained on, and what its figures are about.

Such a model learns what is normal, and an example's anomaly score says how badly it fits what was learned. The task of
a data set becomes a task of two classes, normal and abnormal; the score's logarithm stands where a classifier's log
odds do, so that the same merged histograms give AUROC, AUPRC and thresholds. It is no probability.
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
    """Return whether a model of common/models reconstructs: its file says `RECONSTRUCTS = True`."""
    return model in plugins.list_plugins("common.models", "RECONSTRUCTS")


def resolve_normal_classes(task: Task, config: DetectionConfig) -> tuple[str, ...]:
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


def to_detection_task(task: Task, config: DetectionConfig) -> Task:
    """Return the task of telling normal from abnormal examples; `against` keeps the names of what is abnormal.

    Raises:
        ConfigError: as `normal_classes`.
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
