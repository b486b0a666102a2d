"""The HTTP interface of the monitor, and its WebSocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tornado import web, websocket
from tornado.iostream import StreamClosedError

from common.errors import DataError
from experiments.monitor.calibration import describe_calibration
from experiments.monitor.drift import describe_drift
from experiments.monitor.metrics import render_metrics
from experiments.monitor.page_handlers import Handler, Index, Login, NotHere, Service, Static
from experiments.monitor.protocol import Packet, read_binary, read_json

HEARTBEAT_SECONDS = 15.0
LIVE_SECONDS = 0.5
"""Seconds between two versions of a patient's signal, and of the overview."""
MAX_BODY = 4 * 2**20


class Samples(Handler):
    """POST /api/samples: packets as JSON, or one in binary form."""

    def post(self) -> None:
        """Take packets; 503 with Retry-After if there is no room, and then none of them was taken."""
        self.require("device")
        ward = self.service.ward
        kind = self.request.headers.get("Content-Type", "application/json").partition(";")[0].strip().lower()
        try:
            packets = _read(self.request.body, binary=kind == "application/octet-stream")
        except DataError as error:
            ward.refused["malformed"] += 1
            self.set_status(400)
            self.finish({"error": str(error)})
            return
        if not all(ward.has_room(packet) for packet in packets):
            self.refuse_busy()
            return
        for packet in packets:
            ward.accept(packet, "http")
        self.set_status(202)
        self.finish({"packets": len(packets)})


def _read(body: bytes, binary: bool) -> list[Packet]:
    return [read_binary(body)] if binary else read_json(body)


class Rows(Handler):
    """POST /api/rows: vital signs and laboratory values of an hour; the answer is the risk at the last hour."""

    async def post(self) -> None:
        """Take a row, or a FHIR Observation; 404 if no model of hourly risks is loaded."""
        self.require("device")
        hourly = self.service.hourly
        if hourly is None:
            raise web.HTTPError(404, reason="no model of hourly risks: start with --hourly-run")
        from experiments.monitor.hourly_ward import describe_risk

        try:
            _, risk = await asyncio.to_thread(hourly.take, self.request.body)
        except DataError as error:
            self.service.ward.refused["malformed"] += 1
            self.set_status(400)
            self.finish({"error": str(error)})
            return
        self.finish(describe_risk(risk))


class Outcomes(Handler):
    """POST /api/outcomes: what came of earlier predictions."""

    async def post(self) -> None:
        """Take outcomes in the name of the token's holder; those of which nothing was predicted are counted."""
        holder, log = self.require("person"), self.service.outcomes
        self.require_same_origin()
        if log is None:
            raise web.HTTPError(404, reason="outcomes are not kept")
        try:
            taken, unknown = await asyncio.to_thread(log.take, self.request.body, holder.name)
        except DataError as error:
            self.service.ward.refused["malformed"] += 1
            self.set_status(400)
            self.finish({"error": str(error)})
            return
        self.finish({"taken": taken, "unknown": unknown})


class SampleSocket(websocket.WebSocketHandler):
    """GET /api/stream: a WebSocket for packets; a message is read only when there is room for the one before."""

    def initialize(self, service: Service) -> None:
        """Take the service."""
        self.service = service

    async def prepare(self) -> None:
        """Refuse who has no token of a device."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        valid = scheme.lower() == "bearer" and token.isascii() and self.service.tokens.identify(token, "device")
        if not valid:
            self.service.ward.refused["token"] += 1
            self.set_status(401)
            self.finish()

    async def on_message(self, message: str | bytes) -> None:
        """Take packets; the sender is answered only about errors."""
        ward = self.service.ward
        try:
            binary = isinstance(message, bytes)
            packets = _read(message if isinstance(message, bytes) else message.encode(), binary)
        except DataError as error:
            ward.refused["malformed"] += 1
            await self.write_message(json.dumps({"error": str(error)}))
            return
        for packet in packets:
            while not ward.has_room(packet):
                await asyncio.sleep(0.02)  # the next message stays in the sender's buffers
            ward.accept(packet, "websocket")

    def check_origin(self, origin: str) -> bool:
        """Refuse pages of other origins: devices send none."""
        return False


class Overview(Handler):
    """GET /api/ward: all patients, who needs a look first at the top."""

    def get(self) -> None:
        """Answer the overview."""
        self.require("person")
        self.finish(describe_ward(self.service))


def describe_ward(service: Service) -> dict[str, Any]:
    """Return the overview, ready for JSON."""
    ward = service.ward
    return {
        "patients": ward.overview(),
        "delay_p50": _finite(ward.quantile(0.5)),
        "delay_p99": _finite(ward.quantile(0.99)),
        "shed": sum(worker.load.shed for worker in ward.workers),
        "refused": sum(ward.refused.values()),
        "queued_rows": ward.store.queued,
        "model": ward.model_name,
        "notice": service.notice,
        "errors": ward.errors[-3:],
        "drift": describe_drift(service.reference, ward.patients_now(), ward.model_name),
        "calibration": describe_calibration(service.outcomes.calibration) if service.outcomes else "",
    }


def describe_patient(service: Service, device: str) -> dict[str, Any] | None:
    """Return a patient with the risks by hour, if there are any; None if there is no such device."""
    detail = service.ward.detail(device)
    if detail is None:
        return None
    return detail | {"risk": service.hourly.describe(device) if service.hourly else []}


def _finite(value: float) -> float | None:
    return round(value, 4) if value == value else None


class Patient(Handler):
    """GET /api/patients/DEVICE: a patient's signal, beats and alerts."""

    def get(self, device: str) -> None:
        """Answer the patient."""
        self.require("person")
        detail = describe_patient(self.service, device)
        if detail is None:
            raise web.HTTPError(404, reason="no such device")
        self.finish(detail)


