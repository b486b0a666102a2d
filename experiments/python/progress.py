"""One progress bar for a run that is started from Python; nothing else is printed."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from experiments.watcher import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class NotebookProgress:
    """A watcher that shows rounds as a bar in a terminal or a notebook, and removes it at the end."""

    def __init__(self, visible: bool) -> None:
        """Take whether a bar is shown, where there is a place for one."""
        self.visible = visible and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> NotebookProgress:
        if self.visible:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def handle(self, event: Event) -> None:
        """Show an event."""
        if self._bar is None or self._task is None:
            return
        if event["event"] == "start":
            self._bar.update(self._task, total=event["rounds"])
        elif event["event"] == "stage":
            self._bar.update(self._task, description=event["what"])
        elif event["event"] == "round":
            self._bar.update(self._task, completed=event["round"])
