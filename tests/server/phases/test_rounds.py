"""The rounds against a plain loop over the sites, and what they do when sites fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error, RecordDict

from client.site import Site
from client.training.local_update import copy_weights
from client.training.loop import Schedule, train_model
from common import messages, models
from common.config import RunConfig
from common.errors import EngineError
from common.replies import HandshakeReply, Reply
from common.requests import HandshakeRequest, Request
from common.seeds import seed_for
from server import exchange
from server.exchange import Expected, Step
from server.run import digest_weights
from tests import tiny
from tests.server.conftest import WaitingClock
from tests.server.phases.memory_runs import fails_in, lead, lines, outcome, scripts, strictly
from tests.wire import Answer, FakeGrid, Script, change_report, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")


def plain_rounds(sites: dict[str, Site], config: RunConfig) -> list[dict[str, np.ndarray]]:
    """Federated averaging as a plain loop over the sites in the order of their names; the weights of each round."""
    current = copy_weights(models.build_model(tiny.TASK, config.model, config.seed))
    counts = [sum(s.train.class_counts()[c] for s in sites.values()) for c in range(3)]
    total = sum(len(s.train.y) for s in sites.values())
    result = []
    for number in range(1, config.federation.rounds + 1):
        merged: dict[str, np.ndarray] = {}
        for name in sorted(sites):
            model = models.build_model(tiny.TASK, config.model, config.seed)
            model.load_state_dict({key: torch.tensor(value) for key, value in current.items()})
            seed = seed_for(config.seed, name, number, "train")
            epochs = config.training.epochs
            schedule = Schedule((number - 1) * epochs, config.federation.rounds * epochs)
            train_model(model, sites[name].train, config.training, seed, counts=counts, schedule=schedule)
            share = len(sites[name].train.y) / total
            for key, value in copy_weights(model).items():
                merged[key] = merged[key] + value * share if key in merged else value * share
        result.append(merged)
        current = merged
    return result


def test_rounds_are_the_plain_loop_over_sites(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__rounds=3, training__epochs=2, federation__choose="last")
    done = lead(FakeGrid(scripts(sites)), config, tmp_path)
    expected = plain_rounds(sites, config)
    assert [line["weights"] for line in lines(tmp_path)] == [digest_weights(w) for w in expected]
    assert (done["status"], done["chosen"], done["weights"]) == ("complete", 3, digest_weights(expected[-1]))


def test_one_site_with_all_data_is_ordinary_training(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__choose="last")
    north = sites["north"]
    lead(FakeGrid([site_script(north)]), config, tmp_path)
    model = models.build_model(tiny.TASK, config.model, config.seed)
    for number in (1, 2):
        seed = seed_for(config.seed, "north", number, "train")
        counts = north.train.class_counts()
        train_model(model, north.train, config.training, seed, counts=counts, schedule=Schedule(number - 1, 2))
        assert lines(tmp_path)[number - 1]["weights"] == digest_weights(copy_weights(model))


def test_any_order_of_answers_gives_the_same_weights(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config()
    result = []
    for i, sign in enumerate((1, -1)):
        grid = FakeGrid(scripts(sites), order=lambda message, s=sign: s * message.metadata.dst_node_id)
        result.append(lead(grid, config, tmp_path / str(i)))
    turned = FakeGrid(list(reversed(scripts(sites))))
    result.append(lead(turned, config, tmp_path / "turned"))
    for other in result[1:]:
        assert {k: v for k, v in other.items() if k != "seconds"} == {
            k: v for k, v in result[0].items() if k != "seconds"
        }


def test_a_site_that_fails_in_round_2_is_named_and_comes_back(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites)
    reason = messages.pack_error("south", "SiteError", "policy: too few people")
    south = fails_in(south, lambda request: Error(code=messages.ERROR_CODE, reason=reason), "train", {2})
    config = tiny.run_config(federation__rounds=3)
    done = lead(FakeGrid([north, south]), config, tmp_path)
    reported = lines(tmp_path)
    assert [sorted(s for s, v in line["sites"].items() if "train" in v) for line in reported] == [
        ["north", "south"], ["north"], ["north", "south"],
    ]  # fmt: skip
    assert reported[1]["lost"] == {"south": "policy: too few people"}
    assert (done["status"], done["lost"]) == ("complete", {"south": "round 2: policy: too few people"})
    assert set(done["test"]["all"]) == {"north", "south"}


def spoilt(script: Script, **changes: Any) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        reply = script(request)
        assert isinstance(reply, Reply)
        return replace(reply, **changes)

    return answer


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda s: spoilt(s, weights={"other": np.zeros(3)}), "its weights do not fit the model"),
        (lambda s: lambda request: RecordDict(), "its answer is not one of this federation's protocol"),
        (
            lambda s: lambda request: change_report(s(request), examples=0),
            "it trained on 0 examples, in the handshake it stated 40",
        ),
        (lambda s: lambda request: Error(code=7, reason="node\nunavailable"), "transport error 7: node"),
        (lambda s: lambda request: Error(code=100, reason="not JSON"), "transport error 100: not JSON"),
        (lambda s: lambda request: None, "no answer within 2 s"),
    ],
    ids=["other model", "empty", "no examples", "transport", "garbled error", "silent"],
)
def test_a_broken_answer_costs_its_site_and_no_other(
    sites: dict[str, Site], tmp_path: Path, wrong: Any, why: str
) -> None:
    north, south = scripts(sites)
    config = tiny.run_config(federation__rounds=1, federation__round_timeout=2.0)
    done = lead(FakeGrid([north, fails_in(south, wrong(south), "train", {1})]), config, tmp_path)
    assert done["status"] == "complete"
    assert lines(tmp_path)[0]["lost"] == {"south": why}
    assert lines(tmp_path)[0]["sites"]["south"].keys() == {"validation"}


def test_weights_that_are_not_finite_do_not_reach_the_average(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites)

    def poison(request: Request) -> Answer:
        reply = south(request)
        assert isinstance(reply, Reply)
        next(iter(reply.weights.values())).flat[0] = np.nan
        return reply

    config = tiny.run_config(federation__rounds=1, federation__choose="last")
    lead(FakeGrid([north, fails_in(south, poison, "train", {1})]), config, tmp_path)
    assert lines(tmp_path)[0]["lost"] == {"south": "its weights of stem.weight are not finite numbers"}


def test_fewer_sites_than_needed_end_the_run(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites)
    south = fails_in(south, lambda request: Error(code=1, reason="power cut"), "train", {2})
    config = tiny.run_config(federation__min_sites=2, federation__rounds=3)
    with pytest.raises(EngineError, match=r"round 2: 1 of 2 sites answered, 2 are needed \(south: .*power cut"):
        lead(FakeGrid([north, south]), config, tmp_path)
    done = outcome(tmp_path)
    assert done["status"] == "failed"
    assert "round 2" in done["error"]
    assert "round 2" in done["lost"]["south"]
    assert len(lines(tmp_path)) == 1
    assert (tmp_path / "model.safetensors").is_file()
    assert strictly((tmp_path / "server.done").read_text())["status"] == "failed"


def test_a_site_that_goes_offline_is_not_waited_for(
    sites: dict[str, Site], tmp_path: Path, waiting_clock: WaitingClock
) -> None:
    north, south = scripts(sites)
    grid = FakeGrid([north, south])

    def dies(request: Request) -> Answer:
        grid.offline.add(2)
        return None

    def comes_back(request: Request) -> Answer:
        if request.kind == "train" and request.round == 3:
            grid.offline.discard(2)
        return north(request)

    grid.scripts = {1: comes_back, 2: fails_in(south, dies, "train", {2})}
    done = lead(grid, tiny.run_config(federation__rounds=4), tmp_path)
    reported = lines(tmp_path)
    assert reported[1]["lost"] == {"south": "went offline"}
    assert reported[2]["lost"] == {"south": "offline"}
    assert reported[3]["lost"] == {}
    assert reported[3]["sites"]["south"]["train"]["examples"] == 40
    assert done["status"] == "complete"
    assert 20 < waiting_clock.now < 30  # a site may be offline for 20 s, and round_timeout is 120 s


def test_exchange_sorts_and_waits_no_longer_than_asked(sites: dict[str, Site]) -> None:
    config = tiny.run_config()
    grid = FakeGrid([*reversed(scripts(sites)), lambda request: None])
    heard: list[Any] = []
    outgoing = messages.build_messages(HandshakeRequest(config), (1, 2, 3))
    expected = Expected(HandshakeReply, lambda reply, node: "")
    names = {1: "south", 2: "north", 3: "west"}
    result, lost = exchange.send_and_collect(grid, outgoing, names, 0.2, heard.append, Step("handshake"), expected)
    assert list(result) == ["north", "south"]
    assert lost == {"west": "no answer within 0.2 s"}
    assert [(event.site, event.ok, event.waiting) for event in heard] == [("south", True, 2), ("north", True, 1)]
