"""Messages and replies that are lost on their way between the server and a node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import Error, Message

from common import messages
from common.receipts import RECEIPT_TYPE, pack_receipt
from common.replies import HandshakeReply
from common.requests import HandshakeRequest
from server import receipts
from server.events import SentAgainEvent
from server.exchange import Expected, Step, send_and_collect
from tests import tiny
from tests.server.conftest import WaitingClock
from tests.server.phases.memory_runs import hello
from tests.wire import FakeGrid

pytestmark = pytest.mark.usefixtures("waiting_clock")


class LossyGrid(FakeGrid):
    """Nodes that handle one message after another; the messages and replies of some numbers are lost."""

    asks_receipts = True

    def __init__(self, *given: Any, messages: Iterable[int] = (), replies: Iterable[int] = ()) -> None:
        super().__init__(*given)
        self.lost_messages, self.lost_replies = set(messages), set(replies)
        self.last = dict.fromkeys(self.scripts, "")
        self.questions: list[str] = []
        self.impostor = 0

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = super().push_messages(messages)
        for name in names:
            if int(name) in self.lost_messages:
                del self._waiting[name]
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        for name, message in sorted(self._waiting.items(), key=lambda item: int(item[0])):
            node = message.metadata.dst_node_id
            if message.metadata.message_type != RECEIPT_TYPE:
                self.last[node] = name
                if int(name) in self.lost_replies:
                    del self._waiting[name]
                continue
            if name in set(message_ids) and not any(
                other.metadata.dst_node_id == node and int(key) < int(name) for key, other in self._waiting.items()
            ):
                del self._waiting[name]
                self.questions.append(name)
                reply = Message(pack_receipt(self.last[node]), reply_to=message)
                reply.metadata.__dict__["_reply_to_message_id"] = name
                if self.impostor:
                    reply.metadata.__dict__["_src_node_id"] = self.impostor
                return [reply]
        own = {name for name, item in self._waiting.items() if item.metadata.message_type != RECEIPT_TYPE}
        return super().pull_messages(own & set(message_ids))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "QUESTION_SECONDS", 0.02)


def ask(grid: LossyGrid, seconds: float = 0.5) -> tuple[list[str], dict[str, str], list[Any]]:
    events: list[Any] = []
    outgoing = messages.build_messages(HandshakeRequest(tiny.run_config()), (1, 2))
    names = {1: "south", 2: "north"}
    expected = Expected(HandshakeReply, lambda reply, node: "")
    answers, lost = send_and_collect(grid, outgoing, names, seconds, events.append, Step("train", 3), expected)
    return list(answers), lost, [event for event in events if isinstance(event, SentAgainEvent)]


@pytest.fixture
def two() -> Any:
    return [hello("south"), hello("north")]


def test_a_message_that_was_lost_is_sent_again(two: Any) -> None:
    answers, lost, events = ask(LossyGrid(two, messages=[2]), seconds=30.0)
    assert (answers, lost, events) == (["north", "south"], {}, [SentAgainEvent("north", "train", 3)])


def test_one_that_stays_lost_is_sent_three_times_and_waited_for_no_longer_than_ever(two: Any) -> None:
    answers, lost, events = ask(LossyGrid(two, messages=range(2, 100)))
    assert answers == ["south"]
    assert lost == {"north": "no answer within 0.5 s"}
    assert len(events) <= 2


def test_a_reply_that_was_lost_ends_the_wait(two: Any) -> None:
    answers, lost, events = ask(LossyGrid(two, replies=[2]), seconds=30.0)
    assert (answers, lost, events) == (["south"], {"north": "its reply was lost on the way"}, [])


def test_another_node_cannot_answer(two: Any) -> None:
    grid = LossyGrid(two, messages=[2])
    grid.impostor = 1
    answers, lost, events = ask(grid)
    assert (answers, lost, events) == (["south"], {"north": "no answer within 0.5 s"}, [])


def test_a_busy_node_is_asked_once_and_nothing_is_sent_again(two: Any, waiting_clock: WaitingClock) -> None:
    first = two[0]

    def slow(request: Any) -> Any:
        waiting_clock.sleep(0.2)
        return first(request)

    grid = LossyGrid([slow, two[1]])
    answers, lost, events = ask(grid, seconds=30.0)
    assert (answers, lost, events) == (["north", "south"], {}, [])


def test_a_node_of_an_engine_that_loses_nothing_is_not_asked(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossyGrid, "asks_receipts", False)
    grid = LossyGrid(two, messages=[2])
    answers, lost, _ = ask(grid, 0.3)
    assert (answers, lost, grid.questions) == (["south"], {"north": "no answer within 0.3 s"}, [])


@pytest.mark.parametrize("content", [Error(0, "no"), pack_receipt("x" * 300)])
def test_an_odd_answer_changes_nothing(two: Any, content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.server.test_receipts.pack_receipt", lambda last: content)
    answers, lost, events = ask(LossyGrid(two, messages=[2]), 0.3)
    assert (answers, lost, events) == (["south"], {"north": "no answer within 0.3 s"}, [])


def test_a_node_that_was_offline_is_asked_again(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contents: list[Any] = [Error(5, "offline"), Error(5, "offline")]
    original = pack_receipt

    def next_content(last: str) -> Any:
        return contents.pop() if contents else original(last)

    monkeypatch.setattr("tests.server.test_receipts.pack_receipt", next_content)
    grid = LossyGrid(two, messages=[2])
    answers, lost, events = ask(grid, 30.0)
    assert (answers, lost, len(events)) == (["north", "south"], {}, 1)
    assert len(grid.questions) >= 3
