"""The grid of a server with real hospitals: Flower's, with arrays in few pieces and without its waits of a second.

Flower's HttpGrid moves every array of a message by requests of its own, and waits a second where a reply is announced
but not all of it has arrived. This one packs messages (common/packed_messages.py) and looks again sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from copy import copy
from functools import partial
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.superlink.grid import HttpGrid, http_grid

from common.errors import EngineError, ProtocolError
from common.packed_messages import is_packed, pack_content, unpack_content
from server.delegating_grid import DelegatingGrid

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks for a part of a reply that has not arrived."""
PARTS_SECONDS = 120.0
"""Most seconds to wait for the parts of one reply; what is missing then counts as an error of the site's."""
_limit: ContextVar[float] = ContextVar("parts_seconds", default=PARTS_SECONDS)


class PackingGrid(DelegatingGrid):
    """A grid that packs what it sends and unpacks what it receives.

    Args:
        grid: Flower's grid, which carries messages to the nodes.
    """

    asks_receipts = True
    """A message may be lost between the server and a node (server/receipts.py)."""
    first_pause = 0.15
    """Seconds between two looks for replies, each of which takes the SuperLink about 10 ms of a core."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._parts_seconds = PARTS_SECONDS

    def limit_parts(self, seconds: float) -> None:
        """Wait at most so long for the parts of a reply: no longer than for the reply itself."""
        self._parts_seconds = min(PARTS_SECONDS, max(LONGEST_PAUSE, seconds))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, all in one call; return their ids, empty where one was not taken.

        Raises:
            EngineError: the SuperLink did not store a part of a message.
        """
        packed = [_replace_content(message, pack_content(message.content)) for message in messages]
        try:
            return [name or "" for name in self._grid.push_messages(packed)] if packed else []
        except ObjectPushError:
            raise EngineError(
                "the SuperLink did not store a message: it was interrupted, or is full (its own log says)"
            ) from None

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that have arrived; one that cannot be unpacked comes as it is, and is refused later."""
        _limit.set(self._parts_seconds)
        return [_unpack(message) for message in self._grid.pull_messages(message_ids)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Raise NotImplementedError: server/exchange.py sends messages and waits for replies."""
        raise NotImplementedError("server/exchange.py sends and waits")


def prepare_grid(grid: Grid) -> Grid:
    """Return the grid of a run: of real hospitals a packing one, of simulated ones the grid itself."""
    if not isinstance(grid, HttpGrid):
        return grid
    # if Flower renames this function, the run fails here instead of being slow
    pull = vars(http_grid)["pull_objects"]
    if not isinstance(pull, partial):
        vars(http_grid)["pull_objects"] = partial(_pull_quickly, pull)
    return PackingGrid(grid)


def _pull_quickly(pull: Callable[..., dict[str, bytes]], **arguments: Any) -> dict[str, bytes]:
    """Call Flower's function that fetches the parts of a reply, with this module's pauses and limit."""
    return pull(**arguments, initial_backoff=FIRST_PAUSE, backoff_cap=LONGEST_PAUSE, max_time=_limit.get())


def _unpack(message: Message) -> Message:
    if message.has_error() or not is_packed(message.content):
        return message
    try:
        return _replace_content(message, unpack_content(message.content))
    except ProtocolError:
        return message


def _replace_content(message: Message, content: RecordDict) -> Message:
    changed = copy(message)
    changed.content = content
    return changed
