"""The grid of real hospitals: what it sends is packed, what it returns is not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.superlink.grid import HttpGrid, http_grid

from common import messages
from common.errors import EngineError
from common.packed_messages import is_packed, pack_content
from common.requests import TrainRequest
from server import grid
from server.grid import PackingGrid, prepare_grid
from tests import tiny
from tests.wire import FakeGrid

pytestmark = pytest.mark.usefixtures("waiting_clock")

WEIGHTS = {"w": np.arange(6, dtype=np.float32)}


class Transport(FakeGrid):
    """Keeps what it is given, and gives it back as replies."""

    def __init__(self) -> None:
        super().__init__([])
        self.sent: list[Message] = []
        self.calls = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.calls += 1
        self.sent = list(messages)
        return ["a", *([None] * (len(self.sent) - 1))]  # type: ignore[list-item]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self.sent


def outgoing(*nodes: int) -> list[Message]:
    request = TrainRequest(tiny.run_config(), 1, dict(WEIGHTS), run_id="0" * 32)
    return messages.build_messages(request, nodes)


def test_messages_are_packed_on_their_way_and_unpacked_on_their_return() -> None:
    transport = Transport()
    packing = PackingGrid(transport)
    before = outgoing(1, 2)
    digest = before[0].content.object_id
    assert list(packing.push_messages(before)) == ["a", ""]
    assert transport.calls == 1
    assert all(is_packed(message.content) for message in transport.sent)
    assert not is_packed(before[0].content)  # the strategy's own message stays as it is
    back = list(packing.pull_messages(["a"]))
    assert [message.content.object_id for message in back] == [digest, digest]
    assert list(packing.push_messages([])) == []
    assert transport.calls == 1


def test_a_message_that_the_superlink_does_not_store_ends_the_run_in_one_line() -> None:
    class Full(Transport):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            raise ObjectPushError("1f", 1, "2e")

    with pytest.raises(EngineError, match="the SuperLink did not store a message"):
        PackingGrid(Full()).push_messages(outgoing(1))


def test_a_reply_that_cannot_be_unpacked_comes_as_it_is() -> None:
    transport = Transport()
    (spoilt,) = outgoing(1)
    spoilt.content = pack_content(spoilt.content)
    spoilt.content.config_records["packed"]["about"] = b"["
    transport.sent = [spoilt, *outgoing(2)]
    back = list(PackingGrid(transport).pull_messages([]))
    assert [is_packed(message.content) for message in back] == [True, False]


def test_only_real_hospitals_get_packed_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = FakeGrid([])
    assert prepare_grid(simulated) is simulated
    monkeypatch.setattr(http_grid, "pull_objects", http_grid.pull_objects)
    real = HttpGrid("127.0.0.1:1", insecure=True, token="x")
    assert isinstance(prepare_grid(real), PackingGrid)
    assert isinstance(prepare_grid(real), PackingGrid)  # and again in the same process
    quick: Any = vars(http_grid)["pull_objects"]
    assert isinstance(quick, partial)
    assert not isinstance(quick.args[0], partial)
    assert "pull_objects" in HttpGrid.pull_messages.__code__.co_names  # it is this one that Flower calls


def test_the_parts_of_a_reply_are_waited_for_no_longer_than_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def pull(**arguments: Any) -> dict[str, bytes]:
        given.append(arguments)
        return {}

    monkeypatch.setattr(http_grid, "pull_objects", pull)
    prepare_grid(HttpGrid("127.0.0.1:1", insecure=True, token="x"))

    class Fetching(Transport):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            vars(http_grid)["pull_objects"](object_ids=[], pull_object_fn=None)
            return []

    packing = PackingGrid(Fetching())
    for seconds in (None, 40.0, -3.0, 1e9):
        if seconds is not None:
            packing.limit_parts(seconds)
        packing.pull_messages([])
    assert [arguments["max_time"] for arguments in given] == [grid.PARTS_SECONDS, 40.0, 1.0, grid.PARTS_SECONDS]
    assert {arguments["initial_backoff"] for arguments in given} == {grid.FIRST_PAUSE}
