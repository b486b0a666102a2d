"""The worker processes as the service sees them: bounded queues, back-pressure, and shedding of the oldest work.

Each worker has a queue in this process. A thread hands it everything that has arrived as soon as the worker has
answered, so that batches grow with the load. A queue that holds more than `MAX_SECONDS` of work refuses more from
senders that can wait (HTTP, WebSocket). When its oldest work is older than `MAX_AGE_SECONDS`, all that is older than
`AGE_AFTER_SECONDS` is shed, counted, logged, and becomes a gap in its stream: one long gap leaves more whole beats than
many short ones. A gap of more than ten seconds starts the stream anew, as it does when packets were lost.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np

from experiments.monitor.decisions import Limits
from experiments.monitor.patient import Work
from experiments.monitor.sequence import MAX_GAP_SECONDS
from experiments.monitor.worker import Done, NewModel, run_worker

log = logging.getLogger("wardround.monitor")
MAX_SECONDS = 2.0
"""Age of the oldest work in a queue from which senders are asked to wait."""
MAX_AGE_SECONDS = 5.0
"""Age of the oldest work from which work is shed."""
AGE_AFTER_SECONDS = 1.0
"""Age of the oldest work that stays then."""
LOG_SECONDS = 10.0
"""Seconds between two lines of the log about shed work."""
MAX_BATCH_SECONDS = 64.0
"""Seconds of signal, over all patients, of one batch, so that one answer is never far away."""
LOOK_SECONDS = 1.0
"""Seconds between two looks whether an idle worker still lives."""
ATTEMPTS = 2
"""Times that a batch is tried on which a worker ends."""

OnDone = Callable[[int, Done], None]


@dataclass
class Load:
    """Counts of a worker's queue.

    Attributes:
        shed: samples that were shed.
        restarts: starts of the worker after the first.
        busy: seconds of work.
        scored: beats that were scored.
        shed_streams: samples that were shed, by number of the stream.
    """

    shed: int = 0
    restarts: int = 0
    busy: float = 0.0
    scored: int = 0
    shed_streams: Counter[int] = field(default_factory=Counter)

    def count_shed(self, work: Work) -> None:
        """Count the samples of work that is shed; those of a gap were missing before."""
        count = int(np.isfinite(work.samples).any(axis=1).sum())
        self.shed += count
        self.shed_streams[work.stream] += count


def join_gap(before: Work | None, work: Work) -> Work:
    """Return the gap that shed work, after an earlier gap of its stream, becomes.

    Its samples are missing; of one that is too long there are none, and the stream starts anew after it.
    """
    if before is not None and (before.rate, before.leads) != (work.rate, work.leads):
        before = None
    length = len(work.samples) + (len(before.samples) if before is not None else 0)
    anew = before is not None and before.restart and not len(before.samples)
    if anew or work.restart or length > MAX_GAP_SECONDS * work.rate:
        return replace(work, samples=work.samples[:0], position=work.position + len(work.samples), restart=True)
    first = before or work
    return replace(first, samples=np.full((length, len(work.leads)), np.nan, dtype=np.float32))


class Worker:
    """One worker process and its queue."""

    def __init__(self, number: int, model: NewModel, limits: Limits, on_done: OnDone) -> None:
        """Start the process; `on_done` is called in the worker's thread with this worker's number."""
        self.number, self.load = number, Load()
        self._model, self._limits, self._on_done = model, limits, on_done
        self._queue: deque[Work] = deque()
        self._orders: deque[NewModel | int] = deque()
        self._ready = threading.Condition()
        self._batch: list[Work] = []
        self._attempts = 0
        self._logged, self._unlogged = float("-inf"), 0
        self._closed = False
        self.started = threading.Event()
        self.error = ""
        self._thread = threading.Thread(target=self._serve, name=f"worker-{number}", daemon=True)
        self._thread.start()

    @property
    def age(self) -> float:
        """Seconds that the oldest work waits."""
        with self._ready:
            return time.monotonic() - self._queue[0].arrived if self._queue else 0.0

    def add(self, work: Work) -> None:
        """Queue work; the oldest is shed if it is too old."""
        with self._ready:
            self._queue.append(work)
            self._shed()
            self._ready.notify()

    def order(self, order: NewModel | int) -> None:
        """Use another model, or forget a stream, before any further work."""
        with self._ready:
            if isinstance(order, NewModel):
                self._model = order
            self._orders.append(order)
            self._ready.notify()

    def close(self) -> None:
        """End the process."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join(10)

    def _shed(self) -> None:
        now = time.monotonic()
        if not self._queue or self._queue[0].arrived >= now - MAX_AGE_SECONDS:
            return
        gaps: dict[int, Work] = {}
        before = self.load.shed
        while self._queue and self._queue[0].arrived < now - AGE_AFTER_SECONDS:
            work = self._queue.popleft()
            self.load.count_shed(work)
            gaps[work.stream] = join_gap(gaps.get(work.stream), work)
        arrived = self._queue[0].arrived if self._queue else now
        self._queue.extendleft(replace(gap, arrived=arrived) for gap in reversed(gaps.values()))
        self._unlogged += self.load.shed - before
        if now - self._logged > LOG_SECONDS:
            log.warning("worker %d is behind: %d samples of the oldest work were shed", self.number, self._unlogged)
            self._logged, self._unlogged = now, 0

    def _serve(self) -> None:
        while not self._closed:
            here, there = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=run_worker, args=(there, self._model, self._limits), daemon=True)
            process.start()
            there.close()
            try:
                self._talk(here)
            except (EOFError, OSError):
                self.load.restarts += 1
                self.started.clear()  # senders wait until the next one is ready
                self._queue_again()
            finally:
                here.close()
                _end(process)
            if self.error and not self.started.is_set():
                self.started.set()
                return
            if not self._closed:
                time.sleep(0.5)

    def _talk(self, connection: Connection) -> None:
        first: Done = connection.recv()
        if first.error:
            self.error = first.error
            return
        self._report(first)
        self.started.set()
        while True:
            with self._ready:
                while not (self._queue or self._orders or self._closed):
                    self._ready.wait(LOOK_SECONDS)
                    if connection.poll():
                        raise EOFError  # a worker only answers: it has ended
                if self._closed:
                    return
                order = self._orders.popleft() if self._orders else None
                batch: list[Work] = []
                if order is None:
                    self._shed()
                    seconds = 0.0
                    while self._queue and seconds < MAX_BATCH_SECONDS:
                        work = self._queue.popleft()
                        seconds += len(work.samples) / work.rate
                        batch.append(work)
            self._batch = batch
            connection.send(batch if order is None else order)
            if order is None:
                self._report(connection.recv())
            self._batch, self._attempts = [], 0

    def _queue_again(self) -> None:
        """Queue the batch during which the worker ended; what ends it again is shed."""
        self._attempts += 1
        with self._ready:
            if self._attempts < ATTEMPTS:
                self._queue.extendleft(reversed(self._batch))
            else:
                for work in self._batch:
                    self.load.count_shed(work)
                self._attempts = 0
            self._batch = []

    def _report(self, done: Done) -> None:
        self.load.busy += done.busy
        self.load.scored += done.scored
        self._on_done(self.number, done)


def _end(process: BaseProcess) -> None:
    process.join(2)
    if process.is_alive():
        process.kill()
        process.join(5)
