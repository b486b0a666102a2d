"""One message a site and round: a round is validated with the next round's training, with equal results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict

from client.site import Site
from common import messages
from common.errors import EngineError
from common.requests import Request
from server import strategies
from server.phases import train
from tests import tiny
from tests.server.conftest import WaitingClock
from tests.server.phases.memory_runs import fails_in, lead, lines, outcome
from tests.server.test_resume import OPTIONS, in_round, results, run, run_config, without_clock
from tests.wire import FakeGrid, Script, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")

NAMES = ("east", "north", "south", "up", "west")


@pytest.fixture(autouse=True)
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    found = {}
    for i, name in enumerate(NAMES):
        cohort = tiny.cohort(i, people=5 + i % 3, each=3 + i)
        found[name] = tiny.site(name, i, cohort, parts=(2, 1, *[0] * (3 + i % 3)))
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site or NAMES[place.index])])
    return found


class CountingGrid(FakeGrid):
    """Counts the messages to each node."""

    def __init__(self, scripts: Iterable[Script]) -> None:
        super().__init__(list(scripts))
        self.pushed: list[tuple[int, str]] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        batch = list(messages)
        self.pushed += [(each.metadata.dst_node_id, each.metadata.message_type) for each in batch]
        return super().push_messages(batch)


def ask_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate each round before the next, with messages of its own."""
    monkeypatch.setattr(train, "is_validated_later", lambda run, number, outcome: False)


def scripts(sites: dict[str, Site], *names: str) -> list[Script]:
    return [site_script(sites[name]) for name in names]


def left(folder: Path) -> Any:
    """Return the outcome and the rounds of a run, without what a clock measured."""
    return without_clock([outcome(folder), lines(folder)])


# How many messages, and with what result.


