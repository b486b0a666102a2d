"""The monitor's service: HTTP, WebSocket and UDP in, on one event loop, with worker processes for the work."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from common.errors import ConfigError, DataError, EngineError
from experiments.monitor.decisions import Limits
from experiments.monitor.drift import load_reference
from experiments.monitor.handlers import MAX_BODY, build_application
from experiments.monitor.influx import InfluxSettings, LineWriter
from experiments.monitor.metrics import build_registry
from experiments.monitor.model_choice import watch_choice
from experiments.monitor.outcomes import OutcomeLog
from experiments.monitor.page_handlers import Service
from experiments.monitor.protocol import open_datagram, read_binary
from experiments.monitor.store import Store
from experiments.monitor.tokens import Tokens, load_tokens
from experiments.monitor.ward import Ward
from experiments.monitor.webhook import Webhook
from experiments.monitor.worker import NewModel

log = logging.getLogger("wardround.monitor")
START_SECONDS = 180.0
UDP_BUFFER = 8 * 2**20


@dataclass(frozen=True)
class Settings:
    """Settings of a monitor.

    Attributes:
        model: whose model scores.
        state: folder of the tokens and the store.
        host: address to listen on.
        port: TCP port; 0: any free one.
        udp_port: UDP port; None: no UDP; 0: any free one.
        workers: worker processes.
        certificate: PEM file of the server's certificate; None: no TLS.
        key: PEM file of its key.
        keep_hours: hours that single beats are kept.
        limits: when alerts start and end.
        notice: what the page says about its data.
        hourly_run: the run of a model of hourly risks; None: none.
        influx: the InfluxDB of beats, risks and alerts; None: all are in the state folder.
        webhook: address that alerts are sent to; None: none.
    """

    model: NewModel
    state: Path
    host: str = "127.0.0.1"
    port: int = 8765
    udp_port: int | None = None
    workers: int = 1
    certificate: Path | None = None
    key: Path | None = None
    keep_hours: float = 24.0
    limits: Limits = field(default_factory=Limits)
    notice: str = ""
    hourly_run: Path | None = None
    influx: InfluxSettings | None = None
    webhook: str | None = None


@dataclass
class Running:
    """A monitor that runs.

    Attributes:
        ward: its ward.
        tokens: its tokens.
        url: where its page is.
        port: TCP port.
        udp_port: UDP port, or None.
        service: what its handlers use.
    """

    ward: Ward
    tokens: Tokens
    url: str
    port: int
    udp_port: int | None
    service: Service


class Datagrams(asyncio.DatagramProtocol):
    """Takes signed WRM1 packets over UDP. What cannot be authenticated is counted, and not answered."""

    def __init__(self, ward: Ward, tokens: tuple[str, ...]) -> None:
        self._ward, self._tokens = ward, tokens

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Take one datagram; a sender cannot be asked to wait, so the oldest work is shed if there is too much."""
        body = open_datagram(data, self._tokens)
        if body is None:
            self._ward.refused["datagram"] += 1
            return
        try:
            packet = read_binary(body)
        except DataError:
            self._ward.refused["malformed"] += 1
            return
        if not self._ward.is_open(packet) and not self._ward.has_room(packet):
            self._ward.refused["busy"] += 1
            return
        self._ward.accept(packet, "udp")


def check_address(settings: Settings) -> None:
    """Refuse to listen beyond this machine without TLS.

    Raises:
        ConfigError: the address is not of this machine alone, and there is no certificate.
    """
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and settings.certificate is None:
        raise ConfigError(f"--host {settings.host}: give --certificate and --key, or listen on 127.0.0.1 only")
    if (settings.certificate is None) != (settings.key is None):
        raise ConfigError("--certificate and --key go together")


def _build_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.certificate is None or settings.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"--certificate {settings.certificate}: it cannot be read, or does not fit --key") from None
    return context


@asynccontextmanager
async def run_service(
    settings: Settings, announce: Callable[[str], None] = lambda line: None
) -> AsyncIterator[Running]:
    """Run a monitor during the block.

    Raises:
        ConfigError: a setting is wrong.
        EngineError: an address cannot be listened on, or a worker does not start.
    """
    check_address(settings)
    context = _build_context(settings)
    tokens = load_tokens(settings.state)
    try:
        sockets = bind_sockets(settings.port, settings.host, reuse_port=False)
    except OSError as error:
        raise EngineError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}") from None
    port = int(sockets[0].getsockname()[1])
    lines = LineWriter(settings.influx, settings.state) if settings.influx is not None else None
    webhook = Webhook(settings.webhook, settings.state) if settings.webhook is not None else None
    store = Store(settings.state / "monitor.sqlite", settings.keep_hours, lines)
    ward = Ward(settings.model, settings.workers, store, settings.limits, webhook)
    server: HTTPServer | None = None
    transport: asyncio.DatagramTransport | None = None
    watcher: asyncio.Task[None] | None = None
    try:
        announce("loading the model")
        await _wait_for_workers(ward)
        hourly = None
        if settings.hourly_run is not None:
            from experiments.monitor.hourly import HourlyModel
            from experiments.monitor.hourly_ward import HourlyWard

            hourly = HourlyWard(await asyncio.to_thread(HourlyModel, settings.hourly_run), store)
        await asyncio.sleep(0)  # the workers' first answers are applied
        reference = load_reference(settings.state, ward.model_name, ward.features)
        outcomes = OutcomeLog(store, hourly)
        registry = build_registry(ward, reference, outcomes.calibration)
        service = Service(ward, tokens, registry, settings.notice, context is not None, hourly, reference, outcomes)
        server = HTTPServer(
            build_application(service), ssl_options=context, max_body_size=MAX_BODY, max_buffer_size=4 * MAX_BODY,
            idle_connection_timeout=120, body_timeout=30,
        )  # fmt: skip
        server.add_sockets(sockets)
        udp_port = None
        if settings.udp_port is not None:
            transport, udp_port = await _open_udp(settings, ward, tokens)
        watcher = asyncio.create_task(watch_choice(settings.state, ward))
        scheme = "http" if context is None else "https"
        yield Running(ward, tokens, f"{scheme}://{settings.host}:{port}/", port, udp_port, service)
    finally:
        if watcher is not None:
            watcher.cancel()
        if transport is not None:
            transport.close()
        if server is not None:
            server.stop()
            await asyncio.wait_for(server.close_all_connections(), 5)
        else:
            for item in sockets:
                item.close()
        await asyncio.to_thread(ward.close)
        await asyncio.to_thread(store.close)
        if webhook is not None:
            await asyncio.to_thread(webhook.close)


async def _open_udp(settings: Settings, ward: Ward, tokens: Tokens) -> tuple[asyncio.DatagramTransport, int]:
    loop = asyncio.get_running_loop()
    own = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
        own.bind((settings.host, settings.udp_port or 0))
        own.setblocking(False)
    except OSError as error:
        own.close()
        raise EngineError(f"cannot listen on UDP port {settings.udp_port}: {error.strerror or error}") from None
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(ward, tokens.list_tokens("device")), sock=own)
    return transport, int(own.getsockname()[1])


async def _wait_for_workers(ward: Ward) -> None:
    for worker in ward.workers:
        if not await asyncio.to_thread(worker.started.wait, START_SECONDS):
            raise EngineError(f"worker {worker.number} did not start within {START_SECONDS:g} s")
        if worker.error:
            raise ConfigError(worker.error)
