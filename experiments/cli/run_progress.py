"""Printers of events: nothing, JSON lines, or text with a progress bar; and the text of a run's events.

Commands that report progress choose one of the three with `choose_printer`. Where standard error is a pipe there is
no bar, and the number of lines does not grow with the number of rounds.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from common.metrics.registry import METRICS
from experiments.watcher import Event

MAX_PIPE_LINES = 20
"""Lines of one kind of event (rounds, lost sites, ...) that are printed into a pipe."""


def open_console(*, stderr: bool = False, width: int = 110) -> Console:
    """Return a console on standard output or error; `width` (characters) applies where that is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr) if stream.isatty() else Console(stderr=stderr, width=width)


class QuietPrinter:
    """Prints no event."""

    def handle(self, event: Event) -> None:
        """Ignore an event."""

    def close(self) -> None:
        """End the progress bar, if there is one."""


class JsonPrinter(QuietPrinter):
    """Prints each event as one line of JSON on standard output, except those of single chunks of a download."""

    def handle(self, event: Event) -> None:
        """Print an event."""
        if event["event"] != "bytes":
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()


class TerminalPrinter(QuietPrinter):
    """Prints events as text, with at most one progress bar below; subclasses say how each kind is printed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = time.monotonic()
        self._printed: Counter[str] = Counter()

    def printers(self) -> dict[str, Callable[[Event], None]]:
        """Return the method that prints each kind of event; other kinds are not shown."""
        raise NotImplementedError

    def handle(self, event: Event) -> None:
        """Print an event."""
        if printer := self.printers().get(event["event"]):
            printer(event)

    def close(self) -> None:
        """End the progress bar, if there is one."""
        if self.bar is not None:
            self.bar.stop()
        self.bar = self._task = None

    def print_line(self, text: str, kind: str = "", style: str = "") -> None:
        """Print a line; into a pipe at most MAX_PIPE_LINES of one kind, unless the kind is empty."""
        if kind and not self.console.is_terminal:
            self._printed[kind] += 1
            if self._printed[kind] > MAX_PIPE_LINES:
                return
            if self._printed[kind] == MAX_PIPE_LINES:
                text += " (further lines of this kind are not printed)"
        self.console.print(Text(text, style=style), soft_wrap=True)

    def start_bar(self, columns: Sequence[ProgressColumn], text: str, **fields: Any) -> None:
        """Start the progress bar; `fields` are those of rich's `Progress.add_task`."""
        self._started = time.monotonic()
        self.bar = Progress(*columns, console=self.console, transient=True)
        self._task = self.bar.add_task(text, **fields)
        self.bar.start()

    def update_bar(self, **fields: Any) -> None:
        """Change the progress bar; `fields` are those of rich's `Progress.update`."""
        if self.bar is not None and self._task is not None:
            self.bar.update(self._task, **fields)


def choose_printer(terminal: type[TerminalPrinter], *, quiet: bool = False, as_json: bool = False) -> QuietPrinter:
    """Return the printer for a command's --quiet and --json options; `terminal` prints without either."""
    if as_json:
        return JsonPrinter()
    return QuietPrinter() if quiet else terminal(open_console(stderr=True, width=120))


