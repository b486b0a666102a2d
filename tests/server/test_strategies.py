"""Every strategy: builds by its name, merges small numbers as anyone can by hand, and refuses what it cannot do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.serverapp.strategy import FedAvg, MultiKrum

from client import requests as work
from client.policy import SIMULATION_POLICY
from client.site import Site
from client.site_context import SiteContext
from common import messages, models, plugins
from common.arrays import Weights
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.replies import Reply, TrainReply
from common.reports import TrainReport
from common.requests import Method, Request
from common.sections.training import StrategyConfig
from server import app, strategies
from server.phases import train
from server.phases.handshake import run_handshake
from server.run import Outcome, Run
from tests import tiny
from tests.wire import Answer, FakeGrid, Script, build_request, over_the_wire

Numbers = Sequence[float]


def strategy(name: str, **options: Any) -> FedAvg:
    found = strategies.build_strategy(StrategyConfig(name=name, options=options))
    assert isinstance(found, FedAvg)
    return found


def replies(*sent: Weights, weights: Sequence[float] = (), control: Sequence[Weights] = ()) -> list[Message]:
    """Return the answers of nodes 1, 2, ... with 10, 20, ... examples."""
    FakeGrid([])
    made = []
    for i, arrays in enumerate(sent):
        examples = 10 * (i + 1)
        report, change = TrainReport(examples=examples), control[i] if control else {}
        reply = TrainReply(f"s{i}", report, weights=arrays, control=change)
        asked = Message(messages.pack_request(build_request("train", tiny.run_config())), i + 1, "train")
        message = Message(messages.pack_reply(reply), reply_to=asked)
        made.append(messages.set_weight(message, examples, weights[i] if weights else examples))
    return made


def w(*values: float) -> Weights:
    return {"w": np.array(values, np.float32)}


def merge(found: FedAvg, answers: list[Message], start: Weights | None = None, number: int = 1) -> list[float]:
    grid = FakeGrid([lambda request: None] * len(answers))
    record = messages.build_model_record(build_request("train", tiny.run_config(), number))
    asked = found.configure_train(number, messages.pack_weights(start or w(0, 0)), record, grid)
    assert sorted(message.metadata.dst_node_id for message in asked) == [*range(1, len(answers) + 1)]
    merged, _ = found.aggregate_train(number, answers)
    assert merged is not None
    weights = messages.unpack_weights(merged)
    assert set(weights) == {"w"}
    return [float(value) for value in weights["w"]]


@pytest.mark.parametrize("name", strategies.list_strategies())
def test_every_strategy_asks_all_sites_and_leaves_alone_what_all_agree_on(name: str) -> None:
    found = strategy(name)
    sent = [w(1, 2)] * 5
    given = {name: np.zeros(2, np.float32) for name in sent[0]}
    control = [given] * 5 if name == "scaffold" else ()
    assert merge(found, replies(*sent, control=control), w(1, 2)) == pytest.approx([1, 2], rel=1e-5)


# By hand.


def test_fedavg_weighs_by_what_the_reply_says() -> None:
    # (1 * 10 + 3 * 2) / 4 = 4; with the examples 10 and 20 it would be 4.67
    assert merge(strategy("fedavg"), replies(w(10), w(2), weights=(1, 3))) == [4]
    assert merge(strategy("fedavg"), replies(w(10), w(1))) == [4]


def test_fedmedian_and_the_trimmed_mean_ignore_weights_and_outliers() -> None:
    sent = [w(1, 5), w(2, 5), w(3, 5), w(4, 6), w(1e6, -1e6)]
    for weights in ((1,) * 5, (1, 1, 1, 1, 1e9)):
        assert merge(strategy("fedmedian"), replies(*sent, weights=weights)) == [3, 5]
        assert merge(strategy("fedtrimmedavg", cut=0.2), replies(*sent, weights=weights)) == [3, 5]
        assert merge(strategy("fedtrimmedavg", cut=0.4), replies(*sent, weights=weights)) == [3, 5]


def test_the_geometric_median_is_moved_little_by_one_model_however_far() -> None:
    found = strategy("geomedian")
    # of numbers it is the median
    assert merge(found, replies(w(0), w(1), w(100), weights=(1, 1, 1e9)), w(0)) == pytest.approx([1], abs=1e-4)
    # of an equilateral triangle the center, and of a quadrilateral the point in which its diagonals cross
    height = 3**0.5
    assert merge(found, replies(w(-1, 0), w(1, 0), w(0, height))) == pytest.approx([0, height / 3], abs=1e-6)
    for far in (3, 1000, 1e9):
        sent = [w(0, 0), w(2, 0), w(0, 2), w(far, far)]
        assert merge(found, replies(*sent, weights=(1, 1, 1, 1e9))) == pytest.approx([1, 1], abs=1e-3)
    assert merge(found, replies(w(5, 6), w(7, 8), w(7, 8), w(7, 8))) == pytest.approx([7, 8], abs=1e-5)


def test_krum_takes_a_model_from_the_crowd() -> None:
    # squared distances to the two nearest (5 - 1 - 2): 0: 1 + 9, 1: 1 + 4, 3: 4 + 9, 6: 9 + 25, 100: far
    sent = [w(0), w(1), w(3), w(6), w(100)]
    assert merge(strategy("krum", malicious=1), replies(*sent, weights=(1, 1, 1, 1, 1e9))) == [1]
    # of scores 10, 5, 13 the three least; weighted 1, 2 and 5: (0 + 2 + 15) / 8
    chosen = strategy("multikrum", malicious=1, select=3)
    assert merge(chosen, replies(*sent, weights=(1, 2, 5, 1, 1))) == [17 / 8]


def test_krum_sees_small_differences_between_large_weights() -> None:
    rng = np.random.default_rng(3)
    base = 100 + rng.normal(size=2000)
    flowers = MultiKrum(num_malicious_nodes=1, min_available_nodes=1, min_train_nodes=1, weighted_by_key="weight")
    mistaken = 0
    for _ in range(10):
        sent = [w(*(base + step * rng.normal(size=2000))) for step in (0.003, 0.0035, 0.0036, 0.01, 0.01)]
        nearest = [float(value) for value in sent[0]["w"]]
        assert merge(strategy("krum", malicious=1), replies(*sent), w(*base)) == nearest
        theirs, _ = flowers.aggregate_train(1, replies(*sent))
        assert theirs is not None
        mistaken += messages.unpack_weights(theirs)["w"].tolist() != nearest
    assert mistaken, "Flower's own precision would do"


@pytest.mark.parametrize(
    ("name", "options", "answers", "why"),
    [
        ("krum", {"malicious": 1}, 4, "1 with 1 malicious sites needs 5 answers a round, 4 came"),
        ("krum", {}, 2, "1 with 0 malicious sites needs 3 answers a round, 2 came"),
        ("multikrum", {"malicious": 1, "select": 5}, 5, "5 with 1 malicious sites needs 6 answers a round, 5 came"),
        ("geomedian", {}, 2, "geomedian needs 3 answers a round, 2 came"),
        ("fedtrimmedavg", {"cut": 0.2}, 4, "cut=0.2 leaves out none of 4 answers: set cut to at least 1/4"),
        ("fedtrimmedavg", {"cut": 0.4}, 2, "cut=0.4 leaves out none of 2 answers"),
    ],
)
def test_a_robust_strategy_refuses_a_round_in_which_it_is_none(
    name: str, options: dict[str, Any], answers: int, why: str
) -> None:
    with pytest.raises(EngineError, match=why):
        merge(strategy(name, **options), replies(*[w(1)] * answers))
    assert merge(strategy(name, **options), replies(*[w(1)] * 6), w(1)) == [1]


def test_scaffolds_server_with_a_site_that_misses_a_round() -> None:
    # sites of weights 1 and 3; x and c start at 0
    found = strategy("scaffold", lr=0.5)
    control = [w(4.0), w(8.0)]
    # x = 0 + .5 * (1 * 8 + 3 * 4) / 4 = 2.5; c = (1 * 4 + 3 * 8) / 4 = 7
    assert merge(found, replies(w(8), w(4), weights=(1, 3), control=control), w(0)) == [2.5]
    assert found.__dict__["control"]["w"].tolist() == [7.0]
    # the first alone: x = 2.5 + .5 * (6.5 - 2.5) = 4.5; c = 7 + 1/4 * (-2)
    assert merge(found, replies(w(6.5), weights=(1,), control=[w(-2.0)]), w(2.5), 2) == [4.5]
    assert found.__dict__["control"]["w"].tolist() == [6.5]


def test_scaffolds_server_with_a_site_that_comes_late() -> None:
    found = strategy("scaffold")
    merge(found, replies(w(1), weights=(1,), control=[w(4.0)]), w(0))
    merge(found, replies(w(1), w(1), weights=(1, 3), control=[w(0.0), w(8.0)]), w(0), 2)
    assert found.__dict__["control"]["w"].tolist() == [(1 * 4 + 3 * 8) / 4]


def test_scaffolds_server_sends_its_control_variates_with_the_model() -> None:
    found = strategy("scaffold")
    grid = FakeGrid([lambda request: None])
    record = messages.build_model_record(build_request("train", tiny.run_config(), 1, method=Method(control=True)))
    (message,) = found.configure_train(1, messages.pack_weights(w(1, 2)), record, grid)
    request = messages.unpack_request("train", message.content)
    assert (request.weights["w"].tolist(), request.control["w"].tolist()) == ([1, 2], [0, 0])
    assert request.method.control


def test_fedprox_says_mu() -> None:
    grid = FakeGrid([lambda request: None])
    (message,) = strategy("fedprox", mu=0.25).configure_train(
        1, messages.pack_weights(w(1)), messages.build_model_record(build_request("train", tiny.run_config(), 1)), grid
    )
    assert messages.unpack_request("train", message.content).proximal == 0.25


# What stays at the sites.


def model(**options: Any) -> Any:
    return models.build_model(
        tiny.TASK, tiny.run_config(model__options={"widths": [4], "hidden": 4} | options).model, 1
    )


def method(name: str, **options: Any) -> Method:
    return strategies.build_method(StrategyConfig(name=name, options=options), model())


def test_what_a_strategy_asks_of_the_sites() -> None:
    norms = ["stem_norm", "stages.0.norm1", "stages.0.norm2"]
    assert method("fedbn").local == tuple(f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias"))
    assert method("fedper").local == ("head.out.weight", "head.out.bias")
    assert method("fedper", layers=["out.bias"]).local == ("head.out.bias",)
    assert method("fedper", layers=["head.*", "stem.weight"]).local[0] == "stem.weight"
    assert method("ditto", pull=0.5) == Method(pull=0.5)
    assert method("scaffold") == Method(control=True)
    plain = [name for name in strategies.list_strategies() if not method(name).keeps_state]
    assert set(strategies.list_strategies()) - set(plain) == {"fedbn", "fedper", "ditto", "scaffold"}


def test_every_strategy_and_option_is_in_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "strategies.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name in strategies.list_strategies():
        (row,) = [line for line in rows if f"`{name}`" in line.split("|")[1]]
        options = plugins.load_plugin("server.strategies", "build", name, "strategy").Options.model_fields
        for option, field in options.items():
            default = field.default if not isinstance(field.default, tuple) else f"[{', '.join(field.default)}]"
            shown = f"{default:g}" if isinstance(default, float) else f"{default}"
            assert f"`{option}` ({shown})" in row.replace("(`", "(").replace("`)", ")"), (name, option)
        assert sum(f"`{option}`" in row for option in options) == len(options)
        assert f"**`{name}`" in page or f", `{name}`" in page


def test_wrong_names_and_options() -> None:
    with pytest.raises(ConfigError, match=r"no strategy named 'fedavgg': choose one of .*fedavg"):
        strategies.build_strategy(StrategyConfig(name="fedavgg"))
    with pytest.raises(ConfigError, match="unknown key mu"):
        strategies.build_strategy(StrategyConfig(options={"mu": 1}))
    for name, options in (
        ("fedprox", {"mu": 0.0}), ("fedtrimmedavg", {"cut": 0.5}), ("fedper", {"layers": []}), ("fedavgm", {"lr": 0.0}),
        ("krum", {"malicious": -1}), ("fedadam", {"beta1": 1.0}), ("ditto", {"pull": -0.1}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"federation.strategy.options of {name}: {next(iter(options))}"):
            strategy(name, **options)


def test_layers_that_cannot_stay_local() -> None:
    from torch import nn

    with pytest.raises(ConfigError, match=r"no parameter is called 'head.bias'; the model has stem.weight, .*head.out"):
        method("fedper", layers=["out.bias", "head.bias"])
    with pytest.raises(ConfigError, match="keeps all parameters local"):
        method("fedper", layers=["*"])
    with pytest.raises(ConfigError, match="0 of the model's 2 arrays are of norm layers: use fedper or fedavg"):
        strategies.build_method(StrategyConfig(name="fedbn"), nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("training", "fits"),
    [({"optimizer": "sgd", "momentum": 0.0}, True), ({"optimizer": "sgd"}, False), ({"momentum": 0.0}, False)],
)
def test_scaffold_is_for_plain_gradient_steps(tmp_path: Path, training: dict[str, Any], fits: bool) -> None:
    config = tiny.run_config(federation__strategy={"name": "scaffold"}, training=training)
    if fits:
        strategies.check_strategy(config)
        return
    with pytest.raises(ConfigError, match=r"set training.optimizer=sgd and training.momentum=0"):
        strategies.check_strategy(config)


# Over rounds, with sites that fail.


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


def sent_to(grid: FakeGrid, node: int, kind: str) -> list[tuple[int, int, int]]:
    return [(r.round, r.state_round, r.best_round) for to, r in grid.sent if to == node and r.kind == kind]


def test_a_site_goes_on_from_the_last_round_that_counted(sites: dict[str, Site], tmp_path: Path) -> None:
    # south trains and keeps its state in round 2 too, but its answer does not count
    late = changed(at(sites["south"], tmp_path), extra, "train", 2)
    grid = FakeGrid([at(sites["north"], tmp_path), late])
    done = lead(grid, per(federation__rounds=4, federation__choose="last"), tmp_path / "out")
    assert done["lost"] == {"south": "round 2: its weights do not fit the model"}
    assert sent_to(grid, 1, "train") == [(1, 0, 0), (2, 1, 1), (3, 2, 2), (4, 3, 3)]
    assert sent_to(grid, 2, "train") == [(1, 0, 0), (2, 1, 1), (3, 1, 1), (4, 3, 3)]
    assert sent_to(grid, 1, "test") == sent_to(grid, 2, "test") == [(4, 4, 4)]
    ids = {r.run_id for _, r in grid.sent if r.kind != "handshake"}
    assert len(ids) == 1
    assert {path.name for path in (tmp_path / "south" / ids.pop()).iterdir()} == {
        f"round-0000{n}.safetensors" for n in (3, 4)
    }


def test_the_final_test_is_of_the_chosen_rounds_layers(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # round 2 is best in the servers' eyes, whatever the sites' validation says
    monkeypatch.setattr(train, "is_better", lambda run, one, other: len(outcomes) == 2)
    outcomes: list[Reply] = []

    def watched(script: Script) -> Script:
        def answer(request: Request) -> Answer:
            reply = script(request)
            assert isinstance(reply, Reply)
            if request.kind == "train" and reply.site == "north":
                outcomes.append(reply)
            return reply

        return answer

    grid = FakeGrid([watched(at(sites["north"], tmp_path)), at(sites["south"], tmp_path)])
    done = lead(grid, per(federation__rounds=5), tmp_path / "out")
    assert done["chosen"] == 2
    assert sent_to(grid, 1, "train") == [(1, 0, 0), (2, 1, 1), (3, 2, 2), (4, 3, 2), (5, 4, 2)]
    assert sent_to(grid, 1, "validate") == [(1, 1, 0), (2, 2, 1), (3, 3, 2), (4, 4, 2), (5, 5, 2)]
    assert sent_to(grid, 1, "test") == [(2, 2, 2)]
    (folder,) = (tmp_path / "north").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [f"round-0000{n}.safetensors" for n in (2, 4, 5)]


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


# Over the wire.


@pytest.mark.parametrize("method", [Method(), Method(("a.b", "c")), Method(control=True), Method(pull=0.0)])
def test_what_a_strategy_asks_arrives_as_it_was_sent(method: Method) -> None:
    sent = build_request(
        "train", tiny.run_config(), 3, w(1), method=method, proximal=0.5, control={"w": np.ones(1)}, run_id="a" * 32,
        state_round=2, best_round=1,
    )  # fmt: skip
    got = messages.unpack_request("train", over_the_wire(messages.pack_request(sent)))
    assert (got.method, got.proximal, got.run_id, got.state_round, got.best_round) == (method, 0.5, "a" * 32, 2, 1)
    assert (list(got.weights), got.control["w"].tolist()) == (["w"], [1.0])
    plain = messages.unpack_request(
        "train", over_the_wire(messages.pack_request(build_request("train", tiny.run_config())))
    )
    assert (plain.method, plain.proximal, plain.run_id, plain.state_round, plain.best_round) == (
        Method(),
        0.0,
        "",
        0,
        0,
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
    told = messages.set_state_rounds(one, 4, 3)
    assert [messages.unpack_request("train", m.content).state_round for m in (told, one, other)] == [4, 0, 0]
    assert told.metadata.dst_node_id == 1
