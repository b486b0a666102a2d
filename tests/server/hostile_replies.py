"""Replies that are broken or hostile, and runs in which one site sends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from client.site import Site
from common.metrics.counts import Counts
from common.replies import Reply
from common.requests import Request
from server import app
from tests import tiny
from tests.wire import Answer, FakeGrid, Script, change_json, site_script

MARKUP = "<script>alert(1)</script>\x1b[31m"


def hostile(script: Script, kind: str, change: Callable[[Any], Answer]) -> Script:
    """Return a script whose replies of one kind are changed."""

    def answer(request: Request) -> Answer:
        reply = script(request)
        return change(reply) if request.kind == kind else reply

    return answer


def run_with(sites: dict[str, Site], kind: str, change: Callable[[Any], Answer], out: Path, **more: Any) -> Any:
    """Return the outcome of a run in which west's replies of one kind are changed."""
    scripts = [site_script(site) for site in sites.values()]
    scripts[-1] = hostile(scripts[-1], kind, change)
    sections = {"federation__rounds": 2, "data__scaling": "standard", "evaluation__domain_shift": True, **more}
    app.run_federation(FakeGrid(scripts), tiny.run_config(**sections), out)
    text = (out / "federated.json").read_text(encoding="utf-8")
    assert "\\u001b" not in text
    return json.loads(text)


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Reply], RecordDict]:
    """Return a change of a reply's JSON."""
    return lambda reply: change_json(reply, change)


def without(*path: str) -> Callable[[Reply], RecordDict]:
    """Return a change of a reply's JSON: a key less."""

    def change(report: dict[str, Any]) -> None:
        *inner, last = path
        for key in inner:
            report = report[key]
        del report[last]

    return edit(change)


def having(value: Any, *path: str) -> Callable[[Reply], RecordDict]:
    """Return a change of a reply's JSON: another value."""

    def change(report: dict[str, Any]) -> None:
        *inner, last = path
        for key in inner:
            report = report[key]
        report[last] = value

    return edit(change)


def tables_as(change: Callable[[Counts], Counts]) -> Callable[[Any], Answer]:
    return lambda reply: replace(reply, tables={name: change(counts) for name, counts in reply.tables.items()})


def counts_times(factor: int) -> Callable[[Counts], Counts]:
    return lambda counts: replace(counts, confusion=counts.confusion * factor, scores=counts.scores * factor)
