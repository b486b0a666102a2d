"""Sites that are slow, late, absent or gone: who is waited for, who is named, and when a run ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message

from client.site import Site
from common import messages
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.requests import Request
from server import app
from server.events import Event, WaitingEvent
from server.losses import describe_rounds
from server.phases import handshake
from server.phases.handshake import run_handshake
from tests import tiny
from tests.server.conftest import WaitingClock
from tests.wire import KINDS, Answer, FakeGrid, Script, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    found = {name: tiny.site(name, number) for number, name in enumerate(("north", "south", "west"), 1)}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    return found


def scripts(sites: dict[str, Site]) -> list[Script]:
    return [site_script(site) for site in sites.values()]


def run(grid: FakeGrid, config: RunConfig, out: Path, **more: Any) -> list[dict[str, Any]]:
    """Run the server to its end and return its events."""
    heard: list[dict[str, Any]] = []
    app.run_federation(grid, config, out, heard.append, **more)
    return heard


def read(out: Path) -> Any:
    return json.loads((out / "federated.json").read_text())


def lines(out: Path) -> list[Any]:
    return [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


def in_round(script: Script, kind: str, rounds: Iterable[int], wrong: Callable[[Request], Answer]) -> Script:
    """Return a script that answers otherwise in some rounds of one kind of request."""
    return lambda request: wrong(request) if request.kind == kind and request.round in rounds else script(request)


def fails(request: Request) -> Answer:
    return Error(code=messages.ERROR_CODE, reason=messages.pack_error("west", "SiteError", "policy: too few people"))


# Who is waited for.


def test_a_slow_site_is_waited_for_unless_a_quorum_is_set(
    sites: dict[str, Site], tmp_path: Path, waiting_clock: WaitingClock
) -> None:
    north, south, west = scripts(sites)

    class SlowGrid(FakeGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            wanted = list(message_ids)
            training = {name for name in wanted if self._waiting[name].metadata.message_type == "train"}
            slow = {name for name in training if self._waiting[name].metadata.dst_node_id == 3}
            return super().pull_messages([name for name in wanted if name not in slow or waiting_clock.now > 110])

    last = {"federation__rounds": 1, "federation__choose": "last"}
    run(SlowGrid([north, south, west]), tiny.run_config(**last), tmp_path / "all")
    assert 110 < waiting_clock.now < 120  # round_timeout is 120 s
    assert lines(tmp_path / "all")[0]["lost"] == {}
    quorum = tiny.run_config(**last, federation__quorum=2, federation__quorum_seconds=0.1)
    start = waiting_clock.now
    run(FakeGrid([north, south, in_round(west, "train", [1], lambda _: None)]), quorum, tmp_path / "two")
    assert lines(tmp_path / "two")[0]["lost"] == {"west": "no answer within 0.1 s after 2 sites had answered"}
    assert read(tmp_path / "two")["partial"] == {
        "west": "missed 1 of 1 rounds: no answer within 0.1 s after 2 sites had answered in round 1"
    }
    assert 0.1 <= waiting_clock.now - start < 1


def test_a_quorum_is_not_below_the_minimum() -> None:
    with pytest.raises(ConfigError, match=r"federation\.quorum: 2 is below federation\.min_sites=3"):
        tiny.run_config(federation__quorum=2, federation__min_sites=3)


def test_it_is_reported_who_is_awaited(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south, west = scripts(sites)
    silent = [in_round(each, "train", [1], lambda _: None) for each in (south, west)]
    config = tiny.run_config(federation__rounds=1, federation__choose="last")
    events = run(FakeGrid([north, *silent]), config, tmp_path)
    heard = [event for event in events if event["event"] == "awaited" and event["phase"] == "train"]
    assert {(event["phase"], event["round"], tuple(event["sites"])) for event in heard} == {
        ("train", 1, ("south", "west"))
    }
    seconds = [event["seconds"] for event in heard]  # after 10 s, and each time that the wait has doubled, up to 120 s
    assert len(seconds) == 4
    assert seconds == pytest.approx([10, 20, 40, 80], rel=0.15)  # as finely as it looks


class LateGrid(FakeGrid):
    """Delivers node 2's answer to round 1 while round 2 is awaited."""

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        wanted = list(message_ids)
        held = getattr(self, "held", None)
        for name in wanted:
            message = self._waiting.get(name)
            if message is None or message.metadata.dst_node_id != 2:
                continue
            request = messages.unpack_request(KINDS[message.metadata.message_type], message.content)
            if request.kind == "train" and getattr(request, "round", 0) == 1:
                if len([1 for item in self._waiting.values() if item.metadata.message_type == "train"]) < 2:
                    return super().pull_messages([each for each in wanted if each != name])
                self.held = name
        if held in wanted and held in self._waiting:
            return super().pull_messages([held])
        return super().pull_messages(wanted)


