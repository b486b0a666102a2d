"""Streams recordings at a monitor as devices would, at any multiple of their speed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError

from common.errors import EngineError
from experiments.monitor.protocol import Packet, write_binary
from sites.ecg.recordings import Recording, read_recording

PACKET_SECONDS = 0.25
TRIES = 60
"""Times that a packet is sent again while the monitor is busy or away; then the replay ends with an error."""


@dataclass
class ReplayCounts:
    """What a replay sent.

    Attributes:
        packets: packets that were accepted.
        samples: samples of all leads.
        again: packets that were sent again.
    """

    packets: int = 0
    samples: int = 0
    again: int = 0


def read_recordings(paths: Sequence[Path], annotator: str | None = None) -> list[Recording]:
    """Return recordings, given without `.hea`, or all of a folder; with the annotations of a suffix, if one is given.

    Raises:
        DataError: one cannot be read.
    """
    from sites.ecg.recordings import recording_names

    out = []
    for path in paths:
        names = recording_names(path) if path.is_dir() else (path.name,)
        folder = path if path.is_dir() else path.parent
        out += [read_recording(folder, name, annotator) for name in names]
    return out


def cut_packets(recording: Recording, device: str, seconds: float, turn: int = 0) -> list[Packet]:
    """Return a recording as packets of PACKET_SECONDS; `turn` shifts its start, so that patients differ."""
    rate = recording.rate
    signal = np.roll(recording.signal, -int(turn * 7.3 * rate), axis=0) if turn else recording.signal
    signal = signal[: int(seconds * rate)]
    leads = tuple(name.replace(" ", "")[:8] or f"lead{i}" for i, name in enumerate(recording.leads))
    edges = np.arange(0, len(signal) / rate + PACKET_SECONDS, PACKET_SECONDS) * rate
    starts = np.unique(np.minimum(np.rint(edges).astype(int), len(signal)))
    return [Packet(device, rate, leads, start, signal[start:end]) for start, end in pairwise(starts.tolist())]


async def replay_packets(
    url: str, token: str, packets: Sequence[Packet], speed: float, counts: ReplayCounts, delay: float = 0.0
) -> None:
    """Send one device's packets to a monitor, each when its last sample would have been taken.

    Args:
        url: of the monitor, with a final `/`.
        token: of a device.
        packets: in order.
        speed: multiple of the speed of the recording.
        counts: what is sent is added here.
        delay: seconds before the first.

    Raises:
        EngineError: the monitor refuses them, or is away for too long.
    """
    client = AsyncHTTPClient()
    await asyncio.sleep(delay)
    start = time.monotonic()
    origin = int(packets[0].first or 0)
    for packet in packets:
        due = start + (int(packet.first or 0) - origin + len(packet.samples)) / packet.rate / speed
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await _send(client, url, token, packet, counts)


async def _send(client: AsyncHTTPClient, url: str, token: str, packet: Packet, counts: ReplayCounts) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    request = HTTPRequest(
        f"{url}api/samples", "POST", headers, write_binary(packet), validate_cert=False, request_timeout=10
    )
    for attempt in range(TRIES):
        try:
            await client.fetch(request)
        except (OSError, HTTPClientError, HTTPTimeoutError) as error:
            code = getattr(error, "code", 0)
            if code not in (0, 503, 599):
                raise EngineError(f"the monitor refuses packets ({code}): {_reason(error)}") from None
            counts.again += 1
            await asyncio.sleep(min(1.0, 0.05 * 2**attempt))
            continue
        counts.packets += 1
        counts.samples += packet.samples.size
        return
    raise EngineError(f"the monitor at {url} does not take packets: is it running?")


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    try:
        return str(json.loads(response.body)["error"]) if response else str(error)
    except (ValueError, KeyError):
        return "no reason given"


async def replay_recordings(
    url: str,
    token: str,
    recordings: Sequence[Recording],
    patients: int = 0,
    speed: float = 1.0,
    seconds: float = float("inf"),
) -> ReplayCounts:
    """Stream recordings at a monitor, each as one device.

    Args:
        url: of the monitor, with a final `/`.
        token: of a device.
        recordings: taken in turn.
        patients: devices; 0: one for each recording.
        speed: multiple of the speed of the recording.
        seconds: seconds of each recording.

    Raises:
        EngineError: the monitor refuses packets, or is away for too long.
    """
    AsyncHTTPClient.configure(None, max_clients=1000)
    counts = ReplayCounts()
    total = patients or len(recordings)
    jobs = []
    for number in range(total):
        recording, turn = recordings[number % len(recordings)], number // len(recordings)
        device = f"bed-{number + 1}-{recording.name}" if total > 1 else f"bed-{recording.name}"
        limit = min(seconds, len(recording.signal) / recording.rate)
        packets = cut_packets(recording, device, limit, turn)
        jobs.append(replay_packets(url, token, packets, speed, counts, PACKET_SECONDS * number / total))
    await asyncio.gather(*jobs)
    return counts
