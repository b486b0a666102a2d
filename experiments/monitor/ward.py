"""The state of the ward in the service's process: streams, alerts, and who is informed of them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from experiments.monitor import store as storing
from experiments.monitor.decisions import Limits
from experiments.monitor.drift import GroupShares
from experiments.monitor.patient import Update, Work
from experiments.monitor.pool import MAX_SECONDS, Worker
from experiments.monitor.protocol import Packet
from experiments.monitor.sample_ring import SampleRing
from experiments.monitor.sequence import Sequencer
from experiments.monitor.store import Store, StoredAlert
from experiments.monitor.webhook import Webhook
from experiments.monitor.worker import Done, NewModel

log = logging.getLogger("wardround.monitor")
PAGE_SECONDS = 12.0
"""Seconds of the first lead that the page can show."""
MAX_STREAMS, MAX_RATES = 5000, 8
"""Streams, and sampling rates within ROOM_SECONDS: a new rate needs a filter, which takes some tenths of a second."""
SILENT_SECONDS = 5.0
"""Seconds without a packet from which a device is called silent."""
FORGOTTEN_SECONDS = 24 * 3600.0
"""Seconds without a packet after which its stream is forgotten when another one starts."""
ROOM_SECONDS = 60.0
"""The same if there are too many streams."""
MAX_EVENTS = 200
"""Events that wait for one reader of the page; a slower reader is sent away, and connects again."""
URGENCY = {"alarm": 3, "warning": 2, "notice": 1}


@dataclass
class Stream:
    """A device's stream.

    Attributes:
        number: its number.
        device: the device.
        sequencer: the order of its packets.
        worker: number of the worker that has it.
        ring: the last samples of the first lead.
        total: samples so far, lost ones included.
        heard: when a packet came last, on the monotonic clock.
        wall: the same, seconds since 1970.
        beats: the last beats, as the page shows them.
        update: the newest state.
        counts: beats by class.
    """

    number: int
    device: str
    sequencer: Sequencer
    worker: int
    ring: SampleRing
    total: int = 0
    heard: float = 0.0
    wall: float = 0.0
    beats: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=60))
    update: Update | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def wall_at(self, seconds: float) -> float:
        """Return when something happened, seconds since 1970, from seconds since the start of the stream."""
        return self.wall - (self.total / self.sequencer.rate - seconds)


class Ward:
    """All streams of a monitor."""

    def __init__(
        self, model: NewModel, workers: int, store: Store, limits: Limits | None = None, webhook: Webhook | None = None
    ) -> None:
        """Start the workers; results are applied on the running event loop."""
        self.webhook, self._anomaly = webhook, model.anomaly
        self.store, self.model_name, self.synthetic = store, "", False
        self.drift: dict[int, GroupShares] = {}
        self.features: tuple[str, ...] = ()
        self._loop = asyncio.get_running_loop()
        self.streams: dict[str, Stream] = {}
        self._numbers: dict[int, Stream] = {}
        self._next_stream = 0
        self._rates: dict[float, float] = {}
        self.alerts: deque[StoredAlert] = deque(store.read_alerts(), maxlen=2000)
        self._next_alert = self.alerts[-1].id + 1 if self.alerts else 1
        self.delays: deque[float] = deque(maxlen=20_000)
        self.on_delay: Callable[[float], None] = lambda seconds: None
        self.on_alert: list[Callable[[StoredAlert], None]] = []
        self._readers: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._secret = secrets.token_bytes(16)
        self.refused: Counter[str] = Counter()
        self.packets: Counter[str] = Counter()
        self.errors: list[str] = [store.pause] if store.pause else []
        self.workers = [Worker(i, model, limits or Limits(), self._on_done) for i in range(workers)]

    def pseudonym(self, device: str) -> str:
        """Return the name that stands for a device in a log; it changes with each start of the service."""
        return hashlib.blake2b(device.encode(), key=self._secret, digest_size=4).hexdigest()

    def is_open(self, packet: Packet) -> bool:
        """Return whether a packet belongs to a stream that has started."""
        stream = self.streams.get(packet.device)
        return stream is not None and (stream.sequencer.rate, stream.sequencer.leads) == (packet.rate, packet.leads)

    def has_room(self, packet: Packet) -> bool:
        """Return whether a sender may go on, or must wait."""
        stream = self.streams.get(packet.device)
        worker = self.workers[stream.worker if stream else self._next_stream % len(self.workers)]
        ready = worker.started.is_set() and worker.age < MAX_SECONDS and not self.store.full
        return ready and (self.is_open(packet) or self._can_open(packet))

    def _can_open(self, packet: Packet) -> bool:
        """Return whether a stream may start; streams that have been silent for long give way."""
        now = time.monotonic()
        self._rates = {rate: heard for rate, heard in self._rates.items() if heard > now - ROOM_SECONDS}
        self._forget_silent(FORGOTTEN_SECONDS)
        if len(self.streams) >= MAX_STREAMS:
            self._forget_silent(ROOM_SECONDS)
        few = len(self.streams) < MAX_STREAMS or packet.device in self.streams
        return few and (packet.rate in self._rates or len(self._rates) < MAX_RATES)

    def _forget_silent(self, seconds: float) -> None:
        """Forget the streams without a packet for some seconds; their alerts stay."""
        limit = time.monotonic() - seconds
        for stream in [stream for stream in self.streams.values() if stream.heard < limit]:
            del self.streams[stream.device], self._numbers[stream.number]
            self.workers[stream.worker].order(stream.number)

    def accept(self, packet: Packet, transport: str) -> None:
        """Take a packet."""
        self.packets[transport] += 1
        stream = self.streams.get(packet.device)
        fresh = stream is None
        if stream is None or not self.is_open(packet):
            stream = self._open_stream(packet, stream)
            fresh = True
        samples, restart = stream.sequencer.push(packet)
        stream.heard, stream.wall = time.monotonic(), time.time()
        self._rates[packet.rate] = stream.heard
        if restart:
            stream.ring.clear()
        if len(samples):
            work = Work(stream.number, packet.rate, packet.leads, samples, stream.total, restart or fresh, stream.heard)
            stream.total += len(samples)
            stream.ring.extend(samples[:, 0])
            self.workers[stream.worker].add(work)

    def _open_stream(self, packet: Packet, before: Stream | None) -> Stream:
        number = before.number if before else self._next_stream
        self._next_stream += not before
        worker = before.worker if before else number % len(self.workers)
        ring, order = SampleRing(int(PAGE_SECONDS * packet.rate)), Sequencer(packet.rate, packet.leads)
        stream = Stream(number, packet.device, order, worker, ring)
        if before:
            stream.sequencer.losses = before.sequencer.losses
            stream.sequencer.losses.restarts += 1
        self.streams[packet.device] = self._numbers[number] = stream
        log.info("stream %s starts: %g Hz, %d leads", self.pseudonym(packet.device), packet.rate, len(packet.leads))
        return stream

    def _on_done(self, worker: int, done: Done) -> None:
        self._loop.call_soon_threadsafe(self._apply, worker, done)

    def _apply(self, worker: int, done: Done) -> None:
        self.model_name, self.features = done.model or self.model_name, done.features or self.features
        if done.drift is not None:
            self.drift[worker] = done.drift
        if done.error:
            self.errors.append(done.error)
            log.warning("%s", done.error)
        for update in done.updates:
            if stream := self._numbers.get(update.stream):
                self._apply_update(stream, update)

    def _apply_update(self, stream: Stream, update: Update) -> None:
        stream.update = update
        for delay in update.delays:
            self.delays.append(delay)
            self.on_delay(delay)
        for beat in update.beats:
            wall = stream.wall_at(beat.seconds)
            name = beat.name or "unusable"
            stream.counts[name] += 1
            rate = None if np.isnan(beat.rate) else round(beat.rate)
            item = {"seconds": round(beat.seconds, 3), "class": name, "alarm": round(beat.alarm, 3), "rate": rate}
            unusual = None if np.isnan(beat.unusual) else round(beat.unusual, 3)
            stream.beats.append(item | {"irregular": beat.irregular, "unusual": unusual})
            self.store.add_beat(stream.device, wall, beat.seconds, name, beat.alarm)
        for alert in update.alerts:
            wall = time.time()
            own = StoredAlert(
                self._next_alert,
                stream.device,
                alert.kind,
                alert.level,
                alert.seconds,
                wall,
                alert.text,
                alert.withheld,
            )
            self._next_alert += 1
            self.alerts.append(own)
            self.store.add_alert(own)
            log.info("alert %d for stream %s: %s", own.id, self.pseudonym(stream.device), own.kind)
            self._announce("alert", own)
            for callback in self.on_alert:
                callback(own)

    def use_model(self, model: NewModel) -> None:
        """Score with another model from when it is loaded; the one before goes on until then, or if it is unusable.

        The detector of unusual beats stays.
        """
        self.drift.clear()
        model = replace(model, anomaly=self._anomaly)
        for worker in self.workers:
            worker.order(model)

    def acknowledge(self, number: int, name: str) -> StoredAlert | None:
        """Acknowledge an alert in a person's name; return it, or None if there is none.

        The first who acknowledges stays recorded.
        """
        for i, alert in enumerate(self.alerts):
            if alert.id == number:
                now = time.time()
                if not alert.acknowledged_by:
                    alert = self.alerts[i] = replace(alert, acknowledged_by=name, acknowledged_at=now)
                    self.store.add(storing.ACKNOWLEDGE, (name, now, number))
                self.store.add(storing.INSERT_AUDIT, (now, name, "acknowledge", f"alert {number}"))
                self._announce("acknowledged", alert)
                return alert
        return None

    def _announce(self, event: str, alert: StoredAlert) -> None:
        """Give an alert, or its acknowledgement, to the readers of the page and to the webhook."""
        self.publish({"event": "alert", "alert": describe_alert(alert)})
        if self.webhook is not None:
            self.webhook.add(event, {"alert": describe_alert(alert)})

    def subscribe(self) -> asyncio.Queue[dict[str, Any] | None]:
        """Return a queue of events for one reader; None in it: the reader was too slow."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(MAX_EVENTS)
        self._readers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[dict[str, Any] | None]) -> None:
        """Forget a reader."""
        self._readers.discard(queue)

    def publish(self, event: dict[str, Any]) -> None:
        """Give an event to all readers."""
        for queue in list(self._readers):
            if queue.full():
                self._readers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def overview(self) -> list[dict[str, Any]]:
        """Return all patients, who needs a look first at the top."""
        opened: dict[str, list[StoredAlert]] = {}
        for alert in self.alerts:
            if not alert.acknowledged_by:
                opened.setdefault(alert.device, []).append(alert)
        rows = [self._summarise(stream, opened.get(stream.device, [])) for stream in self.streams.values()]
        return sorted(rows, key=lambda row: (-row["urgency"], row["device"]))

    def _summarise(self, stream: Stream, alerts: Sequence[StoredAlert]) -> dict[str, Any]:
        update = stream.update or Update(stream.number)
        silent = time.monotonic() - stream.heard > SILENT_SECONDS
        latest = max(alerts, key=lambda alert: (URGENCY[alert.level], alert.id), default=None)
        urgency = 10 * URGENCY[latest.level] if latest else 0
        urgency += 5 * any(kind in ("ventricular run", "no beat") for kind in update.active) + len(update.active)
        urgency += 12 * silent
        losses = stream.sequencer.losses
        shed = self.workers[stream.worker].load.shed_streams[stream.number]
        return {
            "device": stream.device,
            "urgency": urgency,
            "rate": next((beat["rate"] for beat in reversed(stream.beats) if beat["rate"]), None),
            "active": list(update.active),
            "faults": [fault for fault in update.faults if fault],
            "learning": update.learning,
            "silent": silent,
            "unacknowledged": len(alerts),
            "alert": describe_alert(latest) if latest else None,
            "withheld": update.withheld,
            "counts": dict(stream.counts),
            "losses": {name: value for name, value in vars(losses).items() if name != "taken"} | {"shed": shed},
            "seconds": round(stream.total / stream.sequencer.rate, 2),
        }

    def detail(self, device: str) -> dict[str, Any] | None:
        """Return a patient's last seconds of signal, beats and alerts; None if there is no such patient."""
        stream = self.streams.get(device)
        if stream is None:
            return None
        alerts = [alert for alert in self.alerts if alert.device == device][-50:]
        step = max(1, round(stream.sequencer.rate / 125))
        signal = stream.ring.read()[::-1][::step][::-1]
        summary = self._summarise(stream, [alert for alert in alerts if not alert.acknowledged_by])
        return summary | {
            "lead": stream.sequencer.leads[0],
            "signal": [None if np.isnan(value) else round(float(value), 3) for value in signal],
            "signal_rate": stream.sequencer.rate / step,
            "beats": list(stream.beats),
            "alerts": [describe_alert(alert) for alert in reversed(alerts)],
        }

    def patients_now(self) -> GroupShares | None:
        """Return the histograms of all patients; None: nobody has enough beats yet."""
        groups = list(self.drift.values())
        return reduce(add, groups) if groups else None

    def quantile(self, share: float) -> float:
        """Return a quantile of the delays (s) of the last beats; NaN without any."""
        return float(np.quantile(np.asarray(self.delays), share)) if self.delays else float("nan")

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.close()


def describe_alert(alert: StoredAlert) -> dict[str, Any]:
    """Return an alert, ready for JSON."""
    return vars(alert) | {"wall": round(alert.wall, 3), "seconds": round(alert.seconds, 2)}
