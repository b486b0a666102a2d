"""Serving metrics over HTTP, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from client.supernode import split_address
from common.certificates import days_left, read_certificates
from common.errors import ConfigError, EngineError
from common.processes import require_free_port
from common.release import identify_release

PREFIX = "wardround"


@contextmanager
def serve_metrics(address: str, collector: Collector) -> Iterator[None]:
    """Serve a collector's metrics, and those of this process, at HOST:PORT until the block ends.

    Raises:
        ConfigError: the address is malformed.
        EngineError: it cannot be listened on.
    """
    host, port = split_address(address)
    require_free_port(host, port)
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise EngineError(f"cannot serve metrics on {address}: {error.strerror or error}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def build_release_metric() -> Metric:
    """Return a metric whose label names the release that runs."""
    return InfoMetricFamily(f"{PREFIX}_release", "The release that runs.", value={"release": identify_release()})


def build_certificate_metric(files: Sequence[tuple[str, str]], from_server: float | None = None) -> Metric:
    """Return a metric of the days until each certificate expires.

    Args:
        files: name and path of each; one that cannot be read is left out.
        from_server: days until the certificate that the server presents expires; None: not known.
    """
    metric = GaugeMetricFamily(f"{PREFIX}_certificate_days", "Days until a certificate ends.", labels=["certificate"])
    for name, path in files:
        try:
            metric.add_metric([name], days_left(read_certificates(Path(path))[0]))
        except ConfigError:
            continue
    if from_server is not None:
        metric.add_metric(["server"], from_server)
    return metric
