"""Strategies that keep state at the sites: which round's state counts, and what reaches no average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.serverapp.strategy import FedAvg

from client import requests as work
from client.policy import SIMULATION_POLICY
from client.site import Site
from client.site_context import SiteContext
from common import messages
from common.config import RunConfig
from common.errors import EngineError
from common.replies import Reply, TrainReply
from common.reports import TrainReport
from common.requests import Method, Request
from server import app, round_end
from server.outcome import Outcome
from server.phases import train
from server.phases.handshake import run_handshake
from server.run import Run
from tests import tiny
from tests.server.test_strategies import w
from tests.wire import Answer, FakeGrid, Script, build_request, over_the_wire

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    found = {"north": tiny.site("north", 1), "south": tiny.site("south", 2, parts=(0, 0, 0, 0, 0, 1, 2, 2))}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    return found


def at(site: Site, folder: Path) -> Script:
    return lambda request: work.handle(SiteContext(SIMULATION_POLICY, site=site.name, state=folder), request)


def changed(script: Script, change: Callable[[Any], Answer], kind: str, number: int) -> Script:
    """Return a script whose reply of one round is another."""

    def answer(request: Request) -> Answer:
        reply = script(request)
        assert isinstance(reply, Reply)
        return change(reply) if request.kind == kind and request.round == number else reply

    return answer


def lead(grid: FakeGrid, config: RunConfig, out: Path) -> Any:
    import json

    app.run_federation(grid, config, out)
    return json.loads((out / "federated.json").read_text())


def per(**sections: Any) -> RunConfig:
    return tiny.run_config(federation__strategy={"name": "fedper"}, **sections)


def sent_to(grid: FakeGrid, node: int, kind: str) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(r.round, r.state_round, r.needed_rounds) for to, r in grid.sent if to == node and r.kind == kind]


def test_a_site_goes_on_from_the_last_round_that_counted(sites: dict[str, Site], tmp_path: Path) -> None:
    # south trains and keeps its state in round 2 too, but its answer does not count
    late = changed(at(sites["south"], tmp_path), extra, "train", 2)
    grid = FakeGrid([at(sites["north"], tmp_path), late])
    done = lead(grid, per(federation__rounds=4, federation__choose="last"), tmp_path / "out")
    assert done["lost"] == {"south": "round 2: its weights do not fit the model"}
    assert sent_to(grid, 1, "train") == [(1, 0, ()), (2, 1, (1,)), (3, 2, (1, 2)), (4, 3, (2, 3))]
    assert sent_to(grid, 2, "train") == [(1, 0, ()), (2, 1, (1,)), (3, 1, (1,)), (4, 3, (1, 3))]
    assert sent_to(grid, 1, "test") == sent_to(grid, 2, "test") == [(4, 4, (3, 4))]
    ids = {r.run_id for _, r in grid.sent if r.kind != "handshake"}
    assert len(ids) == 1
    assert {path.name for path in (tmp_path / "south" / ids.pop()).iterdir()} == {
        f"round-0000{n}.safetensors" for n in (1, 3, 4)
    }


def test_the_final_test_is_of_the_chosen_rounds_layers(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # round 2 is best in the servers' eyes, whatever the sites' validation says; the first is not compared
    compared = count(2)
    monkeypatch.setattr(round_end, "is_better", lambda run, one, other: next(compared) == 2)
    grid = FakeGrid([at(sites["north"], tmp_path), at(sites["south"], tmp_path)])
    done = lead(grid, per(federation__rounds=5), tmp_path / "out")
    assert done["chosen"] == 2
    assert sent_to(grid, 1, "train") == [(1, 0, ()), (2, 1, (1,)), (3, 2, (1, 2)), (4, 3, (1, 2, 3)), (5, 4, (2, 3, 4))]
    assert sent_to(grid, 1, "validate") == [
        (1, 1, (1,)), (2, 2, (1, 2)), (3, 3, (1, 2, 3)), (4, 4, (2, 3, 4)), (5, 5, (2, 3, 4)),
    ]  # fmt: skip
    assert sent_to(grid, 1, "test") == [(2, 2, (2, 4, 5))]
    (folder,) = (tmp_path / "north").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [f"round-0000{n}.safetensors" for n in (2, 3, 4, 5)]


def extra(reply: Any) -> Answer:
    return replace(reply, weights={**reply.weights, "head.out.bias": np.zeros(3, np.float32)})


def turned(reply: Any) -> Answer:
    return replace(reply, weights=dict(reversed(reply.weights.items())))


def with_control(value: float) -> Callable[[Any], Answer]:
    control = {"stem.weight": np.full((4, 1, 1, 7), value, np.float32)}
    return lambda reply: replace(reply, control=control)


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("fedper", extra, "its weights do not fit the model"),
        ("fedavgm", turned, "its weights do not fit the model"),
        ("fedavg", with_control(0.0), "its control variates do not fit the model"),
        ("scaffold", with_control(0.0), "its control variates do not fit the model"),
    ],
)
def test_arrays_that_are_not_expected_reach_no_average(
    sites: dict[str, Site], tmp_path: Path, name: str, change: Callable[[Any], Answer], why: str
) -> None:
    wrong = changed(at(sites["south"], tmp_path), change, "train", 1)
    training = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 8, "lr": 0.01, "device": "cpu"}
    config = tiny.run_config(federation__strategy={"name": name}, federation__rounds=1, training=training)
    done = lead(FakeGrid([at(sites["north"], tmp_path), wrong]), config, tmp_path / "out")
    assert done["lost"] == {"south": f"round 1: {why}"}


def test_control_variates_that_are_not_finite_reach_no_average(sites: dict[str, Site], tmp_path: Path) -> None:
    def spoilt(reply: Any) -> Answer:
        return replace(reply, control={k: v * np.nan for k, v in reply.control.items()})

    wrong = changed(at(sites["south"], tmp_path), spoilt, "train", 1)
    training = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 8, "lr": 0.01, "device": "cpu"}
    config = tiny.run_config(federation__strategy={"name": "scaffold"}, federation__rounds=1, training=training)
    done = lead(FakeGrid([at(sites["north"], tmp_path), wrong]), config, tmp_path / "out")
    assert done["lost"] == {"south": "round 1: its control variates of stem.weight are not finite numbers"}


def test_a_merge_that_is_not_finite_ends_the_run(sites: dict[str, Site], tmp_path: Path) -> None:
    class Wild(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            merged, figures = super().aggregate_train(server_round, replies)
            assert merged is not None
            weights = {name: value * np.inf for name, value in messages.unpack_weights(merged).items()}
            return messages.pack_weights(weights), figures

    from server.strategies._flower import EVERY_SITE

    grid, config = FakeGrid([at(site, tmp_path) for site in sites.values()]), tiny.run_config()
    federation, _ = run_handshake(grid, config, lambda event: None)
    run = Run.from_handshake(grid, config, Wild(**EVERY_SITE), federation, lambda event: None)
    outcome = Outcome()
    with pytest.raises(EngineError, match="round 1: the strategy fedavg gave weights that are not finite"):
        train.run_rounds(run, lambda number, weights: None, outcome)
    assert (outcome.chosen, outcome.counted) == (0, {})


@pytest.mark.parametrize("method", [Method(), Method(("a.b", "c")), Method(control=True), Method(pull=0.0)])
def test_what_a_strategy_asks_arrives_as_it_was_sent(method: Method) -> None:
    sent = build_request(
        "train", tiny.run_config(), 3, w(1), method=method, proximal=0.5, control={"w": np.ones(1)}, run_id="a" * 32,
        state_round=2, needed_rounds=(1, 2),
    )  # fmt: skip
    got = messages.unpack_request("train", over_the_wire(messages.pack_request(sent)))
    assert (got.method, got.proximal, got.run_id, got.state_round) == (method, 0.5, "a" * 32, 2)
    assert got.needed_rounds == (1, 2)
    assert (list(got.weights), got.control["w"].tolist()) == (["w"], [1.0])
    plain = messages.unpack_request(
        "train", over_the_wire(messages.pack_request(build_request("train", tiny.run_config())))
    )
    assert (plain.method, plain.proximal, plain.run_id, plain.state_round, plain.needed_rounds) == (
        Method(),
        0.0,
        "",
        0,
        (),
    )


def test_a_reply_brings_the_change_of_its_control_variates_and_the_server_its_weight() -> None:
    FakeGrid([])
    sent = TrainReply("north", TrainReport(examples=7), weights=w(1), control={"w": np.full(1, 3.0)})
    content = over_the_wire(messages.pack_reply(sent))
    got = messages.unpack_reply(TrainReply, content)
    assert (got.report.examples, list(got.weights), got.control["w"].tolist()) == (7, ["w"], [3.0])
    asked = Message(messages.pack_request(build_request("train", tiny.run_config())), 1, "train")
    weighed = messages.set_weight(Message(content, reply_to=asked), 7, 2.5).content
    assert messages.read_weight(weighed) == 2.5
    assert messages.read_update(weighed).report == got.report


def test_an_addressed_message_leaves_the_others_alone() -> None:
    FakeGrid([])
    content = messages.pack_request(build_request("train", tiny.run_config(), 1, w(1)))
    one, other = (Message(content, node, "train") for node in (1, 2))
    told = messages.set_state_rounds(one, 4, [3])
    assert [messages.unpack_request("train", m.content).state_round for m in (told, one, other)] == [4, 0, 0]
    assert told.metadata.dst_node_id == 1
