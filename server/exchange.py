"""Send messages and collect the replies within a time limit: the usable replies, and the sites that sent none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, Protocol, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from common.errors import ProtocolError
from common.messages import read_reply_site, unpack_error, unpack_reply
from common.reply_arrays import SomeReply
from common.requests import RequestKind
from server.delegating_grid import DelegatingGrid
from server.events import AwaitedEvent, LateReplyEvent, Listener, ReplyEvent, SentAgainEvent
from server.receipts import Receipts

AWAIT_SECONDS = 10.0
"""Seconds after which it is reported who is awaited; then again each time that the wait has doubled."""
OFFLINE_GRACE = 20.0
"""Seconds that a site may be offline before a round stops waiting for it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 1.0
"""Shortest and longest pause between two checks for replies, s; a grid whose checks cost more states its own first."""
PAUSE_SHARE = 0.15
"""The longest pause as a share of the time since the last reply, so that waiting loses the same share of any time."""


class NodeSubsetGrid(DelegatingGrid):
    """A Flower grid (the server's connection to its nodes) that shows a strategy only some of the nodes.

    Args:
        grid: the grid of all nodes.
        nodes: the numbers of the nodes to show, in the order of their sites' names.
    """

    def __init__(self, grid: Grid, nodes: Sequence[int]) -> None:
        super().__init__(grid)
        self._nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        """Return the chosen nodes."""
        return list(self._nodes)


@dataclass(frozen=True)
class Step:
    """The part of a run that sends requests, for ReplyEvent.

    Attributes:
        phase: the kind of the request.
        round: the round; 0 before the first.
        sites: sites that are asked; 0: not known.
        quorum: usable replies after which the others are awaited only `quorum_seconds` longer; None: all are awaited.
        quorum_seconds: see `quorum`.
    """

    phase: RequestKind
    round: int = 0
    sites: int = 0
    quorum: int | None = None
    quorum_seconds: float = 0.0


Received = TypeVar("Received")
"""What an answer is read as: a reply, or what holds several."""
Answers = dict[str, tuple[Message, Received]]
"""Replies by site, or by `node N` where its name is not known, sorted; each with the message that it came in."""


@dataclass(frozen=True)
class Reading(Generic[Received]):
    """What a node's answer holds.

    Attributes:
        site: the name that the site gives itself; empty: none.
        received: the usable reply; None: there is none.
        fault: why there is none, in one line.
        parts: of an answer to several requests, by the part of the run that asked: whether its reply can be used.
    """

    site: str
    received: Received | None
    fault: str = ""
    parts: Sequence[tuple[Step, bool]] = ()


class Reader(Protocol[Received]):
    """Reads answers as what a phase expects."""

    def read(self, answer: Message, node: int) -> Reading[Received]:
        """Return what the answer of a node holds."""


@dataclass(frozen=True)
class Expected(Generic[SomeReply]):
    """What a phase accepts as a reply.

    Attributes:
        type: the reply's type.
        find_fault: returns what is wrong with a reply, given the node that sent it, or "".
        max_bytes: largest total size of its arrays, bytes.
    """

    type: type[SomeReply]
    find_fault: Callable[[SomeReply, int], str]
    max_bytes: int = 0

    def read(self, answer: Message, node: int) -> Reading[SomeReply]:
        """Return the site's name as it states it, and its reply or the reason why the reply cannot be used."""
        site = ""
        try:
            if answer.has_error():
                site, why = unpack_error(answer.error.code, answer.error.reason)
                return Reading(site, None, why)
            if answer.metadata.src_node_id != node:
                return Reading(site, None, "another node answered in its place")
            site = read_reply_site(answer.content)
            reply = unpack_reply(self.type, answer.content, self.max_bytes)
            fault = self.find_fault(reply, node)
        except ProtocolError as error:
            return Reading(site, None, str(error))
        except Exception as error:
            return Reading(site, None, f"its answer cannot be read: {type(error).__name__}")
        return Reading(site, None, fault) if fault else Reading(site, reply)


Overdue = dict[str, tuple[int, Step]]
"""Messages whose replies were not awaited any longer, by id: the node, and the part of the run that asked."""


