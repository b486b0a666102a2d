"""Whole commands by part: which event ends which part, one small run, and the comparison with a saved measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import DataError, UsageError
from experiments.bench.commands import PARTS, find_part, measure_commands, render_commands_table
from experiments.bench.compare import compare_measurements, read_measurements, render_comparison

EVENTS = (
    {"event": "stage", "what": "reading the data"},
    {"event": "start"},
    {"event": "reply"},
    {"event": "handshake"},
    {"event": "round", "round": 1},
    {"event": "round", "round": 2},
    {"event": "round", "round": 3},
    {"event": "done"},
    {"event": "stage", "what": "comparing north with south"},
    {"event": "stage", "what": "training the baselines"},
    {"event": "baseline", "model": "pooled"},
    {"event": "stage", "what": "writing the report"},
    {"event": "report"},
)
SMALL = (
    "data.options.hospitals=2",
    "data.options.patients=6",
    "data.options.minutes=1.0",
    "federation.rounds=2",
    "evaluation.bootstrap=0",
    "baselines.local=false",
)


def test_events_end_the_parts_in_order() -> None:
    ended: list[str] = []
    for event in EVENTS:
        if part := find_part(event, ended):
            ended.append(part)
    assert list(dict.fromkeys(ended)) == list(PARTS[:-1])
    assert ended.count("later rounds") == 2


@pytest.mark.slow
def test_the_parts_of_a_run_are_the_whole_of_it() -> None:
    measured = measure_commands(["synthetic"], SMALL, 1)
    [command] = measured["commands"]
    assert set(command["parts"]) == set(PARTS)
    assert sum(part["seconds"] for part in command["parts"].values()) == pytest.approx(command["seconds"], abs=0.1)
    assert sum(part["processor"] for part in command["parts"].values()) == pytest.approx(command["processor"], abs=0.3)
    assert command["megabytes"] > 100
    assert "| whole command | " in render_commands_table(measured)


def test_a_command_that_fails_is_named() -> None:
    with pytest.raises(UsageError, match=r"^no configuration file no_such"):
        measure_commands(["no_such"], [], 1)


def test_each_figure_is_compared_with_that_of_its_name() -> None:
    before = {"cores": 2, "commands": [{"command": "run a", "seconds": 4.0}, {"command": "run b", "seconds": 0}]}
    now = {"cores": 2, "commands": [{"command": "run b", "seconds": 3}, {"command": "run a", "seconds": 1.0, "new": 1}]}
    now["commands"][1]["turns"] = [1.0, 2.0]  # type: ignore[index]
    assert compare_measurements(now, before) == [
        ("cores", 2, 2, 1.0),
        ("commands, run b, seconds", 0, 3, None),
        ("commands, run a, seconds", 4, 1, 0.25),
    ]
    assert "| commands, run a, seconds | 4 | 1 | 0.25 |" in render_comparison(now, before)


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_file_that_holds_no_measurement(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "before.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"--compare .*before\.json: needs a file that"):
        read_measurements(path)


def test_another_benchmark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text(json.dumps([{"hospitals": 10, "start": 1.0}]))
    with pytest.raises(DataError, match="another benchmark"):
        render_comparison({"commands": []}, read_measurements(path))
