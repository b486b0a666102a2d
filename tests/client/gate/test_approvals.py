"""Runs that wait for the approval of a hospital with SYNTHETIC rows of heart disease patients."""

from __future__ import annotations

import json
import stat
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from client import requests
from client.gate import admission, approvals
from client.gate.approvals import Approval, check_approval, decide, get_approval_file
from client.gate.audit_trail import UNWRITABLE, open_audit_log
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site_context import SiteContext
from common.config import RunConfig, fingerprint_config
from common.errors import ApprovalPending, ConfigError, DataError, SiteError
from common.messages import WAITS_FOR_APPROVAL
from common.requests import HandshakeRequest, Request, TrainRequest
from tests import tiny

RUN, OTHER = "1f" * 16, "2e" * 16
DAY = 24 * 3600.0
NOW = 1_800_000_000.0


@pytest.fixture
def north(tmp_path: Path) -> SiteContext:
    return SiteContext(SitePolicy(approval="required"), site="north", data=tmp_path, state=tmp_path / "runs",
                       server="fl.example.org:443")  # fmt: skip


def handshake(run: str = RUN, **settings: object) -> HandshakeRequest:
    return HandshakeRequest(tiny.run_config(**settings), run)


def train(run: str = RUN, **settings: object) -> TrainRequest:
    return TrainRequest(tiny.run_config(**settings), round=1, run_id=run)


def check(context: SiteContext, request: Request, now: float = NOW) -> None:
    check_approval(context, request, getattr(request, "run_id", ""), now)


def waits(context: SiteContext, request: Request, now: float = NOW) -> bool:
    try:
        check(context, request, now)
    except ApprovalPending as error:
        return str(error).startswith(WAITS_FOR_APPROVAL)
    return False


def known(context: SiteContext) -> dict[str, Approval]:
    assert context.state is not None
    return get_approval_file(context.state, "north").read()


def approve(context: SiteContext, monkeypatch: pytest.MonkeyPatch, days: float = 7, runs: int = 1) -> str:
    monkeypatch.setattr(approvals.time, "time", lambda: NOW)
    (fingerprint,) = (key for key, each in known(context).items() if each.status == "pending")
    decide(context, fingerprint, True, days=days, runs=runs)
    return fingerprint


def test_a_new_run_waits_and_is_written_down_in_words(north: SiteContext) -> None:
    assert waits(north, handshake())
    ((fingerprint, approval),) = known(north).items()
    assert fingerprint == fingerprint_config(tiny.run_config())
    assert (approval.status, approval.server, approval.requested, approval.used) == (
        "pending",
        "fl.example.org:443",
        NOW,
        (),
    )
    assert json.loads(approval.config) == tiny.run_config().model_dump(mode="json")
    path = get_approval_file(north.state or Path(), "north").path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert waits(north, handshake(), NOW + 9)
    assert known(north)[fingerprint].requested == NOW


