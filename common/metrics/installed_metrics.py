"""Metrics of other installed packages: entry points of `wardround.metrics`, each of which is a `Metric`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection
from typing import TypeVar

from common.plugins import installed_plugins

T = TypeVar("T")


def find_installed_metrics(kind: type[T], taken: Collection[str]) -> dict[str, T]:
    """Return the metrics of other installed packages, by name.

    A package that cannot be imported, or whose metric has the name of another, is left out with a warning: it must not
    stop runs that do not use it.

    Args:
        kind: the class of metrics.
        taken: names that they must not have.
    """
    metrics: dict[str, T] = {}
    for name, point in installed_plugins("common.metrics").items():
        if getattr(getattr(sys.modules.get(point.module), "__spec__", None), "_initializing", False):
            continue  # the package itself imports the registry first
        try:
            metric = point.load()
        except Exception as error:
            warnings.warn(f"metric {name}: {point.value} cannot be imported: {type(error).__name__}", stacklevel=2)
            continue
        if not isinstance(metric, kind) or getattr(metric, "name", "") != name or name in taken:
            warnings.warn(f"metric {name}: {point.value} is no metric of that name, or the name is taken", stacklevel=2)
            continue
        metrics[name] = metric
    return metrics
