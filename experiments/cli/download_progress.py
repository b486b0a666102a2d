"""What a person sees while `wardround data` works: a download's licence, progress and end; the quiet and JSON modes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from sites.cohort import DataCard
from sites.download.catalogue import Download
from sites.download.destination import format_bytes
from sites.download.fetch import FetchResult


class QuietDownload:
    """Prints the folder alone, at the end."""

    planned = False

    def start(self, card: DataCard, source: Download, folder: Path) -> None:
        """Say nothing."""

    def event(self, event: dict[str, Any]) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Say nothing."""

    def done(self, found: FetchResult, folder: Path) -> None:
        """Print the folder."""
        sys.stdout.write(f"{folder}\n")


class JsonDownload(QuietDownload):
    """A JSON object a line on standard output."""

    def start(self, card: DataCard, source: Download, folder: Path) -> None:
        """Tell what is fetched, and under which licence."""
        about = {"name": source.name, "version": source.version, "licence": card.licence, "citation": card.citation}
        self._say({"event": "start", **about, "page": source.page, "folder": str(folder)})

    def event(self, event: dict[str, Any]) -> None:
        """Pass on all but the single bytes."""
        self.planned |= event["event"] == "plan"
        if event["event"] != "bytes":
            self._say(event)

    def done(self, found: FetchResult, folder: Path) -> None:
        """Tell the counts."""
        self._say({"event": "done", "folder": str(folder), **asdict(found)})

    def _say(self, value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


class TerminalDownload(QuietDownload):
    """Licence and citation, then one bar; where there is no terminal, a line every tenth."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._files = self._of = self._tenth = 0
        self._bytes, self._total = 0, 0
        self._began = time.monotonic()

    def start(self, card: DataCard, source: Download, folder: Path) -> None:
        """Show what is fetched, and under which licence."""
        table = Table.grid(padding=(0, 2))
        for what, text in (
            ("licence", card.licence),
            ("cite", card.citation),
            ("from", f"{source.page} (version {source.version})"),
            ("to", str(folder)),
        ):
            table.add_row(Text(what, style="dim"), Text(text))
        self.console.print(Text(card.title, style="bold"), table)

    def event(self, event: dict[str, Any]) -> None:
        """Show what happens."""
        kind = event["event"]
        if kind == "plan":
            self._plan(event)
        elif kind == "retry" and (event["wait"] >= 2 or not self.planned):
            wait = f", again in {event['wait']:.0f} s" if event["wait"] >= 1 else ""
            self.console.print(Text(f"  {event['path']}: {event['why']}{wait}", style="yellow"), soft_wrap=True)
        elif kind == "failed":
            self.console.print(Text(f"  {event['why']}", style="red"), soft_wrap=True)
        elif kind == "file":
            self._files += 1
            self._move(0)
        elif kind == "bytes":
            self._move(event["count"])

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def done(self, found: FetchResult, folder: Path) -> None:
        """Say what there is now."""
        self.close()
        seconds = time.monotonic() - self._began
        kept = f", {_count(found.kept, 'file')} kept" if found.kept else ""
        new = (
            f"{_count(found.fetched, 'file')} fetched ({format_bytes(found.bytes)} in {seconds:.0f} s)"
            if found.fetched
            else "nothing new"
        )
        self.console.print(f"{new}{kept}; every SHA-256 is right", highlight=False)
        sys.stdout.write(f"{folder}\n")

    def _plan(self, event: dict[str, Any]) -> None:
        self.planned = True
        self._began = time.monotonic()
        self._of, self._bytes, self._total = event["files"], event["already"], event["bytes"] or 0
        size = (
            "of unknown size"
            if event["bytes"] is None
            else f"{'' if event['exact'] else 'about '}{format_bytes(event['bytes'])}"
        )
        parts = [f"{_count(event['files'], 'file')} to fetch, {size}"]
        if event["already"]:
            parts.append(f"{format_bytes(event['already'])} of it had come before")
        if event["kept"]:
            parts.append(f"{event['kept']} here already")
        if event["replaced"]:
            parts.append(f"{event['replaced']} here are not as published and are replaced")
        self.console.print("; ".join(parts), highlight=False)
        if event["files"] and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("  {task.description}"),
                BarColumn(bar_width=24),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(self._said(), total=event["bytes"], completed=event["already"])
            self._bar.start()

    def _said(self) -> str:
        return f"{self._files} of {_count(self._of, 'file')}"

    def _move(self, count: int) -> None:
        self._bytes += count
        self._total = max(self._total, self._bytes)
        if self._bar is not None:
            total = self._total or None
            self._bar.update(self._task, completed=self._bytes, total=total, description=self._said())
        elif not self.console.is_terminal and self._total and (tenth := self._bytes * 10 // self._total) > self._tenth:
            self._tenth = tenth
            self.console.print(f"  {tenth}0%: {format_bytes(self._bytes)}, {self._said()}", highlight=False)


@contextmanager
def show_count(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows `done` of `of` things, on a terminal, once it takes a moment."""
    if not console.is_terminal:
        yield lambda done, of: None
        return
    with console.status("reading") as status:
        yield lambda done, of: status.update(f"{done:,} of {of:,} {what}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
