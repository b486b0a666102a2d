"""What `wardround server` and `wardround client` have in common: logs, metrics, signals, and signs of life."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from client.node import Node
    from common.service_manager import ServiceState
    from experiments.monitoring.client_files import ClientFiles
    from server.superlink import SuperLink

HEALTH_SECONDS = 60.0
"""Seconds without an answer of the server's process after which the server gives no sign of life."""
LOOK_SECONDS = 10.0
"""Seconds between two questions whether the server's process answers."""
BEAT_SECONDS = 1.0
"""Seconds between two looks whether a sign of life is due, in `beat_in_background`."""
CERTIFICATE_SECONDS = 24 * 3600.0
"""Seconds between two looks at certificates that end soon."""
log = logging.getLogger("wardround")


@contextmanager
def run_as_service(
    state: Path, log_file: Path, address: str, site: str, metrics: str, stopped: str
) -> Iterator[ServiceState]:
    """Return a context manager that sets up logging, signals and the service file of a server or client for its block.

    Wardround's own log lines go into the log file, and other commands find the service through its state folder.
    SIGTERM and Ctrl-C end the service. SIGHUP ends it only if it has a terminal; without one, SIGHUP only logs that log
    files need no reopening. When the block ends, the service manager learns that the service stops.

    Args:
        state: the state folder.
        log_file: the file for log lines.
        address: where the server listens, or which server the client uses.
        site: the hospital of a client; empty for a server.
        metrics: where metrics are served; empty: nowhere.
        stopped: what being stopped means, as the line that ends the command says it.

    Yields:
        the state that the service reports to its service manager (systemd).

    Raises:
        StoppedError: Ctrl-C, SIGTERM, or SIGHUP of a terminal.
    """
    from common.errors import StoppedError
    from common.log_files import LogFileHandler
    from common.log_format import quiet_libraries
    from common.processes import interrupt_on_signals
    from common.service_file import ServiceInfo, announce_service
    from common.service_manager import ServiceState

    root, handler = logging.getLogger(), LogFileHandler(log_file)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    quiet_libraries()
    service = ServiceState()
    try:
        with (
            interrupt_on_signals(None if sys.stdin.isatty() else _note_hangup),
            announce_service(state, ServiceInfo(address, site, metrics)),
        ):
            yield service
    except KeyboardInterrupt:
        raise StoppedError(f"stopped; {stopped}") from None
    finally:
        service.report_stopping()
        root.removeHandler(handler)
        root.setLevel(level)


def _note_hangup() -> None:
    log.info("SIGHUP: each line of a log opens its file anew, so nothing has to be reopened")


def say(line: str) -> None:
    """Print a line at once, and log it."""
    typer.echo(line)
    sys.stdout.flush()
    log.info("%s", line)


@contextmanager
def offer_metrics(address: str, build: Callable[[ExitStack], Collector]) -> Iterator[None]:
    """Serve metrics during the block, if an address is given.

    Args:
        address: HOST:PORT; empty: no metrics.
        build: returns the collector; it may enter resources into the stack, which are closed after the block.
    """
    if not address:
        yield
        return
    from experiments.monitoring.endpoint import serve_metrics

    with ExitStack() as exits:
        exits.enter_context(serve_metrics(address, build(exits)))
        say(f"metrics on http://{address}/metrics")
        yield


class CertificateWatch:
    """Warns once a day about certificates that expire soon.

    Args:
        files: the certificates' files.
    """

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._next = 0.0

    def check(self) -> None:
        """Print a warning for each certificate that expires soon, at most once a day."""
        from common.certificates import describe_expiry, read_certificates
        from common.errors import ConfigError

        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + CERTIFICATE_SECONDS
        for file in self._files:
            try:
                warning = describe_expiry(file, read_certificates(file)[0])
            except ConfigError as error:
                warning = str(error)
            if warning:
                say(f"WARNING: {warning}")


def serve_until_stopped(link: SuperLink, service: ServiceState, watch: CertificateWatch) -> None:
    """Watch a server's process until this one is stopped.

    Raises:
        EngineError: the process ended by itself.
    """
    from common.errors import EngineError

    service.report_ready(f"serving on {link.connection.address}")
    healthy, next_look = time.monotonic(), 0.0
    while link.poll() is None:
        if time.monotonic() >= next_look:
            healthy = time.monotonic() if link.is_healthy() else healthy
            next_look = time.monotonic() + LOOK_SECONDS
        if time.monotonic() - healthy < HEALTH_SECONDS:
            service.beat()
        watch.check()
        time.sleep(0.5)
    raise EngineError(f"the server process ended unexpectedly; see {link.log}")


@contextmanager
def beat_in_background(service: ServiceState) -> Iterator[None]:
    """Give signs of life from a thread while the block runs, whose main thread may work or wait for long."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            service.beat()

    thread = threading.Thread(target=beat, daemon=True, name="sign of life to the service manager")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def attach_service(node: Node, service: ServiceState, watch: CertificateWatch) -> None:
    """Let a node report to the service manager: that it is connected, and that it does not hang."""
    last = [0]

    def beat() -> None:
        if node.number != last[0]:
            last[0] = node.number
            service.report_ready(f"connected as node {node.number}" if node.number else "not connected")
        service.beat()
        watch.check()

    node.beat = beat


def build_client_metrics(exits: ExitStack, files: ClientFiles, node: Node | None) -> Collector:
    """Return the metrics of a client, or of a worker, which has no node."""
    from client.supernode import split_address
    from common.certificates import days_left, fetch_certificate
    from experiments.monitoring.client_metrics import ClientMetrics
    from experiments.monitoring.polling import PolledValue

    if node is None:
        return ClientMetrics(files)
    (host, port), ca = split_address(node.settings.superlink), node.settings.ca
    absent: float | None = None
    days = PolledValue(lambda: days_left(fetch_certificate(host, port, ca)), absent)
    exits.enter_context(days.keep_updated(600.0))
    return ClientMetrics(files, lambda: node.number != 0, days.get)


def build_server_metrics(exits: ExitStack, link: SuperLink) -> Collector:
    """Return the metrics of a server."""
    from experiments.monitoring.polling import PolledValue
    from experiments.monitoring.server_metrics import ServerMetrics

    no_sites: dict[str, str] = {}
    no_traffic: dict[str, tuple[int, int]] = {}
    sites = PolledValue(link.connection.nodes, no_sites)
    traffic = PolledValue(link.connection.control.read_traffic_by_run, no_traffic)
    exits.enter_context(sites.keep_updated())
    exits.enter_context(traffic.keep_updated())
    return ServerMetrics(link.state, sites.get, traffic.get)
