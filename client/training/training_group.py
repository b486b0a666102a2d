"""Sites of one process that train together: each is answered in turn, and waits where it trains until all have come.

So all that a site does before its training and after it, such as the checks of its gate, is what it does alone. At any
moment one member runs; the threads only keep their places.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from types import TracebackType

from client.training.loop import TrainingResult
from client.training.stacked import is_stackable, train_stacked
from client.training.training_call import TrainingCall


class TrainingGroup:
    """The sites whose messages are answered together.

    Args:
        members: how many there are; each must become a `GroupMember` in a thread of its own. They are stacked in the
            order of their numbers, whoever comes first: a site's place decides the last digits of its weights.
    """

    def __init__(self, members: int) -> None:
        self._turn, self._trained = threading.Lock(), threading.Event()
        self._awaited = members
        self._calls: dict[int, TrainingCall] = {}
        self._results: dict[int, TrainingResult | Exception] = {}

    def take_turn(self) -> None:
        """Wait until no other member runs."""
        self._turn.acquire()

    def end_turn(self) -> None:
        """Let another member run."""
        self._turn.release()

    def arrive(self) -> None:
        """Count a member that has given its call or ends without one; the last one trains them all."""
        self._awaited -= 1
        if self._awaited:
            return
        numbers = sorted(self._calls)
        try:
            results = train_stacked([self._calls[number] for number in numbers])
            self._results = dict(zip(numbers, results, strict=True))
        except Exception as error:
            self._results = dict.fromkeys(numbers, error)
        finally:
            self._trained.set()

    def train(self, number: int, call: TrainingCall) -> TrainingResult:
        """Return the result of a member's call when all have come; others take their turns meanwhile.

        Raises:
            Exception: as `train_model`.
        """
        self._calls[number] = call
        self.arrive()
        if not self._trained.is_set():
            self.end_turn()
            self._trained.wait()
            self.take_turn()
        result = self._results[number]
        if isinstance(result, Exception):
            raise result
        return result


class GroupMember:
    """One site's turn in a group, as a context manager.

    Args:
        group: the group.
        number: the member's own, from 0.
    """

    def __init__(self, group: TrainingGroup, number: int) -> None:
        self._group, self._number, self._came = group, number, False

    def __enter__(self) -> GroupMember:
        self._group.take_turn()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._came:
            self._group.arrive()
        self._group.end_turn()

    def train(self, call: TrainingCall) -> TrainingResult:
        """Train with the group where that is possible, else alone: a second time, or a model that is not stackable."""
        if self._came or not is_stackable(call):
            return call.run()
        self._came = True
        return self._group.train(self._number, call)


group_member: ContextVar[GroupMember | None] = ContextVar("group_member", default=None)
"""Set by an engine that lets small models train together."""
