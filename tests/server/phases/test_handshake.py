"""The handshake: who takes part, and when the run starts without the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error

from common import messages
from common.errors import ConfigError, EngineError
from common.requests import Request
from server.events import Event, WaitingEvent
from server.phases import handshake
from server.phases.handshake import run_handshake
from tests import tiny
from tests.server.conftest import WaitingClock
from tests.server.phases.memory_runs import hello, lead, outcome, quiet
from tests.wire import Answer, FakeGrid, Script, change_json

pytestmark = pytest.mark.usefixtures("waiting_clock")


def test_two_sites_of_one_name_are_refused_before_training() -> None:
    grid = FakeGrid([hello("north"), hello("north")])
    with pytest.raises(ConfigError, match="two nodes call themselves north"):
        run_handshake(grid, tiny.run_config(), quiet)
    assert {request.kind for _, request in grid.sent} == {"handshake"}


OTHER_TASK = type(tiny.TASK)(**{**tiny.TASK.__dict__, "rate_hz": 250.0})


def test_a_site_of_another_task_than_most_is_left_out_by_name() -> None:
    grid = FakeGrid([hello("south", OTHER_TASK), hello("east"), hello("north")])
    federation, refused = run_handshake(grid, tiny.run_config(), quiet)
    assert refused == {"south": "it holds another task than most sites: give it the same data options and version"}
    assert sorted(federation.reports) == sorted(federation.names.values()) == ["east", "north"]
    assert federation.task == tiny.TASK


@pytest.mark.parametrize(
    ("scripts", "more"),
    [
        ([hello("east"), hello("south", OTHER_TASK)], {}),
        ([hello("east"), hello("north"), hello("south", OTHER_TASK)], {"federation__min_sites": 3}),
        (
            [hello("east"), hello("north"), hello("south", OTHER_TASK)],
            {"federation__expect": ["east", "north", "south"]},
        ),
    ],
)
def test_sites_of_different_tasks_are_refused_before_training(
    scripts: list[Script], more: dict[str, Any], tmp_path: Path
) -> None:
    grid = FakeGrid(scripts)
    with pytest.raises(ConfigError, match=r"different tasks: east.* against south"):
        lead(grid, tiny.run_config(**more), tmp_path)
    assert {request.kind for _, request in grid.sent} == {"handshake"}
    assert outcome(tmp_path)["status"] == "failed"


def test_a_named_site_that_does_not_come_is_named() -> None:
    config = tiny.run_config(federation__expect=["north", "west"])
    with pytest.raises(EngineError, match="missing west"):
        run_handshake(FakeGrid([hello("north"), hello("south")]), config, quiet)


def test_a_named_site_that_refuses_is_not_waited_for() -> None:
    config = tiny.run_config(federation__expect=["north", "west"], federation__connect_timeout=60.0)
    reason = messages.pack_error("west", "DataError", "hello failed with DataError")
    grid = FakeGrid([hello("north"), lambda request: Error(code=messages.ERROR_CODE, reason=reason)])
    grid.fixed_nodes = False
    with pytest.raises(EngineError, match=r"missing west \(west: hello failed with DataError\)"):
        run_handshake(grid, config, quiet)


@pytest.mark.parametrize(("engine", "seconds"), [("ray", 1.0), ("federation", 60.0)])
def test_a_run_on_ray_waits_for_no_site_whose_node_has_failed(
    engine: str, seconds: float, waiting_clock: WaitingClock
) -> None:
    config = tiny.run_config(
        federation__engine=engine, federation__expect=["north", "west"], federation__connect_timeout=60.0
    )
    reason = messages.pack_error("", "DataError", "this node has no data")
    grid = FakeGrid([hello("north"), lambda request: Error(code=messages.ERROR_CODE, reason=reason)])
    grid.fixed_nodes = False
    with pytest.raises(EngineError, match=r"missing west \(node 2: this node has no data\)"):
        run_handshake(grid, config, quiet)
    assert waiting_clock.now == pytest.approx(seconds, abs=1.0)


def test_only_named_sites_take_part() -> None:
    config = tiny.run_config(federation__expect=["north"])
    federation, refused = run_handshake(FakeGrid([hello("north"), hello("south")]), config, quiet)
    assert federation.names == {1: "north"}
    assert list(federation.reports) == ["north"]
    assert refused == {"south": "not named in federation.expect"}


def test_a_site_whose_hello_is_broken_does_not_take_part() -> None:
    whole = hello("south")

    def broken(request: Request) -> Answer:
        return change_json(whole(request), lambda report: report | {"counts": {}})

    federation, refused = run_handshake(FakeGrid([hello("north"), broken]), tiny.run_config(), quiet)
    assert list(federation.reports) == ["north"]
    assert refused == {"south": "its handshake report is wrong: counts.train: Field required"}


@pytest.mark.parametrize("fixed", [True, False])
def test_nobody_comes(fixed: bool, waiting_clock: WaitingClock) -> None:
    grid = FakeGrid([])
    grid.fixed_nodes = fixed
    heard: list[Event] = []
    with pytest.raises(EngineError, match=r"0 of 1 sites came \(no site is connected"):
        run_handshake(grid, tiny.run_config(federation__connect_timeout=0.5), heard.append)
    assert waiting_clock.now < 1
    assert len(heard) <= 1


def test_a_silent_node_does_not_keep_the_others_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "SETTLE_SECONDS", 60.0)
    grid = FakeGrid([hello("north"), lambda request: None])
    grid.fixed_nodes = False
    federation, refused = run_handshake(grid, tiny.run_config(federation__connect_timeout=0.5), quiet)
    assert list(federation.reports) == ["north"]
    assert refused == {"node 2": "no answer within 1 s"}


def test_a_simulated_site_has_as_long_to_read_its_data_as_to_train_a_round(waiting_clock: WaitingClock) -> None:
    config = tiny.run_config(federation__connect_timeout=0.5, federation__round_timeout=7.0)
    _, refused = run_handshake(FakeGrid([hello("north"), lambda request: None]), config, quiet)
    assert refused == {"node 2": "no answer within 7 s"}


def test_a_site_that_comes_late_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = FakeGrid([hello("north"), hello("south")])
    grid.fixed_nodes = False
    grid.offline = {2}
    config = tiny.run_config(federation__min_sites=2, federation__connect_timeout=4.0)
    monkeypatch.setattr(handshake, "SETTLE_SECONDS", 0.0)
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        grid.offline.clear()

    federation, _ = run_handshake(grid, config, listen)
    assert sorted(federation.reports) == ["north", "south"]
    assert WaitingEvent(online=1, ready=1, need=2, limit=4) in heard
