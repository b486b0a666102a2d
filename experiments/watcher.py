"""The events by which a run reports its progress, and the interface of their receivers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from common.config import RunConfig

Event = dict[str, Any]
"""`event` names its kind; the other keys depend on the kind. Every value can be written as JSON."""


class Watcher(Protocol):
    """Receives the events of a run, in order."""

    def handle(self, event: Event) -> None:
        """Take one event."""


def start_event(folder: Path, config: RunConfig) -> Event:
    """Return the event of a run whose folder has just been created."""
    return {
        "event": "start",
        "folder": str(folder),
        "title": config.title or config.name,
        "notices": list(config.notices),
        "rounds": config.federation.rounds,
        "metric": config.evaluation.metric,
    }


def stage_event(what: str) -> Event:
    """Return the event of a new stage, described in a few words."""
    return {"event": "stage", "what": what}


def baseline_event(model: str, epoch: int, epochs: int) -> Event:
    """Return the event of a baseline that has trained `epoch` of `epochs` epochs."""
    return {"event": "baseline", "model": model, "epoch": epoch, "epochs": epochs}
