"""How many patients a monitor can watch: losses, delays and memory under a load of devices."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from experiments.monitor.protocol import Packet, write_binary
from experiments.monitor.service import Running, Settings, run_service
from experiments.monitor.worker import NewModel

Values = npt.NDArray[np.float64]
RATE, LEADS, PACKET_SECONDS = 250.0, ("II", "V1", "V5"), 0.25
CONNECTIONS = 8
LOOK_SECONDS, MEMORY_SECONDS = 0.5, 5.0
MOST_BEATS = 4
"""Beats a second of a patient for which memory is taken."""
WARM_UP_SECONDS = 20.0
"""Seconds at the start that do not count: every patient's usual beat is learned at the same time."""


def generate_signal(seconds: float, patient: int) -> Any:
    """Return a generated signal `(samples, leads)` in mV at 60 to 100 beats a minute, with some wide beats."""
    draw = np.random.default_rng(patient)
    clock, signal = np.arange(int(seconds * RATE)) / RATE, np.zeros((int(seconds * RATE), len(LEADS)))
    at, interval = float(draw.uniform(0, 1)), float(draw.uniform(0.6, 1.0))
    while at < seconds:
        wide = draw.random() < 0.05
        near = slice(max(0, int((at - 0.3) * RATE)), int((at + 0.5) * RATE))
        offset = clock[near] - at
        beat = np.exp(-((offset / (0.03 if wide else 0.012)) ** 2)) + 0.25 * np.exp(-(((offset - 0.25) / 0.05) ** 2))
        signal[near] += beat[:, None] * np.array([1.0, -0.7, 0.8]) * (1.4 if wide else 1.0)
        at += interval * float(draw.normal(1, 0.03)) * (0.7 if draw.random() < 0.03 else 1)
    return (signal + 0.01 * draw.normal(size=signal.shape)).astype(np.float32)


def send_load(url: str, token: str, patients: int, seconds: float, result: Any) -> None:
    """Send the packets of generated patients over a few WebSockets, in a process of its own."""
    asyncio.run(_send_load(url, token, patients, seconds, result))


async def _send_load(url: str, token: str, patients: int, seconds: float, result: Any) -> None:
    from tornado.httpclient import HTTPRequest
    from tornado.websocket import websocket_connect

    length = 60.0
    signals = [generate_signal(length, patient) for patient in range(min(patients, 40))]
    size = int(PACKET_SECONDS * RATE)
    address = url.replace("http", "ws") + "api/stream"
    headers = {"Authorization": f"Bearer {token}"}
    own = [await websocket_connect(HTTPRequest(address, headers=headers)) for _ in range(CONNECTIONS)]
    start, late, sent = time.monotonic(), 0.0, 0

    async def play(patient: int) -> None:
        nonlocal late, sent
        signal, offset = signals[patient % len(signals)], PACKET_SECONDS * patient / patients
        for number in range(int(seconds / PACKET_SECONDS)):
            due = start + offset + (number + 1) * PACKET_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            first = number * size
            at = first % (len(signal) - size)
            packet = Packet(f"bed-{patient}", RATE, LEADS, first, signal[at : at + size])
            late = max(late, time.monotonic() - due)
            await own[patient % CONNECTIONS].write_message(write_binary(packet), binary=True)
            sent += size

    await asyncio.gather(*(play(patient) for patient in range(patients)))
    result.put({"sent": sent, "late": late})
    for connection in own:
        connection.close()


def measure_load(run: Path, patients: int, seconds: float, workers: int) -> dict[str, Any]:
    """Return losses, delays and memory of a monitor with a load.

    Args:
        run: the run whose model scores.
        patients: devices, each with 3 leads at 250 Hz, in real time.
        seconds: of signal.
        workers: worker processes.
    """
    with tempfile.TemporaryDirectory() as state:
        return asyncio.run(_measure(Settings(NewModel(run), Path(state), port=0, workers=workers), patients, seconds))


