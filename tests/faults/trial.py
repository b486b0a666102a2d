"""Runs under faults: each is resumed until it is complete, and then compared with a run that nothing happened to."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

from client.gate.audit_log import AuditLog, get_audit_path
from client.privacy.ledger import Ledger, get_ledger_path
from common import config
from common.run_folder import RunFolder
from experiments.engines.local import run_local
from tests.faults.deployment import Deployment, read_tail
from tests.faults.injection import Fault, Injector

RUN_SECONDS = 900.0
"""Most seconds for one run with all its faults; a busy machine needs many."""
MESSAGE_SECONDS = 60.0
"""Most seconds that a fault waits for a hospital's message."""
PATIENCE = 8
"""Most resumes in a row without a further fault."""


@dataclass
class Record:
    """What happened in a trial.

    Attributes:
        faults: the faults that were carried out.
        runs: complete runs.
        resumes: how often a run was resumed.
        lines: what happened, a line each.
    """

    faults: list[Fault] = field(default_factory=list)
    runs: int = 0
    resumes: int = 0
    lines: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """Write down what happened, with the time."""
        self.lines.append(f"{time.monotonic() - self.start:7.1f} s  {text}")
        print(self.lines[-1], flush=True)


class Schedule:
    """Says when the next fault is due.

    Args:
        root: the folder that the run's folder is in, or will be.
        pause: seconds before its delay counts.
    """

    def __init__(self, root: Path, pause: float = 0.0) -> None:
        self._root, self._start = root, time.monotonic() + pause
        self._size = self._events_size()
        self._message: float | None = None

    def is_due(self, fault: Fault) -> bool:
        """Return whether it is time for a fault; one that waits for a message of a hospital waits at most a minute."""
        now = time.monotonic()
        if not fault.in_round or now > self._start + MESSAGE_SECONDS:
            return now > self._start + fault.delay
        if self._message is None and now > self._start and self._events_size() > self._size:
            self._message = now
        return self._message is not None and now > self._message + fault.delay

    def _events_size(self) -> int:
        return sum(path.stat().st_size for path in self._root.glob("*/events.jsonl"))


