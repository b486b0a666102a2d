"""Limits of a policy on a run's task, model, strategy and hours, and on the size of its updates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate.admission import admit
from client.gate.register import Register
from client.gate.release import check_reply
from client.gate.run_limits import check_method, check_run, check_task, measure_change
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site_context import SiteContext
from common import models
from common.errors import ConfigError, SiteError
from common.replies import TrainReply
from common.reports import TrainReport
from common.requests import Method, TrainRequest
from common.settings import validate_settings
from tests import tiny
from tests.wire import build_request

MONDAY_NOON = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


def test_only_named_models_and_strategies_run() -> None:
    policy = SitePolicy(allowed_models=("logreg", "mlp"), allowed_strategies=("fedavg",))
    with pytest.raises(SiteError, match=r"the model cnn is not allowed here \(allowed: logreg, mlp\)"):
        check_run(policy, tiny.run_config())
    named = {"model__name": "mlp", "model__options": {}}
    check_run(policy, tiny.run_config(**named))
    with pytest.raises(SiteError, match=r"the strategy scaffold is not allowed here \(allowed: fedavg\)"):
        check_run(policy, tiny.run_config(**named, federation__strategy={"name": "scaffold"}))
    with pytest.raises(SiteError, match="allowed: none"):
        check_run(SitePolicy(allowed_models=()), tiny.run_config())
    for open_ in (SitePolicy(), SIMULATION_POLICY):
        check_run(open_, tiny.run_config())


def test_a_task_is_named_by_its_data_set_or_its_title() -> None:
    config = tiny.run_config(data__dataset="heart_disease")
    for allowed in ("heart_disease", "tiny", "*"):
        check_task(SitePolicy(allowed_tasks=("other", allowed)), config, tiny.TASK)
    with pytest.raises(SiteError, match=r"the task heart_disease is not allowed here \(allowed: mitdb\)"):
        check_task(SitePolicy(allowed_tasks=("mitdb",)), config, tiny.TASK)


@pytest.mark.parametrize("method", [Method(control=True), Method(pull=0.5), Method(local=("head.weight",))])
def test_a_message_does_no_more_than_its_strategy(method: Method) -> None:
    """A server that says fedavg in the configuration and asks for control variates is refused."""
    request = TrainRequest(tiny.run_config(), round=1, method=method)
    check_method(SitePolicy(), request)
    with pytest.raises(SiteError, match="the strategy fedavg does not do what this message asks for"):
        check_method(SitePolicy(allowed_strategies=("fedavg",)), request)


@pytest.mark.parametrize(("name", "method"), [("scaffold", Method(control=True)), ("ditto", Method(pull=0.5)),
    ("fedper", Method(local=("head.weight",))), ("fedbn", Method(local=("norm.weight",)))])  # fmt: skip
def test_what_a_named_strategy_asks_for_is_allowed(name: str, method: Method) -> None:
    config = tiny.run_config(federation__strategy={"name": name})
    check_method(SitePolicy(allowed_strategies=(name,)), TrainRequest(config, round=1, method=method))


def test_requests_are_answered_within_the_hours_of_the_hospitals_own_zone() -> None:
    policy = SitePolicy(hours=("mon 13:00-14:00",), time_zone="Europe/Vienna")  # 12:00 to 13:00 UTC in winter
    check_run(policy, tiny.run_config(), MONDAY_NOON)
    for other in (MONDAY_NOON.replace(hour=13), MONDAY_NOON.replace(hour=11, minute=59)):
        with pytest.raises(SiteError, match=r"answers only mon 13:00-14:00 \(Europe/Vienna\)"):
            check_run(policy, tiny.run_config(), other)


@pytest.mark.parametrize(
    ("keys", "why"),
    [({"hours": ["monday"]}, "'monday' are no hours"), ({"time_zone": "Vienna"}, "no time zone"),
     ({"time_zone": "../etc/passwd"}, "no time zone"), ({"approval": False}, "approval"),
     ({"max_update_norm": 0}, "max_update_norm")],
)  # fmt: skip
def test_a_policy_with_wrong_limits_is_an_error(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        validate_settings(SitePolicy, keys, "policy.yaml")


def test_rounds_of_a_day_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr("client.gate.register.time.time", lambda: now[0])
    register = Register(tmp_path / "register.sqlite", "north")
    for number in range(3):
        register.ask(f"run {number}", "training", "1", None, None, 3)
    with pytest.raises(SiteError, match="answers training for at most 3 models in 24 hours"):
        register.ask("run 3", "training", "1", None, None, 3)
    now[0] += 24 * 3600 + 1
    register.ask("run 3", "training", "1", None, None, 3)


def update(tmp_path: Path, **policy: Any) -> tuple[SiteContext, TrainRequest, TrainReply]:
    context = SiteContext(SitePolicy(**policy), site="north", data=tmp_path, state=tmp_path / "runs")
    sent = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(1, np.float32)}
    moved = {"w": np.array([[2, 0, 0], [0, 1, 0]], np.float32), "b": np.array([2], np.float32)}  # norm 3
    request = TrainRequest(tiny.run_config(), round=1, run_id="a" * 32, weights=sent)
    return context, request, TrainReply("north", TrainReport(examples=1), weights=moved)


def test_an_update_that_is_too_large_does_not_leave(tmp_path: Path) -> None:
    context, request, reply = update(tmp_path, max_update_norm=3.0, max_update_bytes=28)
    assert measure_change(request, reply) == 3.0
    check_reply(context, request, reply)
    with pytest.raises(SiteError, match=r"changes the weights by more than 2\.99 .*: it is not sent"):
        check_reply(replace(context, policy=SitePolicy(max_update_norm=2.99)), request, reply)
    with pytest.raises(SiteError, match="an update of 28 bytes is above the 27 allowed here"):
        check_reply(replace(context, policy=SitePolicy(max_update_bytes=27)), request, reply)


def test_of_a_contribution_its_own_norm_counts(tmp_path: Path) -> None:
    context, request, reply = update(tmp_path, max_update_norm=3.5)
    config = tiny.run_config(
        privacy={"level": "hospital", "epsilon": 1.0, "weight_total": 3.0}, training__loss="cross_entropy",
        federation__choose="last", federation__weights="equal",
    )  # fmt: skip
    far = replace(request, config=config, weights={name: value + 100 for name, value in request.weights.items()})
    assert measure_change(far, reply) == 3.0
    check_reply(context, far, reply)


def test_code_in_a_file_never_runs_at_a_hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused whatever the policy allows, before anything is loaded, and also where a variable would trust the file."""
    file = tmp_path / "mine.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    run = tiny.run_config(model__name="mine", model__options={}, model__file=str(file))
    monkeypatch.setenv("WARDROUND_TRUSTED_FILES", str(file))
    with pytest.raises(SiteError, match="code in a file does not run at a hospital"):
        check_run(SitePolicy(allowed_models=("*",)), run)
    context = SiteContext(SitePolicy(allowed_models=("*",)), site="north", state=tmp_path / "state", data=tmp_path)
    with pytest.raises(SiteError, match="code in a file does not run at a hospital"):
        admit(context, build_request("train", run))
    monkeypatch.delenv("WARDROUND_TRUSTED_FILES")
    with pytest.raises(ConfigError, match="runs only in a simulation"):
        models.build_model(tiny.TASK, run.model, 1)
    assert not (tmp_path / "ran").exists()
