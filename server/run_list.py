"""The runs that a server has carried, in the order of their start: a line each in `runs.jsonl` of its state folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.files import append_json_line
from common.run_folder import RunFolder
from server.site_registry import REGISTRY_VARIABLE

FILE_NAME = "runs.jsonl"


@dataclass(frozen=True)
class RunStart:
    """The start of a run's server part; a run that is continued after a break starts again.

    Attributes:
        time: seconds since 1970.
        run: the server's number of the run.
        name: the configuration's name.
        rounds: rounds that it plans.
        folder: the coordinator's run folder.
    """

    time: float
    run: str
    name: str
    rounds: int
    folder: str


def record_run(run: str, name: str, rounds: int, folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Append a run's start to `runs.jsonl` in the server's state folder; in a simulation, which has none, do nothing.

    A canary is no run, and its folder is removed: it is not listed.

    Args:
        run: the server's number of the run.
        name: the configuration's name.
        rounds: rounds that the run plans.
        folder: the coordinator's run folder.
        environment: environment variables, of which one names the file of registered sites in the state folder.
    """
    registry = environment.get(REGISTRY_VARIABLE)
    if registry and not RunFolder(folder).canary.is_file():
        start = RunStart(round(time.time(), 3), run, name, rounds, str(folder.resolve()))
        with suppress(OSError):  # the list is for people; a run does not depend on it
            append_json_line(Path(registry).with_name(FILE_NAME), asdict(start))


def read_runs(state: Path) -> list[RunStart]:
    """Return the runs that a server has carried; of those that were continued each start."""
    try:
        lines = (state / FILE_NAME).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    runs = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            raw = json.loads(line)
            runs.append(RunStart(**{item.name: raw[item.name] for item in fields(RunStart)}))
    return runs
