"""What a monitor does when devices that cannot wait send too much: what is shed, and how soon it recovers."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from experiments.bench.monitor_load import LEADS, PACKET_SECONDS, RATE, WARM_UP_SECONDS, generate_signal
from experiments.monitor.protocol import Packet, sign_datagram, write_binary
from experiments.monitor.service import Running, Settings, run_service
from experiments.monitor.worker import NewModel

AFTER_SECONDS = 30.0
"""Seconds at the normal speed after the load."""
GOOD_SECONDS = 0.5
"""Oldest work, and delay of a beat's score, from which the monitor counts as behind."""


def send_saturation(port: int, token: str, patients: int, factor: float, seconds: float, result: Any) -> None:
    """Send datagrams of generated patients: at their speed, then `factor` times as fast, then at their speed.

    `result` receives when the load starts and ends, on the monotonic clock, and the samples that were sent.
    """
    size = int(PACKET_SECONDS * RATE)
    signals = [generate_signal(60.0, patient) for patient in range(min(patients, 20))]
    sent = [0] * patients
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)

        def play(speed: float, length: float) -> None:
            start, number = time.monotonic(), 0
            while (due := start + number * PACKET_SECONDS / speed) < start + length:
                time.sleep(max(0.0, due - time.monotonic()))
                for patient in range(patients):
                    signal = signals[patient % len(signals)]
                    at = sent[patient] % (len(signal) - size)
                    packet = Packet(f"bed-{patient}", RATE, LEADS, sent[patient], signal[at : at + size])
                    own.sendto(sign_datagram(write_binary(packet), token), ("127.0.0.1", port))
                    sent[patient] += size
                number += 1
                if time.monotonic() > start + length:
                    return  # the sender itself is too slow: the load ends in time

        play(1.0, WARM_UP_SECONDS)
        started, before = time.monotonic(), sum(sent)
        play(factor, seconds)
        ended, during = time.monotonic(), sum(sent) - before
        result.put({"started": started, "ended": ended, "during": during})
        play(1.0, AFTER_SECONDS)
        result.put({"sent": sum(sent)})


def measure_saturation(run: Path, patients: int, factor: float, seconds: float, workers: int) -> dict[str, Any]:
    """Return what was shed and lost under a load that cannot wait, and how soon the monitor recovered.

    Args:
        run: the run whose model scores.
        patients: devices, each with 3 leads at 250 Hz, over UDP.
        factor: multiple of their normal speed during the load.
        seconds: of the load.
        workers: worker processes.
    """
    with tempfile.TemporaryDirectory() as state:
        settings = Settings(NewModel(run), Path(state), port=0, udp_port=0, workers=workers)
        return asyncio.run(_measure(settings, patients, factor, seconds))


async def _measure(settings: Settings, patients: int, factor: float, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    async with run_service(settings) as running:
        result = context.Queue()
        token = running.tokens.first("device").token
        assert urlsplit(running.url).hostname == "127.0.0.1"
        arguments = (running.udp_port, token, patients, factor, seconds, result)
        sender = context.Process(target=send_saturation, args=arguments, daemon=True)
        looks: list[tuple[float, float, int]] = []
        delays: list[tuple[float, float]] = []
        running.ward.on_delay = lambda delay: delays.append((time.monotonic(), delay))
        sender.start()
        while sender.is_alive():
            await asyncio.sleep(0.05)
            workers = running.ward.workers
            looks.append((time.monotonic(), max(w.age for w in workers), sum(w.load.shed for w in workers)))
        ward = running.ward
        await wait_until_unchanged(lambda: ward.packets["udp"] + ward.refused.total(), 1.0)
        return summarise_saturation(running, result.get(timeout=10) | result.get(timeout=10), looks, delays, patients)


async def wait_until_unchanged(count: Callable[[], int], pause: float) -> None:
    """Wait until a count stays the same for a pause: the monitor has read what the kernel held for it."""
    before = -1
    while (now := count()) != before:
        before = now
        await asyncio.sleep(pause)


def summarise_saturation(
    running: Running,
    sent: dict[str, float],
    looks: list[tuple[float, float, int]],
    delays: list[tuple[float, float]],
    patients: int,
) -> dict[str, Any]:
    """Return the figures of a measurement.

    Args:
        running: the monitor, after it.
        sent: what the sender sent, and when.
        looks: time, age of the oldest work, and samples that were shed so far.
        delays: time and delay of each scored beat.
        patients: devices.
    """
    started, ended = sent["started"], sent["ended"]
    ward = running.ward
    losses = [stream.sequencer.losses for stream in ward.streams.values()]
    arrived, lost = sum(item.taken for item in losses), sum(item.lost for item in losses)
    shed = sum(worker.load.shed for worker in ward.workers)
    behind = [at for at, age, _ in looks if at > ended and age > GOOD_SECONDS]
    behind += [at for at, delay in delays if at > ended and delay > GOOD_SECONDS]
    waited = np.asarray([delay for at, delay in delays if started < at <= ended] or [np.nan])
    normal = [delay for at, delay in delays if at < started] or [np.nan]
    return {
        "patients": patients,
        "load_patient_seconds_a_second": round(sent["during"] / RATE / (ended - started)),
        "load_seconds": round(ended - started, 1),
        "samples_sent": int(sent["sent"]),
        "arrived": arrived,
        "lost_on_the_way_and_counted": lost,
        "not_accounted_for": int(sent["sent"]) - arrived - lost,
        "streams_started_anew": sum(item.restarts for item in losses),
        "shed_and_counted": shed,
        "oldest_work_s": round(max((age for at, age, _ in looks if started < at <= ended), default=0.0), 2),
        "delay_p99_before_ms": round(1000 * float(np.percentile(normal, 99)), 1),
        "delay_p99_during_ms": round(1000 * float(np.percentile(waited, 99)), 1),
        "recovered_after_s": round(max(behind, default=ended) - ended, 2),
    }
