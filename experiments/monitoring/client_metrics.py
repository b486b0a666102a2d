"""Metrics of a hospital's client, read from its audit log, privacy ledger, approvals and certificates."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from client.gate.approvals import get_approval_file
from client.gate.audit_entry import AuditEntry
from client.gate.audit_log import get_audit_path
from client.policy import load_policy
from client.privacy.ledger import get_ledger_path, list_charges
from common.errors import WardroundError
from experiments.monitoring.client_files import ClientFiles
from experiments.monitoring.endpoint import PREFIX, build_certificate_metric, build_release_metric
from experiments.monitoring.log_followers import AuditFollower

DECISIONS = ("admitted", "refused", "unreadable")
OUTCOMES = ("released", "withheld", "failed")


class ClientMetrics(Collector):
    """Collects a client's metrics when they are asked for.

    Args:
        files: what they are read from.
        is_connected: returns whether the node is connected now; None: there is no node.
        read_server_days: returns the days that the server's certificate is still valid; None: not known.
    """

    def __init__(
        self,
        files: ClientFiles,
        is_connected: Callable[[], bool] | None = None,
        read_server_days: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._files, self._is_connected, self._read_server_days = files, is_connected, read_server_days
        self._log = None if files.runs is None else AuditFollower(get_audit_path(files.runs, files.site))
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._replies: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._runs: set[str] = set()

    def _count(self, entry: AuditEntry) -> None:
        kind = entry.kind or "unknown"
        # a refusal that follows an admission is the outcome of work that was begun, such as a spent budget
        if entry.event in DECISIONS and not entry.answers:
            self._requests[kind, entry.event] += 1
        elif entry.event in (*OUTCOMES, "refused"):
            self._replies[kind, entry.event] += 1
            self._bytes[kind] += entry.size
            self._seconds[kind] = self._seconds.get(kind, 0.0) + entry.seconds
        if entry.run:
            self._runs.add(entry.run)

    def describe(self) -> list[Metric]:
        """Return nothing: the registry need not collect in order to know the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        if self._log is not None:
            with self._lock:
                restarted, entries = self._log.read_new()
                if restarted:
                    self._reset()
                for entry in entries:
                    self._count(entry)
                yield from self._build_counters(self._log.intact)
        if self._files.runs is not None:
            yield from self._build_gauges(self._files.runs)
        if self._is_connected is not None:
            connected = float(self._is_connected())
            yield GaugeMetricFamily(
                f"{PREFIX}_connected", "Whether the node is connected to the server.", value=connected
            )
        if self._files.ca is not None:
            yield build_certificate_metric([("authority", str(self._files.ca))], self._read_server_days())
        yield build_release_metric()

    def _build_counters(self, intact: bool) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{PREFIX}_requests", "Requests by kind and what was decided on them.", labels=["kind", "decision"]
        )
        for (kind, decision), count in sorted(self._requests.items()):
            requests.add_metric([kind, decision], count)
        replies = CounterMetricFamily(
            f"{PREFIX}_replies", "Admitted requests by kind and what became of them.", labels=["kind", "outcome"]
        )
        for (kind, outcome), count in sorted(self._replies.items()):
            replies.add_metric([kind, outcome], count)
        size = CounterMetricFamily(f"{PREFIX}_sent_bytes", "Bytes of replies that left, by kind.", labels=["kind"])
        seconds = SummaryMetricFamily(f"{PREFIX}_request_seconds", "Seconds of work on a request.", labels=["kind"])
        for kind in sorted(self._bytes):
            size.add_metric([kind], self._bytes[kind])
            count = sum(number for (name, _), number in self._replies.items() if name == kind)
            seconds.add_metric([kind], count_value=count, sum_value=self._seconds[kind])
        yield from (requests, replies, size, seconds)
        rounds = self._replies["train", "released"]
        yield CounterMetricFamily(f"{PREFIX}_rounds", "Rounds whose update left this hospital.", value=rounds)
        yield GaugeMetricFamily(f"{PREFIX}_runs", "Runs that asked so far.", value=len(self._runs))
        yield GaugeMetricFamily(
            f"{PREFIX}_audit_log_intact", "Whether each line of the audit log follows the one before.",
            value=float(intact),
        )  # fmt: skip

    def _build_gauges(self, runs: Path) -> Iterator[Metric]:
        site = self._files.site
        with suppress(WardroundError):
            rows = list_charges(get_ledger_path(runs, site))
            spent = rows[-1].epsilon if rows else 0.0
            yield GaugeMetricFamily(f"{PREFIX}_epsilon_spent", "Epsilon of all private runs together.", value=spent)
        with suppress(WardroundError):
            limit = load_policy(self._files.policy).epsilon_limit
            value = float("inf") if limit is None else limit
            yield GaugeMetricFamily(f"{PREFIX}_epsilon_limit", "Epsilon that the policy allows in all.", value=value)
        with suppress(WardroundError):
            known = get_approval_file(runs, site).read().values()
            waiting = sum(approval.status == "pending" for approval in known)
            yield GaugeMetricFamily(f"{PREFIX}_pending_approvals", "Runs that wait for approval.", value=waiting)