async def _measure(settings: Settings, patients: int, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    async with run_service(settings) as running:
        result = context.Queue()
        arguments = (running.url, running.tokens.first("device").token, patients, seconds, result)
        sender = context.Process(target=send_load, args=arguments, daemon=True)
        sender.start()
        await asyncio.sleep(WARM_UP_SECONDS)
        delays = Delays(patients, seconds)
        running.ward.on_delay = delays.add
        usage = Usage.measure(sender.pid)
        series, peak_age, own = [usage], 0.0, float(np.sum(os.times()[:2]))
        while sender.is_alive():
            await asyncio.sleep(LOOK_SECONDS)
            peak_age = max([peak_age, *(worker.age for worker in running.ward.workers)])
            if time.monotonic() - series[-1].at >= MEMORY_SECONDS:
                series.append(Usage.measure(sender.pid))
        await asyncio.sleep(3)
        series.append(Usage.measure(sender.pid))
        machine = describe_machine(series, float(np.sum(os.times()[:2])) - own)
        return _summarise(running, delays.read(), result.get(timeout=10), patients, seconds) | machine | {
            "oldest_work_s": round(peak_age, 3)
        }  # fmt: skip


class Delays:
    """Delays of all beats, in memory that is taken before the measurement: a list would be a growth of its own."""

    def __init__(self, patients: int, seconds: float) -> None:
        """Take memory for the beats of some patients over some seconds."""
        self._values: Values = np.full(int(MOST_BEATS * patients * (seconds + WARM_UP_SECONDS)), np.nan)
        self._count = 0

    def add(self, delay: float) -> None:
        """Add the delay of a beat; beats beyond the memory are left out."""
        if self._count < len(self._values):
            self._values[self._count] = delay
            self._count += 1

    def read(self) -> Values:
        """Return the delays so far."""
        return self._values[: self._count]


@dataclass(frozen=True)
class Usage:
    """What the service uses, without the sender.

    Attributes:
        at: seconds of the monotonic clock.
        memory: bytes of all processes.
        processor: seconds of processor time of all processes so far.
    """

    at: float
    memory: int
    processor: float

    @classmethod
    def measure(cls, sender: int | None) -> Usage:
        """Return the usage of this process and its children but `sender`."""
        me = psutil.Process()
        every = [me, *(child for child in me.children(recursive=True) if child.pid != sender)]
        times = [process.cpu_times() for process in every]
        memory = sum(int(process.memory_info().rss) for process in every)
        return cls(time.monotonic(), memory, sum(float(item.user + item.system) for item in times))


def describe_machine(series: Sequence[Usage], own: float) -> dict[str, Any]:
    """Return memory, its growth over the second half, processor time, and what else the machine was busy with.

    Args:
        series: usage from the end of the warm-up on.
        own: seconds of processor time of the service's main process alone.
    """
    minutes = np.asarray([item.at for item in series]) / 60
    memory = np.asarray([item.memory for item in series]) / 2**20
    late = minutes >= (minutes[0] + minutes[-1]) / 2
    growth = float(np.polyfit(minutes[late], memory[late], 1)[0]) if late.sum() > 2 else float("nan")
    wall = series[-1].at - series[0].at
    return {
        "memory_mib": [round(value) for value in memory[:: max(1, len(memory) // 10)].tolist()],
        "memory_growth_mib_a_minute": None if np.isnan(growth) else round(growth, 2),
        "cores_used": round((series[-1].processor - series[0].processor) / wall, 2),
        "cores_used_by_main_process": round(own / wall, 2),
        "cores": psutil.cpu_count(),
        "load_average": [round(value, 1) for value in psutil.getloadavg()],
    }


def _summarise(
    running: Running, delays: Values, sent: dict[str, float], patients: int, seconds: float
) -> dict[str, Any]:
    ward = running.ward
    taken = sum(stream.total for stream in ward.streams.values())
    lost = sum(stream.sequencer.losses.lost for stream in ward.streams.values())
    busy, scored = (sum(getattr(worker.load, name) for worker in ward.workers) for name in ("busy", "scored"))
    values = delays if len(delays) else np.asarray([np.nan])
    return {
        "patients": patients,
        "seconds": seconds,
        "samples_sent": int(sent["sent"]),
        "samples_taken": taken,
        "lost": lost,
        "shed": sum(worker.load.shed for worker in ward.workers),
        "sender_late_s": round(float(sent["late"]), 3),
        "beats_scored": scored,
        "ms_per_beat": round(1000 * busy / max(scored, 1), 3),
        "delay_ms": {f"p{share:g}": round(1000 * float(np.percentile(values, share)), 1) for share in (50, 95, 99)},
    }
