"""What a description makes of a table: the task, and how the files of one folder are read."""

from __future__ import annotations

from pathlib import Path

from common.task import Task
from sites.datasets.table.description import FILE_NAME, Description, load_description


def build_task(options: Description) -> Task:
    """Return the task: its inputs and classes."""
    features = tuple(name for item in options.inputs for name in item.features)
    numbers = {item.name for item in options.inputs if item.kind == "number"}
    outcome = options.outcome
    title = outcome.title or outcome.column
    return Task(
        name=title,
        kind="multiclass",
        classes=outcome.names,
        class_titles=outcome.names if outcome.classes else tuple(f"{title} = {name}" for name in outcome.names),
        channels=0,
        samples=0,
        rate_hz=0.0,
        features=features,
        channel_names=(),
        units=True,
        missing=True,
        binary_features=tuple(name for name in features if name not in numbers),
    )


def apply_own_reading(folder: Path, options: Description) -> Description:
    """Return a run's description with the keys of `read` that the folder's own description states, if it has one."""
    file = folder / FILE_NAME
    return options.model_copy(update={"read": load_description(file).read}) if file.is_file() else options
