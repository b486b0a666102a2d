"""The `local` engine: Flower's apps in one process, connected by a Grid without sockets.

Workers are threads: torch releases the interpreter lock in its kernels, so two threads train two hospitals at the same
time and share one copy of the data. Each runs torch with one thread, because the number of threads within an operation
changes the last digits of its result; so the weights do not depend on the number of workers.

With `federation.stacked`, the small models of up to 64 sites train in one step (client/training/stacked.py); each
site's message is otherwise answered as it is alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from client.requests.train import stop_signal
from client.training.training_group import GroupMember, TrainingGroup, group_member
from common.config import RunConfig
from common.errors import describe_unexpected
from common.run_folder import RunFolder
from server.app import run_federation

STACKED_SITES = 64
"""Sites that train together; whatever the number of workers, because it decides the last digits of the weights."""
PULL_SECONDS = 0.05
"""The longest wait for replies that are not there yet, s. The server is not woken for each of them: while it handles
one, it and the workers take the interpreter's lock from each other, which costs up to 5 ms each time."""


class LocalGrid(Grid):
    """A Grid whose nodes are numbered from 1 to `sites` and run in a pool of threads."""

    fixed_nodes = True

    def __init__(
        self,
        app: Callable[[Message, Context], Message],
        sites: int,
        workers: int,
        run_config: dict[str, Any] | None = None,
        state: Path | None = None,
        stacked: bool = False,
    ) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0
        self._app = app
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="site")
        self._stacked, self._own = stacked, threading.local()
        self._member_pools: list[ThreadPoolExecutor] = []
        self._replies: dict[str, Message] = {}
        self._awaited: set[str] = set()
        self._changed = threading.Condition()
        self._sent = 0
        self._stop = threading.Event()
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"partition-id": node - 1, "num-partitions": sites, "state": str(state or "")},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for node in range(1, sites + 1)
        }

    def set_run(self, run: Any) -> None:
        """Ignore the run: there is only one."""

    @property
    def run(self) -> Any:
        """Not available: there is no run record."""
        raise NotImplementedError("the local engine keeps no run record")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes; none is ever offline."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages for the workers; return their ids."""
        named = []
        for message in messages:
            self._sent += 1
            message_id = str(self._sent)
            message.metadata.__dict__["_message_id"] = message_id
            named.append((message_id, message))
        together = []
        for item in named:
            if self._stacked and item[1].metadata.message_type == "train":
                together.append(item)
            else:
                self._pool.submit(self._work, *item)
        together.sort(key=lambda item: item[1].metadata.dst_node_id)  # strategies send in a random order
        for first in range(0, len(together), STACKED_SITES):
            self._pool.submit(self._work_together, together[first : first + STACKED_SITES])
        return [message_id for message_id, _ in named]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that have arrived, after waiting up to PULL_SECONDS for all of them."""
        wanted = set(message_ids)
        with self._changed:
            self._awaited = wanted - self._replies.keys()
            if self._awaited:
                self._changed.wait(PULL_SECONDS)
            return [self._replies.pop(name) for name in sorted(wanted & self._replies.keys())]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages and wait for all replies."""
        waiting = set(self.push_messages(messages))
        end = time.monotonic() + (timeout if timeout is not None else float("inf"))
        replies: list[Message] = []
        while waiting and time.monotonic() < end:
            arrived = list(self.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
            replies += arrived
        return replies

    def close(self) -> None:
        """Cancel queued messages, stop running ones at their next step, and wait for them."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for pool in self._member_pools:
            pool.shutdown(wait=True)

    def _work_together(self, named: list[tuple[str, Message]]) -> None:
        """Answer messages to train, each in a thread of its own, of which one runs at a time."""
        if not hasattr(self._own, "pool"):  # of this worker
            self._own.pool = ThreadPoolExecutor(STACKED_SITES, thread_name_prefix="site-member")
            self._member_pools.append(self._own.pool)
        group = TrainingGroup(len(named))
        members = [GroupMember(group, number) for number in range(len(named))]
        wait([self._own.pool.submit(self._work, *item, member) for item, member in zip(named, members, strict=True)])

    def _work(self, message_id: str, message: Message, member: GroupMember | None = None) -> None:
        if member is not None:
            with member:
                group_member.set(member)
                self._deliver(message_id, message)
            return
        self._deliver(message_id, message)

    def _deliver(self, message_id: str, message: Message) -> None:
        context = self._contexts[message.metadata.dst_node_id]
        stop_signal.set(self._stop)
        try:
            reply = self._app(message, context)
        except BaseException as error:  # without a reply the round would wait for its whole timeout
            reply = Message(Error(code=0, reason=f"unexpected {describe_unexpected(error)}"), reply_to=message)
        reply.metadata.__dict__["_reply_to_message_id"] = message_id
        with self._changed:
            self._replies[message_id] = reply
            self._awaited.discard(message_id)
            if not self._awaited:
                self._changed.notify_all()


def run_local(config: RunConfig, out: Path, sites: int, listen: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Run a federation of simulated hospitals in this process.

    Args:
        config: the run.
        out: the run's folder.
        sites: the number of hospitals.
        listen: receives each event as its line of events.jsonl.

    Raises:
        WardroundError: as `server.app.run_federation`.
    """
    from client.app import app as client_app

    logging.getLogger("flwr").setLevel(logging.WARNING)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    workers = min(config.federation.workers or os.cpu_count() or 1, sites)
    grid = LocalGrid(client_app, sites, workers, state=RunFolder(out).sites, stacked=config.federation.stacked)
    try:
        run_federation(grid, config, out, listen)
    finally:
        grid.close()
        torch.set_num_threads(before)