class Acknowledge(Handler):
    """POST /api/alerts/NUMBER/acknowledge."""

    def post(self, number: str) -> None:
        """Acknowledge an alert in the name of the token's holder."""
        holder = self.require("person")
        self.require_same_origin()
        alert = self.service.ward.acknowledge(int(number), holder.name)
        if alert is None:
            raise web.HTTPError(404, reason="no such alert")
        self.finish({"id": alert.id, "by": alert.acknowledged_by, "at": alert.acknowledged_at})


class Audit(Handler):
    """GET /api/audit: who did what, the newest first."""

    def get(self) -> None:
        """Answer the last entries."""
        self.require("person")
        rows = self.service.ward.store.read_audit()
        self.finish({"entries": [dict(zip(("wall", "name", "action", "subject"), row, strict=True)) for row in rows]})


class Events(Handler):
    """GET /api/events: server-sent events: the ward, a patient (?device=NAME), and alerts at once."""

    async def get(self) -> None:
        """Send events until the reader goes; one that is too slow is sent away, and connects again."""
        self.require("person")
        ward, device = self.service.ward, self.get_query_argument("device", "")
        self.set_header("Content-Type", "text/event-stream")
        queue = ward.subscribe()
        try:
            while True:
                await self._send("ward", describe_ward(self.service))
                if device and (detail := describe_patient(self.service, device)):
                    await self._send("patient", detail)
                try:
                    event = await asyncio.wait_for(queue.get(), LIVE_SECONDS)
                except TimeoutError:
                    continue
                if event is None:
                    return
                await self._send(event["event"], event)
        except (StreamClosedError, asyncio.CancelledError):
            return
        finally:
            ward.unsubscribe(queue)

    async def _send(self, name: str, content: dict[str, Any]) -> None:
        self.write(f"event: {name}\ndata: {json.dumps(content)}\n\n")
        await asyncio.wait_for(self.flush(), HEARTBEAT_SECONDS)

    def on_connection_close(self) -> None:
        """Nothing: the next event finds the connection closed."""


class Metrics(Handler):
    """GET /metrics, for Prometheus."""

    def get(self) -> None:
        """Answer the metrics; no label names a device."""
        self.require("person")
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(render_metrics(self.service.registry))


class Health(Handler):
    """GET /health: whether the workers take work."""

    def get(self) -> None:
        """Answer 200, or 503 if a worker is behind or the store is full."""
        ward = self.service.ward
        good = not ward.store.full and all(worker.age < 5 for worker in ward.workers)
        self.set_status(200 if good else 503)
        self.finish({"ready": good})


def build_application(service: Service) -> web.Application:
    """Return the Tornado application."""
    given = {"service": service}
    routes: list[tuple[str, type[web.RequestHandler]]] = [
        (r"/", Index),
        (r"/login", Login),
        (r"/page/([a-z.]+)", Static),
        (r"/api/samples", Samples),
        (r"/api/rows", Rows),
        (r"/api/outcomes", Outcomes),
        (r"/api/stream", SampleSocket),
        (r"/api/ward", Overview),
        (r"/api/patients/([A-Za-z0-9._:-]{1,64})", Patient),
        (r"/api/alerts/([0-9]{1,12})/acknowledge", Acknowledge),
        (r"/api/audit", Audit),
        (r"/api/events", Events),
        (r"/metrics", Metrics),
        (r"/health", Health),
    ]
    return web.Application(
        [(path, handler, given) for path, handler in routes],
        default_handler_class=NotHere,
        default_handler_args=given,
        websocket_max_message_size=MAX_BODY,
        log_function=_count_only,
    )


def _count_only(handler: web.RequestHandler) -> None:
    """Log nothing of a request: its address names a device."""