def run_unbroken(raw: Mapping[str, Any], folder: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a run of the local engine with the same settings gives."""
    run_local(config.parse_config(dict(raw), settings), folder, 2)
    return read_results(folder)


def read_results(folder: Path) -> dict[str, Any]:
    """Return the weights of each round, the chosen round, the final weights and the test's figures."""
    outcome = json.loads(RunFolder(folder).outcome.read_text())
    lines = [json.loads(line) for line in RunFolder(folder).rounds.read_text().splitlines()]
    return {
        "status": outcome["status"],
        "rounds": [(line["round"], line["weights"]) for line in lines],
        "chosen": outcome["chosen"],
        "weights": outcome["weights"],
        "test": outcome["test"],
        "partial": outcome["partial"],
    }


def carry_out(
    deployment: Deployment, raw: Mapping[str, Any], faults: deque[Fault], record: Record, expected: Mapping[str, Any]
) -> Path:
    """Carry out one run to its end under faults, check what it left, and return its folder.

    Args:
        deployment: where; its services are restarted when they end.
        raw: the run's configuration.
        faults: the faults that are left; those that are carried out during this run are removed.
        record: is added to.
        expected: what an unbroken run gives.
    """
    injector = Injector(deployment)
    root = deployment.root / "runs" / f"{record.runs:03d}"
    log = deployment.root / f"run-{record.runs:03d}.log"
    file = deployment.write_config(deployment.root / f"run-{record.runs:03d}.yaml", raw)
    process: Popen[bytes] | None = deployment.start_run(log, str(file), "--runs", str(root))
    schedule = Schedule(root)
    deadline, patience, retry = time.monotonic() + RUN_SECONDS, PATIENCE, 0.0
    while True:
        assert time.monotonic() < deadline, f"the run did not end: {record.lines[-8:]}\n{deployment.describe()}"
        deployment.tend()
        injector.heal_if_over()
        if faults and injector.active is None and schedule.is_due(faults[0]) and injector.inject(faults[0]):
            record.faults.append(faults.popleft())
            record.note(f"run {record.runs}: {record.faults[-1]}")
            patience = PATIENCE
            schedule = Schedule(root, injector.active_seconds())
        if process is None and time.monotonic() > retry:
            process = deployment.start_run(log, *choose_arguments(root, file))
            record.resumes += 1
        elif process is not None and process.poll() is not None:
            if process.returncode == 0:
                break
            record.note(f"run {record.runs}: ended with {process.returncode}: {read_tail(log, 2)[-220:]}")
            process, patience, retry = None, patience - 1, time.monotonic() + 1.0
            assert patience, f"the run cannot be resumed: {record.lines[-12:]}\n{deployment.describe()}"
        time.sleep(0.1)
    while injector.active is not None:
        deployment.tend()
        injector.heal_if_over()
        time.sleep(0.1)
    folder = max(root.glob("*"))  # one before could not even be described
    check_run(folder, expected)
    record.runs += 1
    return folder


def choose_arguments(root: Path, file: Path) -> list[str]:
    """Return what an operator gives the command after a run has ended: the run, or the configuration again.

    A run whose folder could not even be described is started anew.
    """
    folder = max(root.glob("*"), default=None) if root.is_dir() else None
    if folder is not None and RunFolder(folder).about.is_file():
        return ["--resume", str(folder)]
    return [str(file), "--runs", str(root)]


def check_run(folder: Path, expected: Mapping[str, Any]) -> None:
    """Check that a run is whole and equals an unbroken one."""
    actual = read_results(folder)
    assert actual == expected, folder
    files = RunFolder(folder)
    assert json.loads(files.about.read_text())["status"] == "complete"
    for path in (files.report, files.report_page, files.sites_table, files.summary, files.model_card):
        assert path.stat().st_size, path
    for line in files.events.read_text().splitlines():
        json.loads(line)
    assert list(folder.rglob("*.part")) == []


def check_hospital(deployment: Deployment, name: str) -> None:
    """Check that a hospital's records are whole: audit log, ledger, and no half-written file."""
    state = deployment.root / name / "state"
    assert AuditLog(get_audit_path(state / "runs", name)).find_fault() == ""
    assert list(state.rglob("*.part")) == [], name
    ledger = get_ledger_path(state / "runs", name)
    if ledger.is_file():
        assert Ledger.read(ledger).rows()


def check_charges(deployment: Deployment, name: str, folder: Path) -> int:
    """Check that a hospital's ledger holds what a run reported and what was lost; return the number of lost charges."""
    rows = Ledger.read(get_ledger_path(deployment.root / name / "state" / "runs", name)).rows()
    lines = [json.loads(line) for line in RunFolder(folder).rounds.read_text().splitlines()]
    stated = [line["sites"][name]["train"]["privacy"] for line in lines]
    (run,) = {row.run for row in rows if row.run in read_run_ids(folder)}
    own = [row for row in rows if row.run == run]
    assert {row.round for row in own} == {line["round"] for line in lines}
    assert sum(item["steps"] + item.get("lost_steps", 0) for item in stated) == sum(row.steps for row in own)
    assert stated[-1]["epsilon_run"] == own[-1].epsilon_run
    return len(own) - len(lines)


def read_run_ids(folder: Path) -> set[str]:
    """Return the id of a run as its checkpoints hold it."""
    from server.checkpoints import CheckpointFolder

    checkpoints = CheckpointFolder(folder)
    return {checkpoints.read(number).run_id for number in checkpoints.rounds()}


def check_server(deployment: Deployment) -> None:
    """Check that the server's database is whole, and that nothing half-written lies in its folder."""
    with closing(sqlite3.connect(f"file:{deployment.state / 'federation.db'}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert list(deployment.state.rglob("*.part")) == []
