"""A run in memory, its scripted sites, and the files that it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from client.site import Site
from common.config import RunConfig
from common.metrics.counts import Counts
from common.metrics.table_names import ALL_PATIENTS
from common.replies import HandshakeReply, ValidateReply
from common.reports import HandshakeCounts, HandshakeReport, SplitCounts, ValidateReport
from common.request_record import PROTOCOL
from common.requests import HandshakeRequest, Request, ValidateRequest
from server import app
from tests import tiny
from tests.wire import Answer, FakeGrid, Script, change_report, site_script


def scripts(sites: dict[str, Site]) -> list[Script]:
    return [site_script(site) for site in sites.values()]


def quiet(event: dict[str, Any]) -> None:
    """Listen to nothing."""


def lead(grid: FakeGrid, config: RunConfig, out: Path, listen: Callable[[Any], None] = quiet) -> Any:
    """Run the server and return its outcome."""
    app.run_federation(grid, config, out, listen)
    return outcome(out)


def strictly(text: str) -> Any:
    """Read JSON that holds no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def outcome(out: Path) -> Any:
    for line in (out / "events.jsonl").read_text().splitlines():
        strictly(line)
    assert not list(out.glob("*.part"))
    return strictly((out / "federated.json").read_text())


def lines(out: Path) -> list[Any]:
    return [strictly(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


def scored(script: Script, right: dict[int, int], asked: list[Request]) -> Script:
    """Return a script of which `right[round]` of 10 validation examples are predicted well; it lists what is asked."""

    def answer(request: Request) -> Answer:
        asked.append(request)
        if isinstance(request, HandshakeRequest):
            reply = script(request)
            held = SplitCounts(patients=1, examples=10, classes=(10, 0, 0))
            return change_report(reply, counts=reply.report.counts.model_copy(update={"validation": held}))
        if not isinstance(request, ValidateRequest):
            return script(request)
        counts = np.zeros((3, 3), np.int64)
        counts[0, 0], counts[0, 1] = right[request.round], 10 - right[request.round]
        tables = {ALL_PATIENTS: Counts(counts, np.zeros((3, 2, 64), np.int64), np.zeros(()))}
        return ValidateReply("ignored", ValidateReport(patients=1), tables=tables)

    return answer


def fails_in(script: Script, wrong: Callable[[Request], Answer], kind: str, rounds: set[int]) -> Script:
    """Return a script that goes wrong in some rounds of one kind."""

    def answer(request: Request) -> Answer:
        return wrong(request) if request.kind == kind and request.round in rounds else script(request)

    return answer


def confusion(right: int, wrong: int) -> np.ndarray:
    """Two classes: `right` of the first are found, `wrong` are taken for the second, which is always found."""
    return np.array([[right, wrong, 0], [0, 10, 0], [0, 0, 0]], dtype=np.int64)


def hello(name: str, task: Any = tiny.TASK, **changes: Any) -> Script:
    """Return a site that only says hello."""
    part = SplitCounts(patients=1, examples=3, classes=(1, 1, 1))
    report = HandshakeReport(
        protocol=PROTOCOL, task=task, fingerprint=task.fingerprint(), synthetic=True, split="patient", warning="",
        excluded={}, shift={}, counts=HandshakeCounts(train=part, validation=part, test=part), device="cpu",
    )  # fmt: skip
    return lambda request: HandshakeReply(name, report.model_copy(update=changes))
