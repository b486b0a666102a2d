"""What shows the progress of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from common.config import RunConfig


class Watcher(Protocol):
    """Told what a run is doing."""

    def start(self, folder: Path, config: RunConfig) -> None:
        """The run's folder is there."""

    def doing(self, what: str) -> None:
        """A new stage began."""

    def event(self, event: dict[str, Any]) -> None:
        """The server told something."""

    def baseline(self, name: str, done: int, total: int) -> None:
        """A baseline finished an epoch."""