def test_an_approved_run_goes_on_and_a_changed_one_asks_anew(
    north: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waits(north, handshake())
    approve(north, monkeypatch)
    assert not waits(north, handshake())
    assert not waits(north, train())
    for change in ({"training__lr": 0.02}, {"seed": 5}, {"federation__rounds": 3}, {"privacy__delta": 1e-6}):
        assert waits(north, handshake(**change)), change
    for same in ({"title": "Autumn"}, {"federation__round_timeout": 5.0}, {"evaluation__bins": 16}):
        assert not waits(north, train(**same)), same


def test_an_approval_is_for_one_run_unless_more_were_granted(
    north: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits(north, handshake())
    fingerprint = approve(north, monkeypatch)
    assert not waits(north, handshake(OTHER))  # which may not have started: it uses nothing up
    assert not waits(north, train())
    assert not waits(north, train())
    assert known(north)[fingerprint].used == (RUN,)
    assert waits(north, train(OTHER))
    assert known(north)[fingerprint].status == "pending"
    approve(north, monkeypatch, runs=2)
    assert not any(waits(north, train(run)) for run in (OTHER, RUN, OTHER))
    assert waits(north, train("3d" * 16))


def test_an_approval_ends(north: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(north, handshake())
    approve(north, monkeypatch, days=2)
    assert not waits(north, train(), NOW + 2 * DAY - 1)
    assert waits(north, train(), NOW + 2 * DAY + 1)


def test_the_policy_limits_how_long_an_approval_holds(north: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(north, handshake())
    approve(north, monkeypatch, days=300)
    assert not waits(north, train(), NOW + 6.9 * DAY)
    short = replace(north, policy=SitePolicy(approval="required", approval_days=1))
    assert waits(short, train(), NOW + 1.1 * DAY)


def test_a_declined_run_is_refused_until_it_is_approved(north: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(north, handshake())
    fingerprint = approve(north, monkeypatch)
    decide(north, fingerprint, False, reason="not before the board meets")
    with pytest.raises(SiteError, match="has declined this run") as caught:
        check(north, handshake())
    assert not isinstance(caught.value, ApprovalPending)
    assert "board" not in str(caught.value)
    decide(north, fingerprint, True)
    assert not waits(north, handshake())


def test_decisions_are_in_the_audit_log(north: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(north, handshake())
    fingerprint = approve(north, monkeypatch, days=3)
    decide(north, fingerprint, False, reason="the board said no")
    approved, declined = open_audit_log(north).read()[1:]
    assert (approved.event, approved.config, approved.reason) == ("approved", fingerprint, "for 3 days and 1 runs")
    assert (declined.event, declined.reason) == ("declined", "the board said no")
    assert approved.user
    assert "run approved" in approved.describe()


def test_nothing_is_decided_that_the_audit_log_does_not_hold(
    north: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits(north, handshake())

    def fail(*_: object) -> None:
        raise SiteError(UNWRITABLE)

    with monkeypatch.context() as patch:
        patch.setattr(approvals, "append_entry", fail)
        with pytest.raises(SiteError, match=UNWRITABLE):
            decide(north, fingerprint_config(tiny.run_config()), True)
    assert waits(north, handshake())


def test_no_data_is_opened_for_a_run_that_nobody_approved(north: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "load_site", lambda *_: pytest.fail("no data may be opened"))
    with pytest.raises(ApprovalPending):
        requests.handle(north, handshake())
    (line,) = open_audit_log(north).read()[1:]
    assert (line.event, line.run, line.config) == ("refused", RUN, fingerprint_config(tiny.run_config()))
    assert line.reason.startswith(WAITS_FOR_APPROVAL)


def test_an_approval_holds_for_as_many_bins_and_fewer(north: SiteContext) -> None:
    assert waits(north, handshake(evaluation__bins=64))
    decide(north, fingerprint_config(tiny.run_config()), True)
    for bins in (64, 32):
        check_approval(north, train(evaluation__bins=bins), RUN)
    with pytest.raises(SiteError, match=r"evaluation\.bins=128 is above the 64 approved here"):
        check_approval(north, train(evaluation__bins=128), RUN)


def test_a_policy_without_approval_asks_nobody(north: SiteContext) -> None:
    for policy in (SitePolicy(), SIMULATION_POLICY):
        assert not waits(replace(north, policy=policy), handshake())
    assert known(north) == {}


def test_few_runs_wait_at_a_time_and_old_ones_are_forgotten(
    north: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MAX_PENDING", 2)
    for seed in (1, 2):
        assert waits(north, handshake(seed=seed))
    with pytest.raises(SiteError, match="2 runs already wait"):
        check(north, handshake(seed=3))
    assert waits(north, handshake(seed=3), NOW + 31 * DAY)
    assert list(known(north)) == [fingerprint_config(tiny.run_config(seed=3))]


def test_a_configuration_of_great_length_waits_for_nobody(north: SiteContext) -> None:
    huge = handshake(model__options={"name": "x" * approvals.MAX_CONFIG_BYTES})
    with pytest.raises(SiteError, match="too long for anybody to approve"):
        check(north, huge)
    assert known(north) == {}


def test_a_run_is_named_by_the_start_of_its_fingerprint(north: SiteContext) -> None:
    waits(north, handshake())
    file, whole = get_approval_file(north.state or Path(), "north"), fingerprint_config(tiny.run_config())
    assert file.find(whole[:6]) == file.find(whole) == whole
    for prefix in ("", whole[:5], "zzzzzz"):
        with pytest.raises(ConfigError, match="give at least 6 digits"):
            file.find(prefix)


@pytest.mark.parametrize("content", ["{", '{"a": {"status": "maybe"}}', "[]"])
def test_damaged_approvals_let_nothing_pass(north: SiteContext, content: str) -> None:
    path = get_approval_file(north.state or Path(), "north").path
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match="is damaged"):
        check(north, handshake())


def test_every_key_of_a_configuration_but_the_free_ones_is_in_its_fingerprint() -> None:
    """Change each value of the defaults in turn; what does not change the fingerprint is free on purpose."""
    base, free = RunConfig(), set()
    for section, value in base.model_dump(mode="json").items():
        for key in value if isinstance(value, dict) and section != "shift" else ("",):
            inner = getattr(base, section).model_copy(update={key: "other"}) if key else "other"
            with warnings.catch_warnings(action="ignore"):  # a text is not what the key's type expects
                same = fingerprint_config(base.model_copy(update={section: inner})) == fingerprint_config(base)
            if same:
                free.add(f"{section}.{key}" if key else section)
    keys = ("address", "ca", "workers", "round_timeout", "connect_timeout", "approval_timeout")
    assert {name for name in free if not name.startswith("report.")} == {
        "title", "evaluation.bins", *(f"federation.{key}" for key in keys),
    }  # fmt: skip
