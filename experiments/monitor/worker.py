"""A worker process: many patients' streams, scored together in micro-batches of whatever has arrived."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import WardroundError
from experiments.monitor.decisions import Limits
from experiments.monitor.drift import BeatHistograms, GroupShares
from experiments.monitor.patient import PatientStream, Update, Work
from sites.ecg.streaming.stream import StreamedBeat

if TYPE_CHECKING:
    from experiments.monitor.beat_model import BeatModel

DRIFT_SECONDS = 10.0
"""Seconds between two reports of a worker's histograms."""


@dataclass(frozen=True)
class NewModel:
    """The model to use from now on.

    Attributes:
        run: the run's folder.
        name: which of its models.
        site: the hospital whose layers complete it.
        anomaly: a run of an autoencoder, or a file of an isolation forest, that finds beats unusual; None: none.
    """

    run: Path
    name: str = "federated"
    site: str | None = None
    anomaly: Path | None = None


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
        drift: histograms of the worker's patients, at times.
        features: names of the model's features.
    """

    updates: list[Update]
    items: int
    busy: float = 0.0
    scored: int = 0
    model: str = ""
    error: str = ""
    drift: GroupShares | None = None
    features: tuple[str, ...] = ()


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


class ModelLoader:
    """Loads a model and scores with it once, on a thread, while the one before goes on.

    Attributes:
        model: the model, once it is ready.
        error: why there is none.
        done: whether it is decided.
    """

    def __init__(self, wanted: NewModel) -> None:
        self.model: BeatModel | None = None
        self.error, self.done = "", threading.Event()
        threading.Thread(target=self._load, args=(wanted,), daemon=True).start()

    def _load(self, wanted: NewModel) -> None:
        from experiments.monitor.model_sources import open_beat_model, uses_torch

        try:
            if uses_torch(wanted.run, wanted.anomaly):
                _limit_threads()
            model = open_beat_model(wanted.run, wanted.name, wanted.site, wanted.anomaly)
            model.warm_up()
            self.model = model
        except Exception as error:  # whatever is wrong with a run, the model before goes on
            self.error = _describe_failure(wanted, error)
        self.done.set()


def _describe_failure(wanted: NewModel, error: Exception) -> str:
    """Return in one line why a model cannot be used; no text of an error that may quote data."""
    if isinstance(error, WardroundError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{wanted.run}: the model needs the package {error.name}: install it"
    return f"{wanted.run}: the model cannot be loaded ({type(error).__name__})"


def _limit_threads() -> None:
    """Let torch use one thread: each worker has a core."""
    import torch

    torch.set_num_threads(1)


def run_worker(connection: Connection, model: NewModel, limits: Limits) -> None:
    """Work until the connection closes: receive lists of `Work` or a `NewModel`, and send `Done` for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends its workers
    os.environ["OMP_NUM_THREADS"] = "1"
    from experiments.monitor.model_sources import open_beat_model, uses_torch

    if uses_torch(model.run, model.anomaly):
        _limit_threads()
    try:
        current = open_beat_model(model.run, model.name, model.site, model.anomaly)
        current.warm_up()
    except Exception as error:  # started again, it would fail again: the service says why, and ends
        connection.send(Done([], 0, error=_describe_failure(model, error)))
        return
    connection.send(Done([], 0, model=current.run, features=tuple(current.task.features)))
    histograms, reported = BeatHistograms(), time.monotonic()
    streams: dict[int, PatientStream] = {}
    loader: ModelLoader | None = None
    features: tuple[str, ...] = ()
    while True:
        try:
            message: list[Work] | NewModel | int = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(message, NewModel):
            loader = ModelLoader(message)
            continue
        if isinstance(message, int):
            streams.pop(message, None)
            histograms.counts.pop(message, None)
            continue
        started, problem, features = time.perf_counter(), "", ()
        if loader is not None and loader.done.is_set():
            problem, fresh, loader = loader.error, loader.model, None
            if fresh is not None:
                if fresh.form != current.form:
                    streams.clear()  # other inputs: each patient's usual beat is learned again
                current, histograms = fresh, BeatHistograms()
                features = tuple(current.task.features)
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
            if scores is not None and beats:
                rows = [row + i for i, beat in enumerate(update.beats) if beat.usable]
                rate = np.asarray([beat.rate for beat in update.beats if beat.usable])
                if rows:
                    histograms.add(stream, rate, scores.alarm[rows], scores.columns[rows])
            row += len(beats)
        drift = None
        if now - reported > DRIFT_SECONDS:
            drift, reported = histograms.summarise(), now
        busy = time.perf_counter() - started
        name = current.run
        connection.send(Done(updates, len(message), busy, len(every), name, problem, drift, features))
