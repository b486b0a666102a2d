"""What a person sees while a run works: stages, rounds, sites, loss, time left; the quiet and JSON modes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from common.config import RunConfig
from common.metrics.registry import METRICS


class QuietPrinter:
    """Says nothing."""

    def start(self, folder: Path, config: RunConfig) -> None:
        """Say nothing."""

    def doing(self, what: str) -> None:
        """Say nothing."""

    def event(self, event: dict[str, Any]) -> None:
        """Say nothing."""

    def baseline(self, name: str, done: int, total: int) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Say nothing."""


class JsonPrinter(QuietPrinter):
    """A JSON object a line on standard output, for scripts."""

    def start(self, folder: Path, config: RunConfig) -> None:
        """Tell the folder."""
        self._say({"event": "start", "folder": str(folder)})

    def doing(self, what: str) -> None:
        """Tell the stage."""
        self._say({"event": "stage", "what": what})

    def event(self, event: dict[str, Any]) -> None:
        """Pass on what the server tells."""
        self._say(event)

    def baseline(self, name: str, done: int, total: int) -> None:
        """Tell how far a baseline is."""
        self._say({"event": "baseline", "model": name, "epoch": done, "of": total})

    def _say(self, value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


class TerminalPrinter(QuietPrinter):
    """A line a round and, below, one progress bar a stage; on standard error."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._epochs: dict[str, tuple[int, int]] = {}
        self._began = time.monotonic()
        self._rounds = 1
        self._metric = "macro_f1"

    def start(self, folder: Path, config: RunConfig) -> None:
        """Show the title, notices and folder."""
        self._metric, self._rounds = config.evaluation.metric, config.federation.rounds
        self.console.print(Text(config.title or config.name, style="bold"))
        for notice in config.notices:
            self.console.print(Text(f" {notice} ", style="bold white on red"))
        self.console.print(Text(f"run folder: {folder}", style="dim"), soft_wrap=True)

    def doing(self, what: str) -> None:
        """Name the stage; the bar of the last one ends."""
        self.close()
        self.console.print(Text(f"· {what}", style="cyan"))

    def event(self, event: dict[str, Any]) -> None:
        """Show what the server tells."""
        kind = event["event"]
        if kind == "connect":
            self.console.print(f"  waiting: {event['ready']} of {_count(event['need'], 'site')} ready")
        elif kind == "hello":
            self._hello(event)
            self._show(0, self._rounds, f"round 1 of {self._rounds}: train")
        elif kind == "reply" and event["phase"] != "hello":
            self._reply(event)
        elif kind == "round":
            self._round(event)
        elif kind == "site-ended":
            self._warn(f"{event['site']}: its process ended, see {event['log']}")
        elif kind == "baseline-failed":
            self._warn(f"baseline {event['model']} could not be trained: {event['error']}")
        elif kind == "sink-failed":
            self._warn(f"{event['sink']} takes no more figures: {event['error']}")

    def baseline(self, name: str, done: int, total: int) -> None:
        """Move the one bar of all baselines."""
        self._epochs[name] = done, total
        every = list(self._epochs.values())
        ready = sum(epochs == of for epochs, of in every)
        text = f"{ready} of {_count(len(every), 'baseline')} trained"
        self._show(sum(epochs for epochs, _ in every), sum(of for _, of in every), text)

    def close(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None

    def _show(self, done: float, total: float, text: str) -> None:
        """Move the bar; the time left is what the rest takes at the pace so far."""
        if self._progress is None:
            self._began = time.monotonic()
            self._progress = Progress(
                TextColumn("  {task.description:<44}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self.console,
                transient=True,
            )
            self._task = self._progress.add_task(text, total=total, left="")
            self._progress.start()
        assert self._task is not None
        spent = time.monotonic() - self._began
        left = _left(spent / done * (total - done)) if 0 < done < total else ""
        self._progress.update(self._task, completed=done, total=total, description=text, left=left)

    def _warn(self, text: str) -> None:
        self.console.print(Text(f"  {text}", style="yellow"), soft_wrap=True)

    def _hello(self, event: dict[str, Any]) -> None:
        sites = event["sites"]
        if any(said["synthetic"] for said in sites.values()):
            notice = " SYNTHETIC data: generated, no patient's; figures show the program only "
            self.console.print(Text(notice, "bold black on yellow"))
        for name, said in sorted(sites.items()):
            parts = {part: said["counts"][part] for part in ("train", "validation", "test")}
            split = ", ".join(f"{part} {item['patients']} ({item['examples']:,})" for part, item in parts.items())
            self.console.print(f"  {name}: patients (examples) {split}", highlight=False)
            if empty := [part for part, item in parts.items() if not item["examples"]]:
                self._warn(f"{name} has no patients for {' or '.join(empty)}")
        for name, why in event.get("refused", {}).items():
            self._warn(f"{name} does not take part: {why}")

    def _reply(self, event: dict[str, Any]) -> None:
        number, waiting = event["round"], event["waiting"]
        togo = f", {_count(waiting, 'site')} to go" if waiting else ""
        if event["phase"] == "test":
            self._show(self._rounds, self._rounds, f"final evaluation{togo}")
            return
        share = 0.0 if event["phase"] == "validate" else waiting / max(event["sites"], 1)
        text = f"round {number} of {self._rounds}: {event['phase']}{togo}"
        self._show(number - 1 + 0.95 * (1 - share), self._rounds, text)

    def _round(self, event: dict[str, Any]) -> None:
        number, total = event["round"], event["of"]
        trained = [site["train"] for site in event["sites"].values() if "train" in site]
        text = f"  round {number} of {total}: {_count(len(trained), 'site')}"
        told = [item for item in trained if "loss" in item]  # a private site tells none
        if weight := sum(item["examples"] for item in told):
            text += f", loss {sum(item['loss'] * item['examples'] for item in told) / weight:.3f}"
        if spent := [item["privacy"]["epsilon_run"] for item in trained if item.get("privacy")]:
            text += f", epsilon {max(spent):.3f} at most"
        metric = METRICS[self._metric]
        if (checked := event.get("validation")) and checked.get(metric.name) is not None:
            text += f", validation {metric.title} {metric.format(checked[metric.name])}"
            text += " (best so far)" if event["chosen"] == number else ""
        self.console.print(f"{text}, {event['seconds']:.1f} s", highlight=False)
        for site, why in event["lost"].items():
            self._warn(f"{site} lost in round {number}: {why}")
        self._show(number, total, f"round {min(number + 1, total)} of {total}: train")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _left(seconds: float) -> str:
    if seconds < 100:
        return f"about {max(seconds, 1):.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 6000 else f"about {seconds / 3600:.1f} h left"
