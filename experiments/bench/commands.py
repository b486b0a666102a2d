"""Whole commands by part: where the seconds between a user's return key and the next prompt go.

The command runs in a process of its own and prints its events; the part that ends with an event gets the time since the
event before. Processor time is that of the process and its children.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from common.errors import EngineError, UsageError
from experiments.markdown_table import render_markdown_table

PARTS = (
    "start of the program",
    "reading the data",
    "loading the sites, handshake",
    "first round",
    "later rounds",
    "test",
    "two-sample test",
    "baselines",
    "report",
    "end of the program",
)
_PROGRAM = "from experiments.cli.launcher import main; main()"


def measure_commands(configs: Sequence[str], settings: Sequence[str], turns: int) -> dict[str, Any]:
    """Return the seconds, processor seconds and memory of `wardround run CONFIG`, whole and by part.

    Args:
        configs: configurations; they take turns, so that a change of the machine's load meets all of them.
        settings: `key=value` overrides for all.
        turns: runs of each; the results are medians over them, and every whole time is listed.

    Raises:
        EngineError: a run failed.
        UsageError: a configuration or a setting is wrong.
    """
    load = os.getloadavg()[0]
    taken: dict[str, list[dict[str, Any]]] = {config: [] for config in configs}
    for _ in range(turns):
        for config in configs:
            with tempfile.TemporaryDirectory() as runs:
                overrides = [word for setting in settings for word in ("--set", setting)]
                taken[config].append(_measure_run(["run", config, "--runs", runs, "--json", *overrides]))
    return {
        "cores": os.cpu_count(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "commands": [_summarise(config, list(settings), taken[config]) for config in configs],
    }


def find_part(event: Mapping[str, Any], ended: Sequence[str]) -> str:
    """Return the part of a run that ends with an event, "" if none does; `ended`: the parts that have ended.

    >>> find_part({"event": "stage", "what": "reading the data"}, [])
    'start of the program'
    >>> find_part({"event": "round", "round": 2}, ["start of the program", "first round"])
    'later rounds'
    """
    kind, what = event["event"], str(event.get("what", ""))
    if kind == "stage":
        if what == "reading the data":
            return "start of the program"
        if what == "training the baselines":
            return "two-sample test"
        return "baselines" if what == "writing the report" else ""
    if kind == "round":
        return "later rounds" if "first round" in ended else "first round"
    ends = {
        "start": "reading the data",
        "handshake": "loading the sites, handshake",
        "done": "test",
        "report": "report",
    }
    return ends.get(kind, "")


def render_commands_table(measured: Mapping[str, Any]) -> str:
    """Return the measurements as a Markdown table, seconds (processor seconds) in each cell."""
    commands = measured["commands"]
    rows = [
        [part, *(_render_cell(command["parts"].get(part)) for command in commands)]
        for part in PARTS
        if any(part in command["parts"] for command in commands)
    ]
    rows.append(["whole command", *(_render_cell(command) for command in commands)])
    rows.append(["peak memory, MB", *(str(command["megabytes"]) for command in commands)])
    load, numbers = measured["load"], range(1, len(commands) + 1)
    table = render_markdown_table(["part", *(command["command"] for command in commands)], rows, numbers)
    return f"{table}\n\nseconds (processor seconds); load {load[0]} to {load[1]} on {measured['cores']} cores"


def _render_cell(item: Mapping[str, float] | None) -> str:
    return f"{item['seconds']:.1f} ({item['processor']:.1f})" if item else ""


def _measure_run(words: Sequence[str]) -> dict[str, Any]:
    """Return the times of one command and of its parts."""
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    parts: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryFile("w+") as log:
        start = last = time.perf_counter()
        used = 0.0
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *words], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        watched = psutil.Process(process.pid)
        try:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    part = find_part(json.loads(line), list(parts))
                    if not part:
                        continue
                    now, processor = time.perf_counter(), _read_processor_time(watched)
                    entry = parts.setdefault(part, {"seconds": 0.0, "processor": 0.0})
                    entry["seconds"] += now - last
                    entry["processor"] += processor - used
                    last, used = now, processor
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        end = time.perf_counter()
        log.seek(0)
        problems = log.read().strip().splitlines()
    if process.returncode:
        reason = (problems or ["no output"])[-1].removeprefix("wardround: ")
        if process.returncode == UsageError.exit_code:
            raise UsageError(reason)
        raise EngineError(f"wardround {' '.join(words[:2])} failed: {reason}")
    total = usage.ru_utime + usage.ru_stime
    parts["end of the program"] = {"seconds": end - last, "processor": max(0.0, total - used)}
    return {"seconds": end - start, "processor": total, "megabytes": usage.ru_maxrss // 1024, "parts": parts}


def _read_processor_time(process: psutil.Process) -> float:
    """Return the processor seconds of a process, and of its children that have ended or still run."""
    total = 0.0
    with suppress(psutil.Error):
        total += sum(process.cpu_times()[:4])
        for child in process.children(recursive=True):
            with suppress(psutil.Error):
                total += sum(child.cpu_times()[:4])
    return total


def _summarise(config: str, settings: list[str], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the medians of a command's runs."""

    def take_median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 2)

    return {
        "command": f"run {config}",
        "settings": settings,
        "turns": [round(run["seconds"], 2) for run in runs],
        "seconds": take_median([run["seconds"] for run in runs]),
        "processor": take_median([run["processor"] for run in runs]),
        "megabytes": round(statistics.median(run["megabytes"] for run in runs)),
        "parts": {
            part: {key: take_median([run["parts"][part][key] for run in runs]) for key in ("seconds", "processor")}
            for part in PARTS
            if all(part in run["parts"] for run in runs)
        },
    }
