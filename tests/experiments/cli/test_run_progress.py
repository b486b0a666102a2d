"""What a person and a script see of a run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.cli.run_progress import MAX_PIPE_LINES, JsonPrinter, QuietPrinter, RunPrinter, _format_time_left
from experiments.watcher import baseline_event, stage_event, start_event
from tests import tiny


def part(patients: int, examples: int) -> dict[str, Any]:
    return {"patients": patients, "examples": examples, "classes": [examples, 0, 0]}


def said(**parts: Any) -> dict[str, Any]:
    counts = {"train": part(4, 1200), "validation": part(1, 300), "test": part(2, 500)} | parts
    return {"synthetic": True, "counts": counts}


def round_(number: int, **changes: Any) -> dict[str, Any]:
    sites = {
        "east": {"train": {"examples": 30, "loss": 1.0}},
        "north": {"train": {"examples": 10, "loss": 2.0}},
    }
    return {
        "event": "round", "round": number, "rounds": 3, "sites": sites, "lost": {}, "chosen": number,
        "validation": {"macro_f1": 0.5}, "seconds": 1.25, **changes,
    }  # fmt: skip


@pytest.fixture
def screen() -> tuple[RunPrinter, io.StringIO]:
    out = io.StringIO()
    return RunPrinter(Console(file=out, width=100, force_terminal=False)), out


def test_the_lines_of_a_run(screen: tuple[RunPrinter, io.StringIO]) -> None:
    terminal, out = screen
    config = tiny.run_config(title="A title [not markup]", federation__rounds=3, sites__split="beat-level")
    terminal.handle(start_event(Path("runs/x"), config))
    terminal.handle(stage_event("federation on the local engine"))
    terminal.handle({"event": "connect", "online": 0, "ready": 0, "need": 1})
    sites = {"east": said(), "north": said(test=part(0, 0))}
    terminal.handle({"event": "handshake", "sites": sites, "refused": {"west": "no data"}})
    reply = {"event": "reply", "phase": "train", "round": 1, "sites": 2, "site": "east", "ok": True}
    terminal.handle({**reply, "waiting": 1})
    terminal.handle(round_(1))
    terminal.handle(round_(2, chosen=1, lost={"north": "went offline"}))
    terminal.handle({"event": "reply", "phase": "test", "round": 1, "sites": 2, "waiting": 0, "site": "e", "ok": True})
    terminal.handle({"event": "site-ended", "site": "north", "log": "logs/north.log"})
    terminal.handle({"event": "baseline-failed", "model": "local:north", "error": "loss"})
    terminal.handle({"event": "done", "status": "complete"})
    terminal.handle(baseline_event("pooled", 0, 3))
    terminal.handle(baseline_event("pooled", 3, 3))
    terminal.close()
    text = out.getvalue()
    for line in (
        "A title [not markup]",
        "LEAKY beat-level split",
        "run folder: runs/x",
        "waiting: 0 of 1 site ready",
        "SYNTHETIC data",
        "east: patients (examples) train 4 (1,200), validation 1 (300), test 2 (500)",
        "north has no patients for test",
        "west does not take part: no data",
        # (30 * 1 + 10 * 2) / 40
        "round 1 of 3: 2 sites, loss 1.250, validation macro-F1 0.500 (best so far), 1.2 s",
        "round 2 of 3: 2 sites, loss 1.250, validation macro-F1 0.500, 1.2 s",
        "north lost in round 2: went offline",
        "north: its process ended, see logs/north.log",
        "baseline local:north could not be trained: loss",
    ):
        assert line in text


def test_a_run_that_stops_early_says_after_which_round_and_why(screen: tuple[RunPrinter, io.StringIO]) -> None:
    terminal, out = screen
    event = {"round": 14, "rounds": 100, "chosen": 4, "patience": 10, "metric": "macro_auroc"}
    terminal.handle({"event": "stopped", **event})
    assert " ".join(out.getvalue().split()) == (
        "stops after round 14 of at most 100: no better validation macro-AUROC for 10 rounds; round 4 is the best and "
        "is tested"
    )


def test_one_bar_that_only_moves_on(screen: tuple[RunPrinter, io.StringIO]) -> None:
    terminal, _ = screen
    terminal.handle(start_event(Path("runs/x"), tiny.run_config(federation__rounds=3)))
    terminal.handle({"event": "handshake", "sites": {"east": said()}, "refused": {}})
    done: list[float] = []
    texts: list[str] = []

    def look() -> None:
        assert terminal.bar is not None
        (task,) = terminal.bar.tasks
        assert task.total == 3
        done.append(task.completed)
        texts.append(task.description)

    look()
    for number in (1, 2, 3):
        for phase in ("train", "validate"):
            for waiting in (1, 0):
                what = {"phase": phase, "round": number, "sites": 2, "waiting": waiting}
                terminal.handle({"event": "reply", **what})
                look()
        terminal.handle(round_(number))
        look()
    terminal.handle({"event": "reply", "phase": "test", "round": 2, "sites": 2, "waiting": 1})
    look()
    terminal.close()
    assert done == sorted(done)
    assert done[-1] == 3
    assert texts[1] == "round 1 of 3: train, 1 site to go"
    assert texts[-1] == "final evaluation, 1 site to go"


def test_the_bar_of_the_baselines(screen: tuple[RunPrinter, io.StringIO]) -> None:
    terminal, _ = screen
    for name in ("pooled", "local:a"):
        terminal.handle(baseline_event(name, 0, 4))
    terminal.handle(baseline_event("pooled", 4, 4))
    terminal.handle(baseline_event("local:a", 1, 4))
    assert terminal.bar is not None
    (task,) = terminal.bar.tasks
    assert (task.completed, task.total, task.description) == (5, 8, "1 of 2 baselines trained")
    assert task.fields["left"].endswith("left")
    terminal.close()
    terminal.close()


def test_time_left_in_words() -> None:
    assert [_format_time_left(n) for n in (0.2, 59.6, 150, 7300)] == [
        "about 1 s left",
        "about 60 s left",
        "about 2 min left",
        "about 2.0 h left",
    ]


def test_json_lines_are_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonPrinter()
    lines.handle(start_event(Path("runs/x"), tiny.run_config()))
    lines.handle(stage_event("reading"))
    lines.handle(round_(1))
    lines.handle(baseline_event("pooled", 1, 2))
    lines.close()
    result = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["event"] for item in result] == ["start", "stage", "round", "baseline"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = QuietPrinter()
    quiet.handle(start_event(Path("x"), tiny.run_config()))
    quiet.handle(stage_event("x"))
    quiet.handle(round_(1))
    quiet.handle(baseline_event("x", 1, 2))
    quiet.close()
    assert capsys.readouterr() == ("", "")


def test_a_run_into_a_pipe_prints_a_bounded_number_of_lines(screen: tuple[RunPrinter, io.StringIO]) -> None:
    terminal, out = screen
    terminal.handle(start_event(Path("runs/x"), tiny.run_config(federation__rounds=200)))
    for ready in (0, 0, 0, 1):
        terminal.handle({"event": "connect", "ready": ready, "need": 1})
    terminal.handle({"event": "handshake", "sites": {f"site-{n}": said() for n in range(99)}, "refused": {}})
    for number in range(1, 201):
        terminal.handle(round_(number, rounds=200, lost={"north": "went offline"}))
    lines = out.getvalue().splitlines()
    assert len(lines) < 80
    assert [line.split()[1] for line in lines if line.startswith("  round")] == ["1", *map(str, range(10, 201, 10))]
    assert sum("lost in round" in line for line in lines) == MAX_PIPE_LINES
    assert sum("waiting" in line for line in lines) == 2
    assert sum("further lines of this kind are not printed" in line for line in lines) == 2  # hospitals, lost sites


def test_a_terminal_shows_every_round() -> None:
    out = io.StringIO()
    terminal = RunPrinter(Console(file=out, width=100, force_terminal=True, color_system=None))
    terminal.handle(start_event(Path("runs/x"), tiny.run_config(federation__rounds=60)))
    for number in range(1, 61):
        terminal.handle(round_(number, rounds=60))
    terminal.close()
    assert out.getvalue().count("loss 1.250") == 60