def test_a_site_gets_one_message_a_round_and_one_for_the_last_validation(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.run_config(federation__rounds=4)
    grid = CountingGrid(scripts(sites, "north", "south"))
    lead(grid, config, tmp_path / "joint")
    for node in (1, 2):
        kinds = [kind for each, kind in grid.pushed if each == node]
        assert kinds == ["query", "train", "train", "train", "train", "evaluate", "evaluate.test"]
        asked = [(request.kind, getattr(request, "round", 0)) for each, request in grid.sent if each == node]
        assert asked == [
            ("handshake", 0), ("train", 1), ("validate", 1), ("train", 2), ("validate", 2), ("train", 3),
            ("validate", 3), ("train", 4), ("validate", 4), ("test", outcome(tmp_path / "joint")["chosen"]),
        ]  # fmt: skip
    ask_separately(monkeypatch)
    apart = CountingGrid(scripts(sites, "north", "south"))
    lead(apart, config, tmp_path / "apart")
    assert len(apart.pushed) == len(grid.pushed) + 2 * 3
    assert [request.kind for _, request in apart.sent if _ == 1] == [r.kind for _, r in grid.sent if _ == 1]


@pytest.mark.parametrize("name", strategies.list_strategies())
def test_a_run_with_joint_messages_equals_one_with_separate_ones(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(run_config(name), tmp_path / "joint")
    ask_separately(monkeypatch)
    assert run(run_config(name), tmp_path / "apart")
    joint, apart = results(tmp_path / "joint"), results(tmp_path / "apart")
    assert joint == apart
    assert len(joint["rounds"]) == 3
    assert all(line["validation"] for line in joint["rounds"])


@pytest.mark.parametrize(
    "settings",
    [
        {"federation__sites_per_round": 2},
        {"evaluation__threshold": "likelier", "federation__weights": "equal"},
        {"privacy__evaluation_epsilon": 50.0, "privacy__delta": 0.01, "privacy__accountant": "rdp",
         "privacy__noise": "seeded", "evaluation__bins": 16, "evaluation__bootstrap": 20,
         "evaluation__keep_resamples": False},
    ],
    ids=["drawn sites", "equal weights", "private evaluation"],
)  # fmt: skip
def test_equal_results_with_other_options(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config("krum", federation__strategy={"name": "fedavg"}, **settings)
    monkeypatch.setitem(OPTIONS, "fedavg", ({}, 4))
    assert run(config, tmp_path / "joint")
    ask_separately(monkeypatch)
    assert run(config, tmp_path / "apart")
    assert results(tmp_path / "joint") == results(tmp_path / "apart")


def test_a_site_that_only_validates_and_one_that_only_trains(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south, west = (sites[name] for name in ("north", "south", "west"))
    sites["north"] = replace(north, train=north.train.take([]))
    sites["south"] = replace(south, validation=south.validation.take([]))
    config = tiny.run_config(federation__rounds=3)
    grids = [CountingGrid(scripts(sites, "north", "south", "west")) for _ in range(2)]
    lead(grids[0], config, tmp_path / "joint")
    ask_separately(monkeypatch)
    lead(grids[1], config, tmp_path / "apart")
    assert left(tmp_path / "joint") == left(tmp_path / "apart")
    pushed = [[kind for node, kind in grids[0].pushed if node == each] for each in (1, 2, 3)]
    assert pushed[0].count("train") == 0
    assert pushed[0].count("evaluate") == 3
    assert (pushed[1].count("train"), pushed[1].count("evaluate")) == (3, 0)
    assert (pushed[2].count("train"), pushed[2].count("evaluate")) == (3, 1)
    assert west.name in lines(tmp_path / "joint")[0]["sites"]


# One half fails.


def refuse(text: str) -> Error:
    return Error(code=messages.ERROR_CODE, reason=messages.pack_error("south", "SiteError", text))


def test_a_refused_validation_does_not_lose_the_training(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites, "north", "south")
    south = fails_in(south, lambda request: refuse("policy: too few people"), "validate", {1})
    heard: list[Any] = []
    lead(FakeGrid([north, south]), tiny.run_config(federation__rounds=3), tmp_path, heard.append)
    first, second, _ = lines(tmp_path)
    assert first["lost"] == {"south": "validation: policy: too few people"}
    assert set(first["sites"]["south"]) == {"train"}
    assert second["lost"] == {}
    assert set(second["sites"]["south"]) == {"train", "validation"}
    replies = [(e["site"], e["phase"], e["round"], e["ok"]) for e in heard if e["event"] == "reply"]
    assert ("south", "validate", 1, False) in replies
    assert ("south", "train", 2, True) in replies


def test_a_refused_training_does_not_lose_the_validation(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites, "north", "south")
    south = fails_in(south, lambda request: refuse("privacy budget spent"), "train", {2})
    lead(FakeGrid([north, south]), tiny.run_config(federation__rounds=3), tmp_path)
    first, second, third = lines(tmp_path)
    assert (first["lost"], third["lost"]) == ({}, {})
    assert set(first["sites"]["south"]) == {"train", "validation"}
    assert second["lost"] == {"south": "privacy budget spent"}
    assert set(second["sites"]["south"]) == {"validation"}


@pytest.mark.parametrize(
    ("spoil", "first_lost", "second_lost"),
    [
        (lambda content: content.pop("validation-reply"), "validation: its answer is not one of", ""),
        (lambda content: content.pop("reply"), "", "its answer is not one of this federation's protocol"),
        (lambda content: content.update({"validation-x": content["reply"]}), "validation: its answer is not one", ""),
        (lambda content: content.update({"x": content["reply"]}), "", "its answer is not one of this federation's"),
        (lambda content: content.clear(), "validation: its answer is not one of", "its answer is not one of this fed"),
    ],
    ids=["no validation", "no update", "more of validation", "more", "nothing"],
)
def test_a_garbled_half_costs_only_itself(
    sites: dict[str, Site], tmp_path: Path, spoil: Any, first_lost: str, second_lost: str
) -> None:
    class Garbling(FakeGrid):
        def answer(self, node: int, request: Request) -> RecordDict | Error | None:
            content = super().answer(node, request)
            joint = getattr(request, "validation", None)
            if node == 2 and joint is not None and joint.round == 1:
                spoil(content)
            return content

    lead(Garbling(scripts(sites, "north", "south")), tiny.run_config(federation__rounds=3), tmp_path)
    first, second, third = lines(tmp_path)
    for line, expected in ((first, first_lost), (second, second_lost)):
        assert list(line["lost"]) == (["south"] if expected else [])
        assert line["lost"].get("south", "").startswith(expected)
    assert third["lost"] == {}


def test_a_site_whose_process_died_is_asked_for_the_validation_alone(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites, "north", "south")
    south = fails_in(south, lambda request: Error(code=7, reason="the worker died"), "train", {2})
    grid = CountingGrid([north, south])
    lead(grid, tiny.run_config(federation__rounds=3), tmp_path)
    first, second, _ = lines(tmp_path)
    assert first["lost"] == {}
    assert set(first["sites"]["south"]) == {"train", "validation"}
    assert second["lost"] == {"south": "transport error 7: the worker died"}
    assert grid.pushed.count((2, "evaluate")) == 2  # and the last round's


def test_a_silent_site_is_lost_for_both_after_twice_the_time(
    sites: dict[str, Site], tmp_path: Path, waiting_clock: WaitingClock
) -> None:
    north, south = scripts(sites, "north", "south")
    south = fails_in(south, lambda request: None, "train", {2})
    config = tiny.run_config(federation__rounds=3, federation__round_timeout=40.0)
    lead(FakeGrid([north, south]), config, tmp_path)
    first, second, third = lines(tmp_path)
    assert first["lost"] == {"south": "validation: no answer within 80 s"}
    assert second["lost"] == {"south": "no answer within 80 s"}
    assert third["lost"] == {}
    assert 80 <= waiting_clock.now < 82


def test_a_lost_validation_ends_a_run_that_stops_then_before_the_next_round_counts(
    sites: dict[str, Site], tmp_path: Path
) -> None:
    north, south = scripts(sites, "north", "south")
    broken = fails_in(south, lambda request: refuse("disk full"), "validate", {1})
    config = tiny.run_config(federation__rounds=3, federation__on_lost="stop")
    with pytest.raises(EngineError, match=r"round 1: validation: south: disk full \(federation.on_lost=continue"):
        lead(FakeGrid([north, broken]), config, tmp_path / "run")
    assert lines(tmp_path / "run") == []
    lead(FakeGrid([north, south]), config, tmp_path / "run")
    lead(FakeGrid([north, south]), config, tmp_path / "whole")
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_a_run_that_ends_in_a_round_has_the_validation_of_the_round_before(
    sites: dict[str, Site], tmp_path: Path
) -> None:
    north, south = scripts(sites, "north", "south")
    south = fails_in(south, lambda request: refuse("no"), "train", {2})
    with pytest.raises(EngineError, match="round 2: 1 of 2 sites answered"):
        lead(FakeGrid([north, south]), tiny.run_config(federation__rounds=3, federation__min_sites=2), tmp_path)
    (line,) = lines(tmp_path)
    assert line["validation"]["patients"] > 0
    assert outcome(tmp_path)["chosen"] == 1


# What is not joined.


def test_a_strategy_that_validates_other_weights_is_asked_separately(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.serverapp.strategy import FedAvg

    original = FedAvg.configure_evaluate

    def configure(self: Any, number: int, arrays: Any, config: Any, grid: Any) -> Any:
        doubled = {name: value * 2 for name, value in messages.unpack_weights(arrays).items()}
        return original(self, number, messages.pack_weights(doubled), config, grid)

    monkeypatch.setattr(FedAvg, "configure_evaluate", configure)
    config = tiny.run_config(federation__rounds=3)
    grid = CountingGrid(scripts(sites, "north", "south"))
    lead(grid, config, tmp_path / "other")
    assert grid.pushed.count((1, "evaluate")) == 3
    ask_separately(monkeypatch)
    lead(FakeGrid(scripts(sites, "north", "south")), config, tmp_path / "apart")
    assert left(tmp_path / "other") == left(tmp_path / "apart")


# Going on after a death.


def test_a_run_that_ended_before_its_round_was_validated_goes_on_from_there(tmp_path: Path) -> None:
    config = run_config("scaffold", federation__checkpoints=1)
    assert run(config, tmp_path / "whole")
    assert not run(config, tmp_path / "broken", in_round(3))
    assert [line["round"] for line in lines(tmp_path / "broken")] == [1]
    assert run(config, tmp_path / "broken")
    assert results(tmp_path / "broken") == results(tmp_path / "whole")
