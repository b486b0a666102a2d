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
from safetensors.numpy import load_file

from client import requests
from client.training.stacked import train_stacked
from common import messages
from common.errors import SiteError
from common.replies import HandshakeReply
from common.requests import HandshakeRequest
from common.run_folder import RunFolder
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


def run_and_read(out: Path, **sections: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run three sites and return the final weights, and the lines of rounds.jsonl."""
    local.run_local(tiny.run_config(model={"name": "mlp"}, **sections), out, 3)
    lines = [json.loads(line) for line in RunFolder(out).rounds.read_text().splitlines()]
    return load_file(RunFolder(out).weights()), lines


def test_stacked_sites_are_answered_as_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[tuple[int, str]]] = {"admitted": [], "checked": [], "stacked": []}

    def note(name: str, kind: str, real: Any) -> None:
        def noting(context: Any, request: Any, *more: Any) -> Any:
            asked[kind].append((context.index, request.kind))
            return real(context, request, *more)

        monkeypatch.setattr(f"client.requests.{name}", noting)

    note("admit", "admitted", requests.admit)
    note("check_reply", "checked", requests.check_reply)
    stacks: list[int] = []

    def count_calls(calls: Any) -> Any:
        stacks.append(len(calls))
        return train_stacked(calls)

    monkeypatch.setattr("client.training.training_group.train_stacked", count_calls)
    alone, rounds = run_and_read(tmp_path / "alone")
    before = {kind: sorted(each) for kind, each in asked.items()}
    assert not stacks
    for each in asked.values():
        each.clear()
    stacked, stacked_rounds = run_and_read(tmp_path / "stacked", federation__stacked=True)
    assert stacks == [3, 3]
    assert {kind: sorted(each) for kind, each in asked.items()} == before
    assert [line["weights"] for line in rounds] != [line["weights"] for line in stacked_rounds]  # the last digits
    # AdamW turns a gradient of nearly zero into a step, so single weights may differ by more than the last digits
    apart = sum(float(((stacked[name] - value) ** 2).sum()) for name, value in alone.items())
    assert apart < 1e-10 * sum(float((value**2).sum()) for value in alone.values())


def test_stacked_sites_give_the_same_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "STACKED_SITES", 2)
    lines = [run_and_read(tmp_path / str(n), federation__stacked=True, federation__workers=n)[1] for n in (1, 2)]
    assert [line["weights"] for line in lines[0]] == [line["weights"] for line in lines[1]]
    assert not workers()


def test_sites_are_stacked_by_number_in_whatever_order_a_strategy_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "STACKED_SITES", 2)
    seen: list[list[int]] = []

    def note(self: LocalGrid, named: list[tuple[str, Message]]) -> None:
        seen.append([message.metadata.dst_node_id for _, message in named])

    monkeypatch.setattr(LocalGrid, "_work_together", note)
    grid = LocalGrid(ClientApp(), 5, 1, stacked=True)
    grid.push_messages([Message(RecordDict(), node, "train") for node in (4, 1, 5, 3, 2)])
    grid._pool.shutdown(wait=True)
    grid.close()
    assert seen == [[1, 2], [3, 4], [5]]


def test_a_private_run_is_not_stacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "client.training.training_group.train_stacked", lambda calls: [SiteError("stacked")] * len(calls)
    )
    private: dict[str, Any] = {
        "privacy__epsilon": 6.0,
        "privacy__delta": 1e-3,
        "privacy__sampling": 0.5,
        "privacy__accountant": "rdp",
    }
    private |= {"privacy__noise": "seeded", "federation__choose": "last", "training__loss": "cross_entropy"}
    _, lines = run_and_read(tmp_path, federation__stacked=True, **private)
    assert len(lines) == 2


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
        done.wait(600)
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, 1, 1)
    started = time.monotonic()
    assert grid.send_and_receive([Message(RecordDict(), 1, "query")], timeout=0.1) == []
    assert time.monotonic() - started < 120
    done.set()
    grid.close()


def make_answering_app(seconds: float) -> ClientApp:
    """Return an app that answers a handshake after some time."""
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Any) -> Message:
        time.sleep(seconds)
        return Message(messages.pack_reply(SAMPLE_REPLIES["handshake"]), reply_to=message)

    return app


def test_the_server_is_not_woken_for_each_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PULL_SECONDS", 1.0)
    grid = LocalGrid(make_answering_app(0.002), 100, 1)
    waiting = set(grid.push_messages(messages.build_messages(HandshakeRequest(tiny.run_config()), range(1, 101))))
    pulls = 0
    while waiting:
        waiting -= {reply.metadata.reply_to_message_id for reply in grid.pull_messages(waiting)}
        pulls += 1
    grid.close()
    assert pulls < 50  # 0.2 s or more of work, in pulls of 1 s


def test_a_reply_is_not_awaited_longer_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PULL_SECONDS", 600.0)
    grid = LocalGrid(make_answering_app(0.05), 2, 1)
    waiting = grid.push_messages(messages.build_messages(HandshakeRequest(tiny.run_config()), [1, 2]))
    started = time.monotonic()
    assert len(list(grid.pull_messages(waiting))) == 2
    assert time.monotonic() - started < 300
    grid.close()


def test_an_interrupt_ends_a_long_epoch_at_once(tmp_path: Path) -> None:
    config = tiny.run_config(training__epochs=10_000, training__batch_size=1, federation__workers=2)
    interrupted: list[float] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "handshake":
            timer.start()

    def interrupt() -> None:
        import _thread

        interrupted.append(time.monotonic())
        _thread.interrupt_main()

    timer = threading.Timer(0.5, interrupt)
    with pytest.raises(KeyboardInterrupt):
        local.run_local(config, tmp_path, 3, listen)
    assert time.monotonic() - interrupted[0] < 30  # a round takes minutes
    assert not workers()
    assert read(tmp_path / "federated.json")["status"] == "interrupted"
    assert read(tmp_path / "server.done")["status"] == "interrupted"
    assert (tmp_path / "rounds.jsonl").read_text() == ""


def test_an_interrupt_from_the_listener(tmp_path: Path) -> None:
    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "reply" and event["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.run_local(tiny.run_config(federation__rounds=50), tmp_path, 3, listen)
    done = read(tmp_path / "federated.json")
    assert (done["status"], done["chosen"]) == ("interrupted", 1)
    assert len((tmp_path / "rounds.jsonl").read_text().splitlines()) == 1
    assert not workers()
