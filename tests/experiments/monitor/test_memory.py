"""What a monitor keeps of one patient is bounded: counted in bytes of objects, not in memory of a process."""

from __future__ import annotations

import gc
import sys
import types
from collections import deque
from typing import Any

import numpy as np
import pytest

from common.task import Task
from experiments.bench.monitor_load import Delays
from experiments.monitor.beat_model import BeatModel
from experiments.monitor.decisions import Limits
from experiments.monitor.patient import PatientStream, Work
from experiments.monitor.sample_ring import SampleRing
from sites.ecg.streaming.filtering import BlockFilter
from sites.unlabelled.recordings import InputForm
from tests.experiments.monitor.conftest import heartbeats

NOT_OWN = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, BlockFilter, Limits)


def count_bytes(root: Any) -> int:
    """Return the bytes of all objects that one refers to, with the whole array that a view is of; no shared filter."""
    known: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in known or isinstance(each, NOT_OWN):
            continue
        known[id(each)] = each
        if isinstance(each, np.ndarray) and each.base is not None:
            waiting.append(each.base)
        waiting.extend(gc.get_referents(each))
    return sum(sys.getsizeof(each) for each in known.values())


@pytest.fixture
def model() -> BeatModel:
    names = tuple(f"column {i}" for i in range(39))
    task = Task("a", "multiclass", ("N", "V"), ("normal", "ventricular"), 1, 96, 125.0, names, channel_names=("II",))
    form = InputForm(task, "window", 1, False, shape=1)
    return BeatModel("run", task, form, True, lambda x, columns: np.zeros((len(x), 2)))


def watch(model: BeatModel, streams: list[PatientStream], signal: np.ndarray, seconds: int) -> list[int]:
    """Stream one signal to all patients, scored together; return the bytes that each keeps, the most of each minute."""
    most = [0] * (seconds // 60)
    for second in range(seconds):
        at = second * 250 % len(signal)
        parts = [stream.push(signal[at : at + 250]) for stream in streams]
        every = [beat for part in parts for beat in part]
        scores, row = model.score(every) if every else None, 0
        for stream, part in zip(streams, parts, strict=True):
            stream.decide(part, scores if part else None, slice(row, row + len(part)))
            row += len(part)
        if second % 2 == 0:
            most[second // 60] = max(most[second // 60], count_bytes(streams[0]))
    return most


def open_streams(model: BeatModel, count: int) -> list[PatientStream]:
    empty = np.zeros((0, 1), np.float32)
    return [PatientStream(Work(i, 250.0, ("II",), empty, 0, True, 0.0), model, Limits()) for i in range(count)]


def test_what_a_worker_keeps_of_a_patient_does_not_grow(model: BeatModel) -> None:
    fast = heartbeats(60)[::2]  # 150 beats a minute: all that is bounded is full after three minutes
    most = watch(model, open_streams(model, 1), np.concatenate([fast, fast]), 600)
    assert most[0] > 50_000
    assert max(most[6:]) <= 1.01 * max(most[3:6])
    assert max(most) < 400_000


def test_what_is_kept_of_a_patient_does_not_depend_on_the_others(model: BeatModel) -> None:
    alone = watch(model, open_streams(model, 1), heartbeats(60), 60)
    together = watch(model, open_streams(model, 8), heartbeats(60), 60)
    assert together[0] <= 1.01 * alone[0]


def test_the_ring_holds_the_last_samples_in_the_same_memory() -> None:
    ring, slow = SampleRing(100), deque[float](maxlen=100)
    before = count_bytes(ring)
    draw = np.random.default_rng(2)
    for size in draw.integers(0, 250, 60).tolist():
        if size == 7:
            ring.clear()
            slow.clear()
        samples = draw.normal(size=size).astype(np.float32)
        ring.extend(samples)
        slow.extend(samples.tolist())
        assert ring.read().tolist() == list(slow)
        assert len(ring) == len(slow)
    ring.clear()
    assert ring.read().tolist() == []
    assert count_bytes(ring) <= before + 100  # two larger numbers


def test_delays_of_a_measurement_take_no_further_memory() -> None:
    delays = Delays(2, 60)
    before = count_bytes(delays)
    for i in range(100):
        delays.add(i / 10)
    assert delays.read().tolist() == [i / 10 for i in range(100)]
    assert count_bytes(delays) <= before + 50
    for _ in range(2000):
        delays.add(1.0)
    assert len(delays.read()) == 4 * 2 * 80