def send_and_collect(
    grid: Grid,
    outgoing: Iterable[Message],
    names: Mapping[int, str],
    timeout: float,
    listen: Listener,
    step: Step,
    expected: Reader[Received],
    overdue: Overdue | None = None,
) -> tuple[Answers[Received], dict[str, str]]:
    """Send messages and wait for the replies, at most `timeout` seconds.

    A reply that comes later, a second one to the same message, and one from another node count for nothing.

    Args:
        grid: Flower's grid, which carries messages to the nodes.
        outgoing: one message a node.
        names: the site at each node; a node that is not listed is named by its reply or its number.
        timeout: seconds.
        listen: function that receives an event for each reply when it arrives.
        step: the phase and the round.
        expected: the type and checks of a usable reply; any other reply is refused.
        overdue: messages of earlier calls without a reply; this call's are added. A late reply is reported.

    Returns:
        the replies by site, and the sites without a usable one, with the reason in one line.
    """
    waiting: dict[str, int] = {}
    lost: dict[str, str] = {}
    overdue = {} if overdue is None else overdue

    def site_name(node: int) -> str:
        return names.get(node, f"node {node}")

    batch = list(outgoing)
    names_sent = list(grid.push_messages(batch)) if batch else []
    receipts = Receipts(grid)
    for message, sent in zip_longest(batch, names_sent):
        if sent:
            waiting[sent] = message.metadata.dst_node_id
            receipts.add(sent, message)
        else:
            lost[site_name(message.metadata.dst_node_id)] = "could not be reached"
    answers: Answers[Received] = {}
    start = time.monotonic()
    deadline, last_look, last_reply, next_report = start + timeout, start, start, start + AWAIT_SECONDS
    limit = f"no answer within {timeout:g} s"
    offline_since: dict[str, float] = {}
    first_pause = float(getattr(grid, "first_pause", FIRST_PAUSE))
    limit_parts: Callable[[float], None] = getattr(grid, "limit_parts", lambda seconds: None)
    while waiting:
        limit_parts(deadline - time.monotonic())
        arrived = list(grid.pull_messages([*waiting, *overdue, *receipts.pending()]))
        for answer in arrived:
            sender = waiting.pop(answer.metadata.reply_to_message_id, None)
            if sender is None:
                late = overdue.pop(answer.metadata.reply_to_message_id, None)
                if late is not None and not answer.has_error():
                    listen(LateReplyEvent(site_name(late[0]), late[1].phase, late[1].round))
                continue
            reading = expected.read(answer, sender)
            site = site_name(sender)
            if reading.received is None:
                site = names.get(sender) or reading.site or site
                lost[site] = reading.fault
            else:
                answers[site] = answer, reading.received
            for part, usable in reading.parts or [(step, reading.received is not None)]:
                listen(ReplyEvent(site, usable, len(waiting), part.phase, part.round, part.sites))
        sent_again, unanswered = receipts.sort_out(arrived, waiting)
        for key, new in sent_again.items():
            waiting[new] = waiting.pop(key)
            listen(SentAgainEvent(site_name(waiting[new]), step.phase, step.round))
        lost |= {site_name(waiting.pop(key)): "its reply was lost on the way" for key in unanswered}
        now = time.monotonic()
        if step.quorum is not None and len(answers) >= step.quorum and now + step.quorum_seconds < deadline:
            deadline = now + step.quorum_seconds
            limit = f"no answer within {step.quorum_seconds:g} s after {len(answers)} sites had answered"
        if now > deadline:
            lost |= dict.fromkeys(map(site_name, waiting.values()), limit)
            overdue |= {key: (node, step) for key, node in waiting.items()}
            break
        if waiting and now > next_report:
            next_report = start + 2 * (now - start)
            awaited = tuple(sorted(map(site_name, waiting.values())))
            listen(AwaitedEvent(step.phase, step.round, awaited, round(now - start), round(deadline - start)))
        receipts.ask(waiting)
        if waiting and now - last_look > min(1.0, OFFLINE_GRACE / 4):
            last_look, online = now, set(grid.get_node_ids())
            for key, node in list(waiting.items()):
                if node in online:
                    offline_since.pop(key, None)
                elif now - offline_since.setdefault(key, now) > OFFLINE_GRACE:
                    lost[site_name(waiting.pop(key))] = "went offline"
        last_reply = now if arrived else last_reply
        pause = min(max(PAUSE_SHARE * (now - last_reply), first_pause), LONGEST_PAUSE)
        if waiting and not arrived:
            time.sleep(min(pause, max(0.0, deadline - now)))
    return dict(sorted(answers.items())), dict(sorted(lost.items()))
