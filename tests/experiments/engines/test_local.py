"""The local engine: the same weights for any number of workers, and nothing left behind."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from common import messages
from common.replies import HandshakeReply
from common.requests import HandshakeRequest
from experiments.engines import local
from experiments.engines.local import LocalGrid
from server.exchange import Expected, Step, send_and_collect
from tests import tiny
from tests.wire import SAMPLE_REPLIES


@pytest.fixture(autouse=True)
def _sites(monkeypatch: pytest.MonkeyPatch) -> None:
    result = [tiny.site(name, i) for i, name in enumerate(("east", "north", "south"), start=1)]
    monkeypatch.setattr("client.site.read_site", lambda site_context, config: result[site_context.index])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("site")]


def test_one_worker_or_two_give_the_same(tmp_path: Path) -> None:
    result = []
    for count in (1, 2):
        out = tmp_path / str(count)
        local.run_local(tiny.run_config(federation__workers=count, training__augment=0.2), out, 3)
        result.append({**read(out / "federated.json"), "seconds": 0})
    assert result[0] == result[1]
    assert result[0]["status"] == "complete"
    assert not workers()


@pytest.mark.parametrize("error", [RuntimeError("disk"), MemoryError("full"), SystemExit(3)])
def test_whatever_breaks_at_a_site_is_a_lost_site(error: BaseException) -> None:
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Any) -> Message:
        if context.node_id == 2:
            raise error
        return Message(messages.pack_reply(SAMPLE_REPLIES["handshake"]), reply_to=message)

    grid = LocalGrid(app, 2, 2)
    outgoing = messages.build_messages(HandshakeRequest(tiny.run_config()), grid.get_node_ids())
    expected, names = Expected(HandshakeReply, lambda reply, node: ""), {1: "north", 2: "south"}
    result, lost = send_and_collect(grid, outgoing, names, 5, lambda event: None, Step("handshake"), expected)
    grid.close()
    assert list(result) == ["north"]
    raised = f"transport error 0: unexpected {type(error).__name__} in tests/experiments/engines/test_local.py, line "
    assert list(lost) == ["south"]
    assert lost["south"].startswith(raised)
    assert str(error) not in lost["south"].removeprefix(raised)[3:]


def test_a_message_of_no_known_kind_is_answered_with_an_error() -> None:
    grid = LocalGrid(ClientApp(), 1, 1)
    (reply,) = grid.send_and_receive([Message(RecordDict(), 1, "train")], timeout=5)
    grid.close()
    assert reply.has_error()


def test_send_and_receive_gives_up_in_time() -> None:
    app = ClientApp()
    done = threading.Event()

    @app.query()
    def hello(message: Message, context: Any) -> Message:
        done.wait(5)
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, 1, 1)
    started = time.monotonic()
    assert grid.send_and_receive([Message(RecordDict(), 1, "query")], timeout=0.1) == []
    assert time.monotonic() - started < 2
    done.set()
    grid.close()


def test_the_server_is_not_woken_for_each_reply() -> None:
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Any) -> Message:
        time.sleep(0.002)
        return Message(messages.pack_reply(SAMPLE_REPLIES["handshake"]), reply_to=message)

    grid = LocalGrid(app, 100, 1)
    waiting = set(grid.push_messages(messages.build_messages(HandshakeRequest(tiny.run_config()), range(1, 101))))
    pulls = 0
    while waiting:
        waiting -= {reply.metadata.reply_to_message_id for reply in grid.pull_messages(waiting)}
        pulls += 1
    grid.close()
    assert pulls < 50  # 0.2 s or more of work, in pulls of 0.05 s


def test_a_reply_is_not_awaited_longer_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PULL_SECONDS", 30.0)
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Any) -> Message:
        time.sleep(0.05)
        return Message(messages.pack_reply(SAMPLE_REPLIES["handshake"]), reply_to=message)

    grid = LocalGrid(app, 2, 1)
    waiting = grid.push_messages(messages.build_messages(HandshakeRequest(tiny.run_config()), [1, 2]))
    started = time.monotonic()
    assert len(list(grid.pull_messages(waiting))) == 2
    assert time.monotonic() - started < 15
    grid.close()


def test_an_interrupt_ends_a_long_epoch_at_once(tmp_path: Path) -> None:
    config = tiny.run_config(training__epochs=5000, federation__rounds=5, federation__workers=2)

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "handshake":
            timer.start()

    def interrupt() -> None:
        import _thread

        _thread.interrupt_main()

    timer = threading.Timer(0.5, interrupt)
    with pytest.raises(KeyboardInterrupt):
        local.run_local(config, tmp_path, 3, listen)
    started = time.monotonic()
    assert not workers()
    assert time.monotonic() - started < 1
    assert read(tmp_path / "federated.json")["status"] == "interrupted"
    assert read(tmp_path / "server.done")["status"] == "interrupted"
    assert (tmp_path / "rounds.jsonl").read_text() == ""


def test_an_interrupt_from_the_listener(tmp_path: Path) -> None:
    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "reply" and event["round"] == 2:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        local.run_local(tiny.run_config(federation__rounds=50), tmp_path, 3, listen)
    assert time.monotonic() - started < 10
    done = read(tmp_path / "federated.json")
    assert (done["status"], done["chosen"]) == ("interrupted", 1)
    assert len((tmp_path / "rounds.jsonl").read_text().splitlines()) == 1
    assert not workers()
