"""A worker process: many patients' streams, scored together in micro-batches of whatever has arrived."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from experiments.monitor.decisions import Limits
from experiments.monitor.patient import PatientStream, Update, Work
from sites.ecg.streaming.stream import StreamedBeat


@dataclass(frozen=True)
class NewModel:
    """The model to use from now on.

    Attributes:
        run: the run's folder.
        name: which of its models.
        site: the hospital whose layers complete it.
    """

    run: Path
    name: str = "federated"
    site: str | None = None


@dataclass(frozen=True)
class Done:
    """What came of a batch of work.

    Attributes:
        updates: one for each stream.
        items: pieces of work that were done.
        busy: seconds that it took.
        scored: beats that were scored.
        model: the run whose model scored.
        error: why a new model could not be loaded; the one before stays.
    """

    updates: list[Update]
    items: int
    busy: float = 0.0
    scored: int = 0
    model: str = ""
    error: str = ""


def merge_packets(batch: Sequence[Work]) -> list[Work]:
    """Return the work of a batch with all pieces of a stream in one, up to where it starts anew.

    A stream gives the same beats whatever the size of its packets, so under load a piece costs less. A merged piece
    arrived when its first one did: no delay is reported too small.
    """
    out: dict[tuple[int, int], list[Work]] = {}
    starts: Counter[int] = Counter()
    for work in batch:
        starts[work.stream] += work.restart
        out.setdefault((work.stream, starts[work.stream]), []).append(work)
    return [
        replace(parts[0], samples=np.concatenate([part.samples for part in parts])) if len(parts) > 1 else parts[0]
        for parts in out.values()
    ]


def run_worker(connection: Connection, model: NewModel, limits: Limits) -> None:
    """Work until the connection closes: receive lists of `Work` or a `NewModel`, and send `Done` for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends its workers
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    from common.errors import WardroundError
    from experiments.monitor.scoring import open_beat_model

    try:
        current = open_beat_model(model.run, model.name, model.site)
    except WardroundError as error:
        connection.send(Done([], 0, error=str(error)))
        return
    current.warm_up()
    connection.send(Done([], 0, model=current.scoring.run))
    streams: dict[int, PatientStream] = {}
    while True:
        try:
            message: list[Work] | NewModel | int = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(message, NewModel):
            try:
                fresh = open_beat_model(message.run, message.name, message.site)
                fresh.warm_up()
                current = fresh
                connection.send(Done([], 0, model=current.scoring.run))
            except WardroundError as error:
                connection.send(Done([], 0, model=current.scoring.run, error=str(error)))
            continue
        if isinstance(message, int):
            streams.pop(message, None)
            continue
        started = time.perf_counter()
        parts: dict[int, list[StreamedBeat]] = {}
        arrivals: dict[int, list[float]] = {}
        for work in merge_packets(message):
            own = streams.get(work.stream)
            if own is None or work.restart:
                own = streams[work.stream] = PatientStream(work, current, limits)
                parts.pop(work.stream, None)
                arrivals.pop(work.stream, None)
            beats = own.push(work.samples) if len(work.samples) else []
            parts.setdefault(work.stream, []).extend(beats)
            arrivals.setdefault(work.stream, []).extend([work.arrived] * len(beats))
        every = [beat for beats in parts.values() for beat in beats]
        scores = current.score(every) if every else None
        updates, row, now = [], 0, time.monotonic()
        for stream, beats in parts.items():
            update = streams[stream].decide(beats, scores if beats else None, slice(row, row + len(beats)))
            update.delays = [now - arrived for arrived in arrivals[stream]]
            updates.append(update)
            row += len(beats)
        busy = time.perf_counter() - started
        connection.send(Done(updates, len(message), busy, len(every), current.scoring.run))