def test_a_late_answer_is_refused_and_named(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south, _ = scripts(sites)
    config = tiny.run_config(federation__rounds=2, federation__round_timeout=2.0, federation__choose="last")
    late = LateGrid([north, south])
    heard = run(late, config, tmp_path / "late")
    assert lines(tmp_path / "late")[0]["lost"] == {"south": "no answer within 2 s"}
    assert [event for event in heard if event["event"] == "late"] == [
        {"time": heard[0]["time"], "event": "late", "site": "south", "phase": "train", "round": 1}
        | {"time": next(event["time"] for event in heard if event["event"] == "late")}
    ]
    silent = FakeGrid([north, in_round(south, "train", [1], lambda _: None)])
    run(silent, config, tmp_path / "silent")
    assert [line["weights"] for line in lines(tmp_path / "late")] == [
        line["weights"] for line in lines(tmp_path / "silent")
    ]


class DoubleGrid(FakeGrid):
    """Delivers every answer twice, the second from another node."""

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        answers = super().pull_messages(message_ids)
        return [each for answer in answers for each in (answer, from_node(answer, 2))]


def from_node(answer: Message, node: int) -> Message:
    changed = copy(answer)
    metadata = copy(answer.metadata)
    metadata.__dict__["_src_node_id"] = node
    changed.__dict__["_metadata"] = metadata
    assert changed.metadata.src_node_id == node
    assert answer.metadata is not metadata
    return changed


def test_a_second_answer_counts_for_nothing(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config()
    run(DoubleGrid(scripts(sites)), config, tmp_path / "twice")
    run(FakeGrid(scripts(sites)), config, tmp_path / "once")
    one, other = (lines(tmp_path / name) for name in ("twice", "once"))
    assert [line["weights"] for line in one] == [line["weights"] for line in other]
    assert not any(line["lost"] for line in one)


def test_a_node_does_not_answer_for_another(sites: dict[str, Site], tmp_path: Path) -> None:
    class Swapped(FakeGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            answers = super().pull_messages(message_ids)
            return [from_node(item, 1) if item.metadata.message_type == "train" else item for item in answers]

    run(Swapped(scripts(sites)), tiny.run_config(federation__rounds=1), tmp_path)
    why = "another node answered in its place"
    assert lines(tmp_path)[0]["lost"] == {"south": why, "west": why}


# Sites that are not there at the start.


def test_registered_sites_are_waited_for(sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "SETTLE_SECONDS", 0.0)
    grid = FakeGrid(scripts(sites))
    grid.fixed_nodes, grid.offline = False, {2, 3}
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if isinstance(event, WaitingEvent):
            grid.offline = {3}  # south comes, west does not

    names = {1: "north", 2: "south", 3: "west"}
    config = tiny.run_config(federation__connect_timeout=1.5)
    federation, refused = run_handshake(grid, config, listen, lambda: names)
    assert sorted(federation.reports) == ["north", "south"]
    assert refused == {"west": "did not connect within 1.5 s"}
    assert [event.missing for event in heard if isinstance(event, WaitingEvent)][:2] == [("south", "west"), ("west",)]


def test_a_registered_site_that_does_not_connect_makes_the_run_partial(sites: dict[str, Site], tmp_path: Path) -> None:
    grid = FakeGrid(scripts(sites))
    grid.fixed_nodes, grid.offline = False, {3}
    config = tiny.run_config(federation__connect_timeout=0.5)
    run(grid, config, tmp_path, read_names=lambda: {1: "north", 2: "south", 3: "west"})
    assert read(tmp_path)["partial"] == {"west": "did not connect within 0.5 s"}
    assert read(tmp_path)["status"] == "complete"


def test_a_site_that_comes_back_with_another_node_joins_the_next_round(sites: dict[str, Site], tmp_path: Path) -> None:
    grid = FakeGrid(scripts(sites))
    grid.fixed_nodes = False
    config = tiny.run_config(federation__rounds=4, federation__connect_timeout=0.5)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "round" and event["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.run_federation(grid, config, tmp_path, stop)
    again = FakeGrid(scripts(sites))  # the run goes on after round 2, without west, which did not validate it
    again.fixed_nodes, again.scripts, again.offline = False, {7: again.scripts[1], 8: again.scripts[2]}, set()

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "round" and event["round"] == 2:
            again.scripts[9] = grid.scripts[3]

    app.run_federation(again, config, tmp_path, listen)
    assert [line["lost"] for line in lines(tmp_path)] == [
        {}, {"west": "validation: did not connect within 0.5 s"}, {"west": "did not connect within 0.5 s"}, {}
    ]  # fmt: skip
    assert "train" in lines(tmp_path)[3]["sites"]["west"]


def test_a_site_that_the_run_began_without_does_not_join_it(sites: dict[str, Site], tmp_path: Path) -> None:
    two = FakeGrid(scripts(sites)[:2])
    config = tiny.run_config(federation__rounds=2)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "round":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.run_federation(two, config, tmp_path, stop)
    run(FakeGrid(scripts(sites)), config, tmp_path)
    assert read(tmp_path)["lost"] == {"west": "the run began without it"}
    assert all("west" not in line["sites"] for line in lines(tmp_path))


# When a run ends, and what it says.


def simulation(**sections: Any) -> RunConfig:
    return tiny.run_config(**({"federation__on_lost": "auto", "federation__rounds": 3} | sections))


def test_a_simulation_that_loses_a_site_ends_and_goes_on_with_it(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south, west = scripts(sites)
    grid = FakeGrid([north, south, in_round(west, "train", [2], fails)])
    with pytest.raises(EngineError, match=r"^round 2: west: policy: too few people \(federation\.on_lost=continue"):
        run(grid, simulation(), tmp_path / "broken")
    done = read(tmp_path / "broken")
    assert (done["status"], done["chosen"], done["lost"]) == (
        "failed", 1, {"west": "round 2: policy: too few people"},
    )  # fmt: skip
    assert len(lines(tmp_path / "broken")) == 1
    grid.scripts[3] = west
    run(grid, simulation(), tmp_path / "broken")
    run(FakeGrid(scripts(sites)), simulation(), tmp_path / "whole")
    assert [line["weights"] for line in lines(tmp_path / "broken")] == [
        line["weights"] for line in lines(tmp_path / "whole")
    ]
    assert (read(tmp_path / "broken")["lost"], read(tmp_path / "broken")["partial"]) == ({}, {})


@pytest.mark.parametrize(
    ("kind", "rounds", "when"),
    [("handshake", [0], "the run cannot start"), ("validate", [1], "round 1: validation"),
     ("test", [1, 2, 3], "final evaluation")],
)  # fmt: skip
def test_a_simulation_ends_wherever_it_loses_a_site(
    sites: dict[str, Site], tmp_path: Path, kind: str, rounds: list[int], when: str
) -> None:
    north, south, west = scripts(sites)

    def wrong(request: Request) -> Answer:
        return fails(request) if request.kind == kind and getattr(request, "round", 0) in rounds else west(request)

    with pytest.raises(EngineError, match=f"^{when}: west: policy: too few people"):
        run(FakeGrid([north, south, wrong]), simulation(), tmp_path)
    done = read(tmp_path)
    assert "west" in done["lost"]
    assert set(done["test"].get("all", ())) == ({"north", "south"} if kind == "test" else set())


@pytest.mark.parametrize(
    ("federation", "stops"),
    [
        ({"on_lost": "auto"}, True),
        ({"on_lost": "auto", "engine": "ray"}, True),
        ({"on_lost": "auto", "engine": "federation"}, True),
        ({"on_lost": "auto", "engine": "federation", "address": "h:1"}, False),
        ({"on_lost": "stop", "engine": "federation", "address": "h:1"}, True),
        ({"on_lost": "auto", "quorum": 1}, False),
        ({"on_lost": "continue"}, False),
    ],
)
def test_hospitals_go_on_without_a_site_and_simulations_do_not(federation: dict[str, Any], stops: bool) -> None:
    config = tiny.run_config(**{f"federation__{key}": value for key, value in federation.items()})
    assert config.federation.stops_on_loss is stops


def test_a_partial_run_names_who_missed_what(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south, west = scripts(sites)
    west = in_round(west, "train", [1, 3, 4], fails)
    unavailable = messages.pack_error("west", "SiteError", "unavailable")
    west = in_round(west, "validate", [2], lambda _: Error(code=messages.ERROR_CODE, reason=unavailable))
    south = in_round(south, "test", range(9), fails)
    run(FakeGrid([north, south, west]), tiny.run_config(federation__rounds=4), tmp_path)
    done = read(tmp_path)
    assert done["status"] == "complete"
    assert done["partial"] == {
        "south": "final evaluation: policy: too few people",
        "west": "missed 4 of 4 rounds: policy: too few people in rounds 1, 3 to 4; validation: unavailable in round 2",
    }


def test_rounds_in_words() -> None:
    assert describe_rounds([1]) == "round 1"
    assert describe_rounds([2, 1]) == "rounds 1 to 2"
    assert describe_rounds([1, 3, 7, 8, 9]) == "rounds 1, 3, 7 to 9"
