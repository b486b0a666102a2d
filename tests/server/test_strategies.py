"""Every strategy: builds by its name, merges small numbers as anyone can by hand, and refuses what it cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.serverapp.strategy import FedAvg, MultiKrum

from common import messages, models, plugins
from common.arrays import Weights
from common.errors import ConfigError, EngineError
from common.replies import TrainReply
from common.reports import TrainReport
from common.requests import Method
from common.sections.training import StrategyConfig
from server import strategies
from tests import tiny
from tests.wire import FakeGrid, build_request

pytestmark = pytest.mark.usefixtures("waiting_clock")


def w(*values: float) -> Weights:
    return {"w": np.array(values, np.float32)}


def strategy(name: str, **options: Any) -> FedAvg:
    result = strategies.build_strategy(StrategyConfig(name=name, options=options))
    assert isinstance(result, FedAvg)
    return result


def replies(*sent: Weights, weights: Sequence[float] = (), control: Sequence[Weights] = ()) -> list[Message]:
    """Return the answers of nodes 1, 2, ... with 10, 20, ... examples."""
    FakeGrid([])
    made = []
    for i, arrays in enumerate(sent):
        examples = 10 * (i + 1)
        report, change = TrainReport(examples=examples), control[i] if control else {}
        reply = TrainReply(f"s{i}", report, weights=arrays, control=change)
        requested = Message(messages.pack_request(build_request("train", tiny.run_config())), i + 1, "train")
        message = Message(messages.pack_reply(reply), reply_to=requested)
        made.append(messages.set_weight(message, examples, weights[i] if weights else examples))
    return made


def merge(result: FedAvg, answers: list[Message], start: Weights | None = None, number: int = 1) -> list[float]:
    grid = FakeGrid([lambda request: None] * len(answers))
    record = messages.build_model_record(build_request("train", tiny.run_config(), number))
    requested = result.configure_train(number, messages.pack_weights(start or w(0, 0)), record, grid)
    assert sorted(message.metadata.dst_node_id for message in requested) == [*range(1, len(answers) + 1)]
    merged, _ = result.aggregate_train(number, answers)
    assert merged is not None
    weights = messages.unpack_weights(merged)
    assert set(weights) == {"w"}
    return [float(value) for value in weights["w"]]


@pytest.mark.parametrize("name", strategies.list_strategies())
def test_every_strategy_asks_all_sites_and_leaves_alone_what_all_agree_on(name: str) -> None:
    result = strategy(name)
    sent = [w(1, 2)] * 5
    given = {name: np.zeros(2, np.float32) for name in sent[0]}
    control = [given] * 5 if name == "scaffold" else ()
    assert merge(result, replies(*sent, control=control), w(1, 2)) == pytest.approx([1, 2], rel=1e-5)


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
    result = strategy("geomedian")
    # of numbers it is the median
    assert merge(result, replies(w(0), w(1), w(100), weights=(1, 1, 1e9)), w(0)) == pytest.approx([1], abs=1e-4)
    # of an equilateral triangle the center, and of a quadrilateral the point in which its diagonals cross
    height = 3**0.5
    assert merge(result, replies(w(-1, 0), w(1, 0), w(0, height))) == pytest.approx([0, height / 3], abs=1e-6)
    for far in (3, 1000, 1e9):
        sent = [w(0, 0), w(2, 0), w(0, 2), w(far, far)]
        assert merge(result, replies(*sent, weights=(1, 1, 1, 1e9))) == pytest.approx([1, 1], abs=1e-3)
    assert merge(result, replies(w(5, 6), w(7, 8), w(7, 8), w(7, 8))) == pytest.approx([7, 8], abs=1e-5)


def test_a_weighted_geometric_median_is_least_in_weighted_distance() -> None:
    result = strategy("geomedian", weighted=True)
    rng = np.random.default_rng(5)
    points, shares = rng.normal(size=(5, 2)), np.array([1.0, 2.0, 3.0, 3.5, 4.0])
    answers = replies(*[w(*point) for point in points.tolist()], weights=tuple(shares.tolist()))
    center = np.asarray(merge(result, answers))

    def distance(at: np.ndarray) -> float:
        return float(shares @ np.linalg.norm(points - at, axis=1))

    grid = [center + 0.01 * np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 6.28, 60)]
    assert all(distance(center) < distance(at) for at in grid)
    # two sites of one model and less than half of the weight do not decide; with more they do
    assert merge(result, replies(w(0, 0), w(0, 0), w(9, 0), w(9, 1), w(9, 2), weights=(1, 1, 2, 2, 2)))[0] > 8
    assert merge(result, replies(w(0, 0), w(0, 0), w(9, 0), w(9, 1), weights=(3, 3, 2, 2))) == pytest.approx(
        [0, 0], abs=1e-4
    )
    with pytest.raises(EngineError, match=r"half of the weight: set federation\.weight_cap below 0\.5"):
        merge(result, replies(w(0), w(1), w(2), weights=(2, 1, 1)))


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
    result = strategy("scaffold", lr=0.5)
    control = [w(4.0), w(8.0)]
    # x = 0 + .5 * (1 * 8 + 3 * 4) / 4 = 2.5; c = (1 * 4 + 3 * 8) / 4 = 7
    assert merge(result, replies(w(8), w(4), weights=(1, 3), control=control), w(0)) == [2.5]
    assert result.__dict__["control"]["w"].tolist() == [7.0]
    # the first alone: x = 2.5 + .5 * (6.5 - 2.5) = 4.5; c = 7 + 1/4 * (-2)
    assert merge(result, replies(w(6.5), weights=(1,), control=[w(-2.0)]), w(2.5), 2) == [4.5]
    assert result.__dict__["control"]["w"].tolist() == [6.5]


def test_scaffolds_server_with_a_site_that_comes_late() -> None:
    result = strategy("scaffold")
    merge(result, replies(w(1), weights=(1,), control=[w(4.0)]), w(0))
    merge(result, replies(w(1), w(1), weights=(1, 3), control=[w(0.0), w(8.0)]), w(0), 2)
    assert result.__dict__["control"]["w"].tolist() == [(1 * 4 + 3 * 8) / 4]


def test_scaffolds_server_sends_its_control_variates_with_the_model() -> None:
    result = strategy("scaffold")
    grid = FakeGrid([lambda request: None])
    record = messages.build_model_record(build_request("train", tiny.run_config(), 1, method=Method(control=True)))
    (message,) = result.configure_train(1, messages.pack_weights(w(1, 2)), record, grid)
    request = messages.unpack_request("train", message.content)
    assert (request.weights["w"].tolist(), request.control["w"].tolist()) == ([1, 2], [0, 0])
    assert request.method.control


def test_fedprox_says_mu() -> None:
    grid = FakeGrid([lambda request: None])
    (message,) = strategy("fedprox", mu=0.25).configure_train(
        1, messages.pack_weights(w(1)), messages.build_model_record(build_request("train", tiny.run_config(), 1)), grid
    )
    assert messages.unpack_request("train", message.content).proximal == 0.25


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
            printed = f"{default:g}" if isinstance(default, float) else f"{default}"
            assert f"`{option}` ({printed})" in row.replace("(`", "(").replace("`)", ")"), (name, option)
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
