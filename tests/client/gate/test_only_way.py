"""Every request passes the gate before any work, and every reply before it leaves: any other way is shut."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import client
from client import requests
from client.gate.audit_trail import AuditTrail
from client.gate.release import check_reply
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site_context import SiteContext
from common.errors import SiteError
from common.replies import ScalingReply, TrainReply
from common.reports import ScalingReport, TrainReport
from common.requests import HandshakeRequest, ScalingRequest, TrainRequest
from tests import tiny

CLIENT = Path(client.__file__).parent


def calls(path: Path) -> set[str]:
    """Return the names of the functions that a module calls."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found.add(node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
    return found


def test_only_the_one_door_answers_requests() -> None:
    handlers = {function.__name__ for function in requests.HANDLERS.values()}
    callers = {str(path.relative_to(CLIENT)) for path in CLIENT.rglob("*.py") if calls(path) & handlers}
    assert callers == set()  # they are called through HANDLERS alone
    table = {
        str(path.relative_to(CLIENT)) for path in CLIENT.rglob("*.py") if "HANDLERS" in path.read_text(encoding="utf-8")
    }
    assert table == {"requests/__init__.py"}
    assert calls(CLIENT / "app.py") >= {"handle"}
    packing = {"pack_reply", "pack_replies"}
    packers = {str(path.relative_to(CLIENT)) for path in CLIENT.rglob("*.py") if packing & calls(path)}
    assert packers == {"app.py"}  # what was released and logged is what is packed


def test_only_the_door_decides_what_the_audit_log_says() -> None:
    users = {str(path.relative_to(CLIENT)) for path in CLIENT.rglob("*.py") if "AuditTrail" in calls(path)}
    assert users == {"requests/__init__.py"}


def test_the_door_has_both_sides_of_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    reply = ScalingReply("north", ScalingReport())
    monkeypatch.setattr(requests, "admit", lambda *_: seen.append("admit"))
    monkeypatch.setattr(requests, "check_reply", lambda *_: seen.append("check"))
    monkeypatch.setattr(AuditTrail, "record_admission", lambda _: seen.append("log admission"))
    monkeypatch.setattr(AuditTrail, "record_release", lambda *_: seen.append("log release"))
    every = {kind: lambda *_: seen.append("work") or reply for kind in requests.HANDLERS}
    monkeypatch.setattr(requests, "HANDLERS", every)
    for kind in every:
        seen.clear()
        assert requests.handle(SiteContext(SIMULATION_POLICY), kind(tiny.run_config())) is reply
        assert seen == ["admit", "log admission", "work", "check", "log release"]


def test_what_is_refused_is_not_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "HANDLERS", {HandshakeRequest: lambda *_: pytest.fail("no work may be done")})
    context = SiteContext(SitePolicy(), site="north", data=tmp_path, state=tmp_path / "runs")
    with pytest.raises(SiteError, match=r"sites\.limit is this hospital's to allow"):
        requests.handle(context, HandshakeRequest(tiny.run_config(sites__limit=1)))


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (ScalingReply("south", ScalingReport()), "not this site's"),
        (TrainReply("north", TrainReport(examples=1)), "not this site's to this request"),
        (
            ScalingReply("north", ScalingReport(), {"total": tiny.cohort(1).features.astype(float) * float("nan")}),
            "finite",
        ),
    ],
)
def test_a_reply_that_must_not_leave_does_not(tmp_path: Path, reply: ScalingReply, why: str) -> None:
    context = SiteContext(SitePolicy(), site="north", data=tmp_path, state=tmp_path)
    with pytest.raises(SiteError, match=why):
        check_reply(context, ScalingRequest(tiny.run_config()), reply)


def test_a_training_loss_leaves_only_where_the_policy_says_so(tmp_path: Path) -> None:
    request = TrainRequest(tiny.run_config(), round=1, run_id="a" * 32)
    reply = TrainReply("north", TrainReport(examples=1, loss=0.5))
    context = SiteContext(SitePolicy(), site="north", data=tmp_path, state=tmp_path)
    with pytest.raises(SiteError, match="training loss"):
        check_reply(context, request, reply)
    check_reply(replace(context, policy=SitePolicy(share_training_loss=True)), request, reply)
