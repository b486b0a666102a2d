"""The monitor's figures in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from experiments.monitor.calibration import TITLES, Calibration, CalibrationSummary
from experiments.monitor.drift import Reference, compare_groups
from experiments.monitor.ward import Ward

PREFIX = "wardround_monitor"
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the delays, seconds."""


class WardCollector(Collector):
    """Reads the figures of a ward when it is asked for them. No label names a device."""

    def __init__(self, ward: Ward, reference: Reference | None = None, calibration: Calibration | None = None) -> None:
        self._ward, self._reference, self._calibration = ward, reference, calibration

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        ward = self._ward
        silent = sum(1 for row in ward.overview() if row["silent"])
        gauges = {
            "streams": ("Devices that sent in the last day.", len(ward.streams)),
            "streams_silent": ("Devices without a packet for some seconds.", silent),
            "alerts_unacknowledged": (
                "Alerts that nobody acknowledged.",
                sum(not alert.acknowledged_by for alert in ward.alerts),
            ),
            "store_queued_rows": ("Rows that wait to be written.", ward.store.queued),
            "queue_age_seconds": ("Age of the oldest work.", max(worker.age for worker in ward.workers)),
        }
        if ward.store.lines is not None:
            gauges["influxdb_queued_lines"] = ("Lines for InfluxDB in memory.", ward.store.lines.queued)
            gauges["influxdb_spool_bytes"] = ("Lines for InfluxDB on disk.", ward.store.lines.spooled_bytes)
        if ward.webhook is not None:
            gauges["webhook_waiting"] = ("Events that wait for the webhook's receiver.", ward.webhook.waiting)
        for name, (title, value) in gauges.items():
            yield GaugeMetricFamily(f"{PREFIX}_{name}", title, value=value)
        losses = [stream.sequencer.losses for stream in ward.streams.values()]
        counters = {
            "samples_lost": ("Samples that never came.", sum(item.lost for item in losses)),
            "samples_double": ("Samples that came again.", sum(item.double for item in losses)),
            "packets_late": ("Packets that came after their gap was closed.", sum(item.late for item in losses)),
            "samples_shed": ("Samples shed under load.", sum(worker.load.shed for worker in ward.workers)),
            "worker_restarts": ("Workers that were started again.", sum(w.load.restarts for w in ward.workers)),
            "beats_scored": ("Beats that were scored.", sum(worker.load.scored for worker in ward.workers)),
            "busy_seconds": ("Seconds of work of all workers.", sum(worker.load.busy for worker in ward.workers)),
            "store_failures": ("Writes to the store that failed.", ward.store.failures),
            "journal_failures": ("Rows that wait in memory alone.", ward.store.journal.failures),
        }
        if ward.store.lines is not None:
            lines = ward.store.lines
            counters["influxdb_written"] = ("Lines that InfluxDB took.", lines.written)
            counters["influxdb_failures"] = ("Requests to InfluxDB that failed.", lines.failures)
            counters["influxdb_rejected"] = ("Lines that InfluxDB refused for good.", lines.rejected)
        if ward.webhook is not None:
            events = ward.webhook.counts
            counters["webhook_delivered"] = ("Events that the receiver took.", events.delivered)
            counters["webhook_failures"] = ("Tries to deliver an event that failed.", events.failures)
            counters["webhook_given_up"] = ("Events that were not delivered.", events.given_up)
        for name, (title, value) in counters.items():
            yield CounterMetricFamily(f"{PREFIX}_{name}", title, value=value)
        for name, title, counts in (
            ("packets", "Packets by transport.", ward.packets),
            ("refused", "Requests refused, by reason.", ward.refused),
        ):
            family = CounterMetricFamily(f"{PREFIX}_{name}", title, labels=["kind"])
            for kind, count in counts.items():
                family.add_metric([kind], count)
            yield family
        if self._reference is not None:
            yield from self._collect_drift(self._reference)
        if self._calibration is not None:
            yield from collect_calibration(self._calibration)

    def _collect_drift(self, reference: Reference) -> Iterator[Metric]:
        now = self._ward.patients_now()
        patients = now.patients if now is not None else 0
        yield GaugeMetricFamily(f"{PREFIX}_drift_patients", "Patients that drift is judged on.", value=patients)
        index = GaugeMetricFamily(f"{PREFIX}_drift_psi", "PSI of a column against training.", labels=["column"])
        low, high = (
            GaugeMetricFamily(f"{PREFIX}_drift_psi_{end}", f"{title} end of its 95% interval.", labels=["column"])
            for end, title in (("low", "Lower"), ("high", "Upper"))
        )
        limit = GaugeMetricFamily(f"{PREFIX}_drift_psi_limit", "Its 95% point if nothing has changed.")
        for row in compare_groups(reference, now):
            index.add_metric([row.name], row.psi)
            if np.isfinite(row.low):
                low.add_metric([row.name], row.low)
                high.add_metric([row.name], row.high)
            limit.samples = []
            limit.add_metric([], row.null_limit)
        yield from (index, low, high)
        yield limit


def collect_calibration(calibration: Calibration) -> Iterator[Metric]:
    """Yield what is known of outcomes, by kind of prediction."""
    known = [own for kind in TITLES if (own := calibration.summarise(kind)) is not None]
    figures: tuple[tuple[str, str, Callable[[CalibrationSummary], float]], ...] = (
        ("patients", "Patients with outcomes.", lambda own: own.patients),
        ("outcomes", "Outcomes that were reported.", lambda own: own.outcomes),
        ("ratio", "Observed events for each expected one.", lambda own: own.ratio),
        ("ratio_low", "Lower end of its 95% interval over patients.", lambda own: own.low),
        ("ratio_high", "Upper end of its 95% interval over patients.", lambda own: own.high),
    )
    for name, title, value in figures:
        family = GaugeMetricFamily(f"{PREFIX}_calibration_{name}", title, labels=["kind"])
        for own in known:
            family.add_metric([own.kind], value(own))
        yield family


def build_registry(
    ward: Ward, reference: Reference | None = None, calibration: Calibration | None = None
) -> CollectorRegistry:
    """Return the registry of a ward's metrics; its histogram of delays is filled from now on."""
    registry = CollectorRegistry()
    registry.register(WardCollector(ward, reference, calibration))
    ProcessCollector(registry=registry)
    title = "Seconds from the arrival of the last sample a beat needs to its score."
    histogram = Histogram(f"{PREFIX}_delay_seconds", title, buckets=BUCKETS, registry=registry)
    ward.on_delay = histogram.observe
    return registry


def render_metrics(registry: CollectorRegistry) -> bytes:
    """Return all metrics as text."""
    return bytes(generate_latest(registry))
