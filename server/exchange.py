"""Send messages and wait for the answers, never without limit: what came, and who gave none and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from common import messages
from common.messages import Reply

Listener = Callable[[dict[str, Any]], None]
OFFLINE_GRACE = 20.0
"""Seconds that a site may be offline before a round stops waiting for it."""


class NodeSubsetGrid(Grid):
    """A grid that shows a strategy only some nodes, in the order of their sites' names."""

    def __init__(self, grid: Grid, nodes: Sequence[int]) -> None:
        self._grid, self._nodes = grid, list(nodes)

    def set_run(self, run: Any) -> None:
        """Pass on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """Pass on."""
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Pass on."""
        return self._grid.create_message(*args, **kwargs)

    def get_node_ids(self) -> list[int]:
        """Return the chosen nodes."""
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Pass on."""
        return self._grid.send_and_receive(messages, timeout=timeout)


def send_and_collect(
    grid: Grid,
    outgoing: Iterable[Message],
    names: Mapping[int, str],
    timeout: float,
    listen: Listener,
    what: Mapping[str, Any],
    check: Callable[[Reply], str] | None = None,
) -> tuple[dict[str, tuple[Message, Reply]], dict[str, str]]:
    """Send messages and wait for the answers, at most `timeout` seconds.

    Args:
        grid: the transport.
        outgoing: one message a node.
        names: the site at each node; a node without one is called by its number, or as its error says.
        timeout: seconds.
        listen: told of each answer as it comes.
        what: the phase and the round, for `listen`.
        check: returns what is wrong with a reply, or nothing; a wrong one counts as none.

    Returns:
        the answers by site, sorted by name, and the sites that gave none, with the reason in one line.
    """
    waiting: dict[str, int] = {}
    lost: dict[str, str] = {}

    def name(node: int) -> str:
        return names.get(node, f"node {node}")

    for message in outgoing:
        node = message.metadata.dst_node_id
        sent = list(grid.push_messages([message]))
        if sent and sent[0]:
            waiting[sent[0]] = node
        else:
            lost[name(node)] = "could not be reached"
    found: dict[str, tuple[Message, Reply]] = {}
    deadline = time.monotonic() + timeout
    gone_since: dict[str, float] = {}
    asked = time.monotonic()
    pause = 0.002
    while waiting:
        arrived = list(grid.pull_messages(list(waiting)))
        for answer in arrived:
            sender = waiting.pop(answer.metadata.reply_to_message_id, None)
            if sender is None:
                continue
            said, reply, why = _read(answer, check)
            site = name(sender)
            if reply is None:
                site = names.get(sender) or said or site
                lost[site] = why
            else:
                found[site] = answer, reply
            listen({"event": "reply", "site": site, "ok": reply is not None, "waiting": len(waiting), **what})
        now = time.monotonic()
        if now > deadline:
            lost |= {name(node): f"no answer within {timeout:g} s" for node in waiting.values()}
            break
        if waiting and now - asked > min(1.0, OFFLINE_GRACE / 4):
            asked, online = now, set(grid.get_node_ids())
            for key, node in list(waiting.items()):
                if node in online:
                    gone_since.pop(key, None)
                elif now - gone_since.setdefault(key, now) > OFFLINE_GRACE:
                    lost[name(waiting.pop(key))] = "went offline"
        pause = 0.002 if arrived else min(pause * 1.5, 1.0)
        if waiting and not arrived:
            time.sleep(min(pause, max(0.0, deadline - now)))
    return dict(sorted(found.items())), dict(sorted(lost.items()))


def _read(answer: Message, check: Callable[[Reply], str] | None) -> tuple[str, Reply | None, str]:
    """Return the site's name as it says, and its reply or why there is none: a broken one ends no run."""
    site = ""
    try:
        if answer.has_error():
            site, why = messages.unpack_error(answer.error.code, answer.error.reason)
            return site, None, why
        reply = messages.unpack_reply(answer.content)
        site = reply.site
        if check and (why := check(reply)):
            return site, None, why
    except Exception as error:
        return site, None, f"its answer cannot be read: {type(error).__name__}"
    return site, reply, ""
