"""Messages that were lost on their way to a site, found by asking the site's node, and sent again.

The server counts a message as delivered when it answers a node's question for work. If that answer is lost, as where
the network is cut, nobody notices: the site works on nothing, and the round waits until its time is over. A node
handles one message after another, so the answer to a later one, which only asks which message came before, says
whether the earlier one arrived; it comes at once from a node without work, and after the work of a busy one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from common.errors import ProtocolError
from common.receipts import RECEIPT_TYPE, pack_receipt, read_receipt

QUESTION_SECONDS = 20.0
"""Seconds after which a node that has not answered is asked what it received."""
MOST_SENDINGS = 3
"""How often a message is sent at most."""


@dataclass
class _Sending:
    """A message: when it was sent or last asked about, how often it was sent before, and whether a question stands."""

    message: Message
    time: float
    earlier: int = 0
    in_question: bool = False


class Receipts:
    """What was sent in one part of a run, and what nodes say that they received of it.

    Args:
        grid: the transport; one without the attribute `asks_receipts` loses nothing, and is not asked.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid, self._active = grid, bool(getattr(grid, "asks_receipts", False))
        self._sendings: dict[str, _Sending] = {}
        self._questions: dict[str, str] = {}

    def add(self, key: str, message: Message) -> None:
        """Remember a message that was sent under the id `key`."""
        self._sendings[key] = _Sending(message, time.monotonic())

    def pending(self) -> list[str]:
        """Return the ids of the questions that have no answer yet."""
        return list(self._questions)

    def ask(self, waiting: Iterable[str]) -> None:
        """Ask the nodes that have not answered for a while; a question without an answer stands."""
        if not self._active:
            return
        now = time.monotonic()
        due = [key for key in waiting if self._is_due(key, now)]
        nodes = [self._sendings[key].message.metadata.dst_node_id for key in due]
        questions = [Message(pack_receipt(""), node, RECEIPT_TYPE) for node in nodes]
        sent = list(self._grid.push_messages(questions)) if questions else []
        for question, key in zip(sent, due, strict=False):
            self._sendings[key].time, self._sendings[key].in_question = now, bool(question)
            if question:
                self._questions[question] = key

    def sort_out(self, arrived: Iterable[Message], waiting: Mapping[str, int]) -> tuple[dict[str, str], set[str]]:
        """Return what answers to questions say about messages whose replies have not come.

        Args:
            arrived: all messages that have just arrived; those that answer no question are passed over.
            waiting: the ids of the messages without a reply, those replied to by `arrived` left out.

        Returns:
            by id the new id of each message that did not arrive and was sent again; and the ids of those that arrived,
            whose replies were lost.
        """
        again: dict[str, str] = {}
        lost: set[str] = set()
        for answer in arrived:
            key = self._questions.pop(answer.metadata.reply_to_message_id, "")
            if key not in waiting:
                continue
            try:
                last = _read_answer(answer, waiting[key])
            except ProtocolError:  # as where the node was offline: ask again later
                self._sendings[key].time, self._sendings[key].in_question = time.monotonic(), False
                continue
            if last == key:
                lost.add(key)
            elif new := self._send_again(key):
                again[key] = new
        return again, lost

    def _is_due(self, key: str, now: float) -> bool:
        sending = self._sendings.get(key)
        if sending is None or sending.in_question or sending.earlier + 1 >= MOST_SENDINGS:
            return False
        return now - sending.time > QUESTION_SECONDS

    def _send_again(self, key: str) -> str:
        """Send a message again; return its new id, or "" if it was not taken."""
        sending = self._sendings.pop(key)
        meta = sending.message.metadata
        copy = Message(sending.message.content, meta.dst_node_id, meta.message_type, group_id=meta.group_id)
        new = next(iter(self._grid.push_messages([copy])), "")
        if new:
            self._sendings[new] = _Sending(copy, time.monotonic(), sending.earlier + 1)
        return new


def _read_answer(answer: Message, node: int) -> str:
    """Return the id of the message that a node received last.

    Raises:
        ProtocolError: it is an error, of another node, or no answer to this question.
    """
    if answer.has_error() or answer.metadata.src_node_id != node:
        raise ProtocolError("the node did not answer")
    return read_receipt(answer.content)
