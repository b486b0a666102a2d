from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tornado")

from experiments.monitor import pool
from experiments.monitor.decisions import Limits
from experiments.monitor.model_sources import open_beat_model
from experiments.monitor.patient import PatientStream, Work
from experiments.monitor.pool import MAX_AGE_SECONDS, Load, Worker, join_gap
from experiments.monitor.worker import merge_packets
from tests.experiments.monitor.conftest import heartbeats

RATE = 250.0
NOW = 1000.0


def piece(stream: int, position: int, size: int = 250, age: float = 0.0, restart: bool = False) -> Work:
    samples = np.full((size, 1), float(position), np.float32)
    return Work(stream, RATE, ("II",), samples, position, restart, NOW - age)


def idle_worker() -> Worker:
    """Return a worker's queue without its process."""
    own = Worker.__new__(Worker)
    own.number, own.load, own._queue, own._ready = 0, Load(), deque(), threading.Condition()
    own._logged, own._unlogged = float("-inf"), 0
    return own


def test_the_oldest_work_is_shed_and_counted_by_stream(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: NOW))  # no work ages while it is queued
    own = idle_worker()
    with caplog.at_level(logging.WARNING, logger="wardround.monitor"):
        for age in (4.9, 3.0, 0.5):
            own.add(piece(0, 0, age=age))
            own.add(piece(1, 0, age=age, size=100))
        assert own.load.shed == 0
        own._queue.appendleft(piece(0, 0, age=MAX_AGE_SECONDS + 0.1))
        own.add(piece(0, 750, age=0.0))
    assert own.load.shed == 3 * 250 + 2 * 100  # all that is older than a second, not only the one piece
    assert own.load.shed_streams == {0: 750, 1: 200}
    assert "950 samples of the oldest work were shed" in caplog.text
    assert own.age < 1.0
    gaps = list(own._queue)[:2]
    assert [(gap.stream, len(gap.samples), bool(np.isnan(gap.samples).all())) for gap in gaps] == [
        (0, 750, True), (1, 200, True)
    ]  # fmt: skip
    assert len(own._queue) == 5
    own._queue[0] = piece(0, 0, age=6.0)
    own.add(piece(0, 1000))
    assert own.load.shed == 950 + 250  # gaps are not counted again


def test_a_gap_that_is_too_long_starts_the_stream_anew() -> None:
    gap = None
    for second in range(12):
        gap = join_gap(gap, piece(3, 250 * second))
        assert gap.restart == (second >= 10)
    assert gap is not None
    assert (gap.position, gap.samples.shape) == (3000, (0, 1))
    assert join_gap(join_gap(None, piece(3, 0)), piece(3, 250, restart=True)).restart
    other = join_gap(join_gap(None, piece(3, 0)), Work(3, 500.0, ("I", "II"), np.ones((5, 2), np.float32), 9, True, 0))
    assert (other.leads, other.position, other.samples.shape) == (("I", "II"), 14, (0, 2))


def test_merged_packets_give_the_beats_of_single_ones(causal_run: Path) -> None:
    signal = heartbeats(20)
    starts = range(0, len(signal), 60)
    batch = [Work(n, RATE, ("II",), signal[i : i + 60], i, i == 3000, float(i)) for i in starts for n in (0, 1)]
    merged = merge_packets(batch)
    assert [(work.stream, work.position, work.restart, len(work.samples), work.arrived) for work in merged] == [
        (0, 0, False, 3000, 0.0), (1, 0, False, 3000, 0.0), (0, 3000, True, 2000, 3000.0), (1, 3000, True, 2000, 3000.0)
    ]  # fmt: skip
    model = open_beat_model(causal_run)

    def watch(parts: list[Work]) -> list[tuple[float, bytes]]:
        own = PatientStream(parts[0], model, Limits())
        return [(beat.seconds, beat.window.tobytes()) for work in parts for beat in own.push(work.samples)]

    single = [work for work in batch if work.stream == 0 and work.position < 3000]
    assert watch(single) == watch([merged[0]])
    assert len(watch(single)) > 10
