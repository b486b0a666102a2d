"""Processor time that a beat costs a worker, from its samples to the decision, and of that its inputs and score."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from experiments.bench.monitor_load import LEADS, PACKET_SECONDS, RATE, generate_signal
from experiments.monitor.decisions import Limits
from experiments.monitor.model_sources import open_beat_model
from experiments.monitor.patient import PatientStream, Work

WARM_UP_SECONDS = 15.0
"""Seconds of signal that do not count: every patient's usual beat is learned."""
MERGED = (1, 4)
"""Packets of a stream that are done at once: under load they wait for one another."""


def measure_time(run: Path, patients: int, seconds: float) -> dict[str, Any]:
    """Return milliseconds of processor time a beat, on one core, by the packets that are done at once.

    Args:
        run: the run whose model scores.
        patients: SYNTHETIC patients, each with 3 leads at 250 Hz, whose beats are scored together.
        seconds: of signal that count.
    """
    model = open_beat_model(run)
    model.warm_up()
    return {f"packets of {PACKET_SECONDS * n:g} s": _measure(model, patients, seconds, n) for n in MERGED}


def _measure(model: Any, patients: int, seconds: float, merged: int) -> dict[str, float]:
    size = int(PACKET_SECONDS * RATE) * merged
    signals = [generate_signal(WARM_UP_SECONDS + seconds, patient) for patient in range(patients)]
    streams = [
        PatientStream(Work(i, RATE, LEADS, signals[i][:0], 0, True, 0.0), model, Limits()) for i in range(patients)
    ]
    beats = whole = scoring = 0.0
    for start in range(0, len(signals[0]) - size + 1, size):
        counted = start >= WARM_UP_SECONDS * RATE
        started = time.process_time()
        ready = [stream.push(signal[start : start + size]) for stream, signal in zip(streams, signals, strict=True)]
        every = [beat for part in ready for beat in part]
        before = time.process_time()
        scores = model.score(every) if every else None
        after, row = time.process_time(), 0
        for stream, part in zip(streams, ready, strict=True):
            stream.decide(part, scores if part else None, slice(row, row + len(part)))
            row += len(part)
        if counted:
            beats += len(every)
            whole += time.process_time() - started
            scoring += after - before
    return {
        "beats": int(beats),
        "ms_a_beat": round(1000 * whole / beats, 3),
        "ms_a_beat_inputs_and_model": round(1000 * scoring / beats, 3),
        "patients_a_core": round(patients * seconds / whole),
    }
