"""The text of a download's events, and a counter for commands that read many files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from experiments.cli.run_progress import TerminalPrinter
from experiments.watcher import Event
from sites.download.destination import format_bytes

if TYPE_CHECKING:
    from sites.cohort import DataCard
    from sites.download.catalogue import Download
    from sites.download.fetch import FetchResult


def download_start_event(card: DataCard, source: Download, folder: Path) -> Event:
    """Return the event of a download that is about to start: what is fetched, and under which licence."""
    return {
        "event": "start",
        "name": source.name,
        "title": card.title,
        "version": source.version,
        "licence": card.licence,
        "citation": card.citation,
        "page": source.page,
        "folder": str(folder),
    }


def download_done_event(result: FetchResult, folder: Path) -> Event:
    """Return the event of a finished download: the counts of its files."""
    return {"event": "done", "folder": str(folder), **asdict(result)}


class DownloadPrinter(TerminalPrinter):
    """Prints licence and citation, then one progress bar; into a pipe a line for each tenth."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._planned = False
        self._done_files = self._all_files = self._tenth = 0
        self._bytes, self._total = 0, 0

    def printers(self) -> dict[str, Callable[[Event], None]]:
        """Return the method that prints each kind of event."""
        return {
            "start": self._start,
            "plan": self._plan,
            "retry": self._retry,
            "failed": lambda event: self.print_line(f"  {event['why']}", "failed", "red"),
            "file": self._file,
            "bytes": lambda event: self._advance(event["count"]),
            "done": self._done,
        }

    def _start(self, event: Event) -> None:
        table = Table.grid(padding=(0, 2))
        for label, text in (
            ("licence", event["licence"]),
            ("cite", event["citation"]),
            ("from", f"{event['page']} (version {event['version']})"),
            ("to", event["folder"]),
        ):
            table.add_row(Text(label, style="dim"), Text(text))
        self.console.print(Text(event["title"], style="bold"), table)

    def _plan(self, event: Event) -> None:
        self._planned = True
        self._started = time.monotonic()
        self._all_files, self._bytes, self._total = event["files"], event["already"], event["bytes"] or 0
        size = (
            "of unknown size"
            if event["bytes"] is None
            else f"{'' if event['exact'] else 'about '}{format_bytes(event['bytes'])}"
        )
        parts = [f"{_count(event['files'], 'file')} to fetch, {size}"]
        if event["already"]:
            parts.append(f"{format_bytes(event['already'])} of it fetched earlier")
        if event["present"]:
            parts.append(f"{event['present']} here already")
        if event["replaced"]:
            parts.append(f"{event['replaced']} here differ from the published files and are replaced")
        self.print_line("; ".join(parts))
        if event["files"] and self.console.is_terminal:
            columns = [
                TextColumn("  {task.description}"),
                BarColumn(bar_width=24),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                TextColumn("left"),
            ]
            self.start_bar(columns, self._describe_files(), total=event["bytes"], completed=event["already"])

    def _retry(self, event: Event) -> None:
        if event["wait"] >= 2 or not self._planned:
            wait = f", again in {event['wait']:.0f} s" if event["wait"] >= 1 else ""
            self.print_line(f"  {event['path']}: {event['why']}{wait}", "retry", "yellow")

    def _file(self, event: Event) -> None:
        self._done_files += 1
        self._advance(0)

    def _done(self, event: Event) -> None:
        self.close()
        seconds = time.monotonic() - self._started
        present = f", {_count(event['present'], 'file')} kept" if event["present"] else ""
        fetched = (
            f"{_count(event['fetched'], 'file')} fetched ({format_bytes(event['bytes'])} in {seconds:.0f} s)"
            if event["fetched"]
            else "nothing new"
        )
        self.print_line(f"{fetched}{present}; every SHA-256 matches")

    def _describe_files(self) -> str:
        return f"{self._done_files} of {_count(self._all_files, 'file')}"

    def _advance(self, count: int) -> None:
        self._bytes += count
        self._total = max(self._total, self._bytes)
        if self.bar is not None:
            self.update_bar(completed=self._bytes, total=self._total or None, description=self._describe_files())
        elif not self.console.is_terminal and self._total and (tenth := self._bytes * 10 // self._total) > self._tenth:
            self._tenth = tenth
            self.print_line(f"  {tenth}0%: {format_bytes(self._bytes)}, {self._describe_files()}")


@contextmanager
def show_count(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows on a terminal how many (`done`) of how many (`whole`) things are processed."""
    if not console.is_terminal:
        yield lambda done, whole: None
        return
    with console.status("reading") as status:
        yield lambda done, whole: status.update(f"{done:,} of {whole:,} {what}" if whole else f"{done:,} {what}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
