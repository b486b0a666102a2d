"""The worker: a message in, a reply out, in one process that keeps nothing from run to run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

from client import worker
from client.worker import Worker
from client.worker_channel import ChannelClosed, Parcel, receive_parcel, send_parcel
from common import messages
from common.packed_messages import is_packed, pack_content, unpack_content
from common.requests import TrainRequest
from tests import tiny

ROOT = Path(__file__).parents[2]
NODE = {"site": "north", "data": "/data/north"}
App = Callable[[Message, Context], Message]


def ask(content: RecordDict, run: int = 5) -> Parcel:
    """Return a request as the SuperNode hands it over."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, 0, 0
    message = Message(content, 17, "train")
    message.metadata.__dict__["_message_id"] = message.object_id
    objects = {name: item.deflate() for name, item in get_all_nested_objects(message).items()}
    return Parcel("request", {"run": str(run), "node": "17", "root": message.object_id}, objects)


def read(reply: Parcel) -> Message:
    """Return a reply as the server receives it."""
    head = message_from_proto(MessageProto.FromString(bytes.fromhex(str(reply.fields["message"]))))
    tree = ObjectTree.FromString(bytes.fromhex(str(reply.fields["tree"])))
    assert {each.object_id for each in iterate_object_tree(tree)} == set(reply.objects)
    whole = inflate_object_from_contents(tree.object_id, dict(reply.objects))
    assert isinstance(whole, Message)
    assert whole.metadata.reply_to_message_id == head.metadata.reply_to_message_id
    return whole


def echo(message: Message, context: Context) -> Message:
    assert context.node_config == NODE
    return Message(message.content, reply_to=message)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    monkeypatch.setattr(worker, "forget_data", lambda: calls.append(1))
    return calls


def test_a_reply_belongs_to_its_request_and_is_unchanged(forgotten: list[int]) -> None:
    content = RecordDict({"c": ConfigRecord({"x": [1.5, -0.0], "b": b"\x00\xff"})})
    request = ask(content)
    whole = read(Worker(NODE, echo).answer(request))  # type: ignore[arg-type]
    assert whole.metadata.reply_to_message_id == request.fields["root"]
    assert whole.metadata.src_node_id == 17
    assert whole.metadata.run_id == 5
    assert whole.content.object_id == content.object_id


def test_a_packed_request_reaches_the_app_unpacked_and_is_answered_packed(forgotten: list[int]) -> None:
    request = TrainRequest(tiny.run_config(), 1, {"w": np.arange(5, dtype=np.float32)}, run_id="0" * 32)
    content = messages.pack_request(request)
    seen: list[RecordDict] = []

    def app(message: Message, context: Context) -> Message:
        seen.append(message.content)
        return echo(message, context)

    whole = read(Worker(NODE, app).answer(ask(pack_content(content))))  # type: ignore[arg-type]
    assert not is_packed(seen[0])
    assert seen[0].object_id == content.object_id
    assert is_packed(whole.content)
    assert unpack_content(whole.content).object_id == content.object_id


def test_an_error_of_the_app_is_answered_without_its_text(
    forgotten: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: Message, context: Context) -> Message:
        raise ValueError("Jane Roe")

    whole = read(Worker(NODE, fail).answer(ask(RecordDict())))  # type: ignore[arg-type]
    assert whole.error.code == messages.ERROR_CODE
    assert json.loads(whole.error.reason or "") == {
        "site": "north",
        "kind": "ValueError",
        "text": "the site's app failed",
    }
    assert "Jane Roe" in caplog.text  # in the site's own log


def test_a_malformed_packed_request_is_answered_with_an_error(forgotten: list[int]) -> None:
    packed = pack_content(messages.pack_request(TrainRequest(tiny.run_config(), 1, run_id="0" * 32)))
    packed.config_records["packed"]["about"] = b"["
    whole = read(Worker(NODE, echo).answer(ask(packed)))  # type: ignore[arg-type]
    assert "does not fit its layout" in (whole.error.reason or "")


def test_a_new_run_reads_the_data_anew(forgotten: list[int]) -> None:
    one = Worker(NODE, echo)  # type: ignore[arg-type]
    for run in (5, 5, 6, 6, 5):
        one.answer(ask(RecordDict(), run))
    assert len(forgotten) == 3


def serve(channel: Connection, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> threading.Thread:
    for name, value in changes.items():
        monkeypatch.setattr(worker, name, value)

    def run() -> None:
        with pytest.raises(ChannelClosed):
            worker.serve_worker(channel, NODE, echo)  # type: ignore[arg-type]

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_worker_serves_until_the_channel_closes(monkeypatch: pytest.MonkeyPatch, forgotten: list[int]) -> None:
    here, there = Pipe()
    thread = serve(there, monkeypatch, ALIVE_SECONDS=0.05, is_crowded=lambda: True, skip_compiler=lambda: None)
    kinds = []
    send_parcel(here, ask(RecordDict()))
    while not {"ready", "reply", "alive"} <= set(kinds):
        kinds.append(receive_parcel(here).kind)
    assert kinds.index("ready") < kinds.index("reply")
    here.close()
    thread.join(120)
    assert not thread.is_alive()
    assert len(forgotten) == 2  # a new run, and data that no run needs any more


def test_an_idle_worker_forgets_the_patients(monkeypatch: pytest.MonkeyPatch, forgotten: list[int]) -> None:
    here, there = Pipe()
    thread = serve(there, monkeypatch, IDLE_SECONDS=0.01, skip_compiler=lambda: None)
    assert receive_parcel(here).kind == "ready"
    while not forgotten:
        threading.Event().wait(0.01)
    here.close()
    thread.join(120)


@pytest.mark.slow
def test_a_worker_loads_no_compiler_and_no_reader_of_files_before_it_needs_them() -> None:
    script = (
        "import sys, torch\n"
        "import client.worker, client.requests\n"
        "heavy = {'pandas', 'wfdb', 'scipy.stats', 'sklearn', 'opacus'} & set(sys.modules)\n"
        "from client.uncompiled_torch import load_compiler, skip_compiler\n"
        "skip_compiler()\n"
        "layer = torch.nn.Linear(2, 1)\n"
        "for fast in (dict(fused=True), dict(foreach=True)):\n"
        "    optimizer = torch.optim.AdamW(layer.parameters(), **fast)\n"
        "    layer(torch.ones(1, 2)).sum().backward()\n"
        "    optimizer.step()\n"
        "assert 'torch._dynamo.eval_frame' not in sys.modules\n"
        "assert not heavy, heavy\n"
        "assert torch._dynamo.config.cache_size_limit\n"  # whatever is asked loads the real one
        "assert 'torch._dynamo.eval_frame' in sys.modules\n"
        "assert load_compiler() is torch._dynamo\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
