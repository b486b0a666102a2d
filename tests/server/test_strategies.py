"""Every strategy: builds by its name, and averages as it says."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Message

from common import messages
from common.config import StrategyConfig
from common.errors import ConfigError
from common.messages import Reply
from server import strategies
from tests import tiny
from tests.wire import FakeGrid


def replies(*values: tuple[int, float]) -> list[Message]:
    FakeGrid([])
    made = []
    for node, (examples, value) in enumerate(values, start=1):
        reply = Reply(f"s{node}", examples, {}, weights={"w": np.full((2, 2), value, np.float32)})
        asked = Message(messages.pack_request(messages.Request("train", tiny.run_config())), node, "train")
        made.append(Message(messages.pack_reply(reply), reply_to=asked))
    return made


def test_fedavg_weighs_by_examples() -> None:
    # (1 * 10 + 3 * 2) / 4 = 4
    merged, _ = strategies.build(StrategyConfig()).aggregate_train(1, replies((1, 10.0), (3, 2.0)))
    assert merged is not None
    assert messages.unpack_weights(merged)["w"].tolist() == [[4.0, 4.0], [4.0, 4.0]]


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_takes_all_sites_and_keeps_equal_weights(name: str) -> None:
    strategy = strategies.build(StrategyConfig(name=name))
    grid = FakeGrid([lambda request: None] * 3)
    record = messages.request_config(tiny.run_config(), 1)
    arrays = messages.pack_weights({"w": np.ones((2, 2), np.float32)})
    asked = list(strategy.configure_train(1, arrays, record, grid))
    assert sorted(message.metadata.dst_node_id for message in asked) == [1, 2, 3]
    assert all(messages.unpack_request("train", message.content).round == 1 for message in asked)
    merged, _ = strategy.aggregate_train(1, replies((5, 1.0), (7, 1.0)))
    assert merged is not None
    np.testing.assert_allclose(messages.unpack_weights(merged)["w"], 1.0)


def test_wrong_names_and_options() -> None:
    with pytest.raises(ConfigError, match=r"no strategy named 'fedavgg': choose one of .*fedavg"):
        strategies.build(StrategyConfig(name="fedavgg"))
    with pytest.raises(ConfigError, match="unknown key mu"):
        strategies.build(StrategyConfig(options={"mu": 1}))