class RunPrinter(TerminalPrinter):
    """Prints a run on standard error: a line a round and one progress bar a stage."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._epochs: dict[str, tuple[int, int]] = {}
        self._rounds = 1
        self._metric = "macro_f1"
        self._ready: int | None = None
        self._pending: list[str] = []
        self._position = 0.0

    def printers(self) -> dict[str, Callable[[Event], None]]:
        """Return the method that prints each kind of event."""
        return {
            "start": self._start,
            "stage": self._stage,
            "connect": self._connect,
            "awaited": self._awaited,
            "late": lambda event: self._warn(
                f"{event['site']} answered {_describe_step(event)} too late: refused", "late"
            ),
            "sent-again": lambda event: self.print_line(
                f"  {_describe_step(event)}: a message to {event['site']} was lost on its way and is sent again"
            ),
            "handshake": self._handshake,
            "reply": self._reply,
            "round": self._round,
            "resume": self._resume,
            "stopped": self._stopped,
            "charged-again": self._charged_again,
            "baseline": self._baseline,
            "site-ended": lambda event: self._warn(f"{event['site']}: its process ended, see {event['log']}", "ended"),
            "baseline-failed": lambda event: self._warn(
                f"baseline {event['model']} could not be trained: {event['error']}"
            ),
            "sink-failed": lambda event: self._warn(f"{event['sink']} accepts no more figures: {event['error']}"),
        }

    def _start(self, event: Event) -> None:
        self._metric, self._rounds = event["metric"], event["rounds"]
        self._printed.clear()
        self._epochs.clear()
        self._ready = None
        self.console.print(Text(event["title"], style="bold"))
        for notice in event["notices"]:
            self.console.print(Text(f" {notice} ", style="bold white on red"))
        self.print_line(f"run folder: {event['folder']}", style="dim")

    def _stage(self, event: Event) -> None:
        self.close()
        self.print_line(f"· {event['what']}", style="cyan")

    def _connect(self, event: Event) -> None:
        missing, pending = ", ".join(event.get("missing", ())), event.get("approval", [])
        if event["ready"] != self._ready or missing:
            self._ready = event["ready"]
            text = f"  waiting: {event['ready']} of {_count(event['need'], 'site')} ready"
            text += f", not there yet: {missing} ({event['seconds']} s of {event['limit']})" if missing else ""
            self.print_line(text, "connect")
        if pending and pending != self._pending:
            self.print_line(f"  waiting for the approval of {', '.join(pending)} (wardround site approve, there)")
        self._pending = pending

    def _awaited(self, event: Event) -> None:
        names = ", ".join(event["sites"])
        self.print_line(
            f"  {_describe_step(event)}: waiting for {names} ({event['seconds']} s of {event['limit']})", "awaited"
        )

    def _handshake(self, event: Event) -> None:
        sites = event["sites"]
        if any(site["synthetic"] for site in sites.values()):
            notice = " SYNTHETIC data: generated, not from patients; the figures only show that the program works "
            self.console.print(Text(notice, "bold black on yellow"))
        for name, site in sorted(sites.items()):
            parts = {part: site["counts"][part] for part in ("train", "validation", "test")}
            split = ", ".join(f"{part} {item['patients']} ({item['examples']:,})" for part, item in parts.items())
            self.print_line(f"  {name}: patients (examples) {split}", "sites")
            if empty := [part for part, item in parts.items() if not item["examples"]]:
                self._warn(f"{name} has no patients for {' or '.join(empty)}", "empty")
        for name, reason in event.get("refused", {}).items():
            self._warn(f"{name} does not take part: {reason}", "refused")
        self._show(0, self._rounds, f"round 1 of {self._rounds}: train")

    def _resume(self, event: Event) -> None:
        for name in event.get("damaged", ()):
            self._warn(f"checkpoint {name} is damaged: an earlier one is used")
        done, rounds = event["round"], event["rounds"]
        self.print_line(f"  goes on after round {done} of {rounds}")
        self._show(done, rounds, f"round {min(done + 1, rounds)} of {rounds}: train")

    def _stopped(self, event: Event) -> None:
        metric, patience = METRICS[event["metric"]].title, _count(event["patience"], "round")
        self.print_line(
            f"  stops after round {event['round']} of at most {event['rounds']}: no better validation {metric} for "
            f"{patience}; round {event['chosen']} is the best and is tested"
        )

    def _charged_again(self, event: Event) -> None:
        what = f"round {event['round']}" if event["round"] else "the sums before round 1"
        spent = "infinite" if event["epsilon_run"] is None else f"{event['epsilon_run']:.3f}"
        self._warn(
            f"{event['site']}: {what} had been charged before and its result was lost: both charges count, "
            f"epsilon {spent} so far",
            "charged",
        )

    def _reply(self, event: Event) -> None:
        if event["phase"] in ("handshake", "canary"):
            return
        number, waiting = event["round"], event["waiting"]
        remaining = f", {_count(waiting, 'site')} to go" if waiting else ""
        if event["phase"] == "test":
            self._show(self._rounds, self._rounds, f"final evaluation{remaining}")
            return
        share = 0.0 if event["phase"] == "validate" else waiting / max(event["sites"], 1)
        text = f"round {number} of {self._rounds}: {event['phase']}{remaining}"
        self._show(number - 1 + 0.95 * (1 - share), self._rounds, text)

    def _round(self, event: Event) -> None:
        number, total = event["round"], event["rounds"]
        if self._is_printed(number, total):
            self.print_line(self._describe_round(event))
        for site, reason in event["lost"].items():
            self._warn(f"{site} lost in round {number}: {reason}", "lost")
        self._show(number, total, f"round {min(number + 1, total)} of {total}: train")

    def _is_printed(self, number: int, total: int) -> bool:
        """Return whether a round gets a line: every one on a terminal; else the first, the last and some between."""
        step = 1 if self.console.is_terminal else math.ceil(total / MAX_PIPE_LINES)
        return number in (1, total) or number % step == 0

    def _describe_round(self, event: Event) -> str:
        number = event["round"]
        trained = [site["train"] for site in event["sites"].values() if "train" in site]
        text = f"  round {number} of {event['rounds']}: {_count(len(trained), 'site')}"
        known = [item for item in trained if "loss" in item]  # a site that trains privately reports no loss
        if weight := sum(item["examples"] for item in known):
            text += f", loss {sum(item['loss'] * item['examples'] for item in known) / weight:.3f}"
        if spent := [item["privacy"]["epsilon_run"] for item in trained if item.get("privacy")]:
            text += f", epsilon {max(spent):.3f} at most"
        metric = METRICS[self._metric]
        if (checked := event.get("validation")) and checked.get(metric.name) is not None:
            text += f", validation {metric.title} {metric.format(checked[metric.name])}"
            text += " (best so far)" if event["chosen"] == number else ""
        return f"{text}, {event['seconds']:.1f} s"

    def _baseline(self, event: Event) -> None:
        """Move the one bar of all baselines."""
        self._epochs[event["model"]] = event["epoch"], event["epochs"]
        every = list(self._epochs.values())
        trained = sum(epoch == epochs for epoch, epochs in every)
        text = f"{trained} of {_count(len(every), 'baseline')} trained"
        self._show(sum(epoch for epoch, _ in every), sum(epochs for _, epochs in every), text)

    def _warn(self, text: str, kind: str = "") -> None:
        self.print_line(f"  {text}", kind, "yellow")

    def _show(self, done: float, total: float, text: str) -> None:
        """Move the bar, but never back, as a round may end when the next has trained; time left assumes the pace."""
        self._position = done = done if self.bar is None else max(done, self._position)
        if self.bar is None:
            columns = [
                TextColumn("  {task.description:<44}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
            ]
            self.start_bar(columns, text, total=total, left="")
        elapsed = time.monotonic() - self._started
        left = _format_time_left(elapsed / done * (total - done)) if 0 < done < total else ""
        self.update_bar(completed=done, total=total, description=text, left=left)


def _describe_step(event: Event) -> str:
    """Return which part of a run an event is about, such as "round 3" or "scaling"."""
    names = {"train": f"round {event['round']}", "validate": f"validation of round {event['round']}"}
    return names.get(event["phase"], "final evaluation" if event["phase"] == "test" else str(event["phase"]))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _format_time_left(seconds: float) -> str:
    if seconds < 100:
        return f"about {max(seconds, 1):.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 6000 else f"about {seconds / 3600:.1f} h left"
