"""Metrics of a coordinator's server, read from the events of its runs and from the server itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from common.run_folder import RunFolder
from experiments.monitoring.endpoint import PREFIX, build_certificate_metric, build_release_metric
from experiments.monitoring.log_followers import LineFollower, parse_events
from server.credentials import Credentials
from server.run_list import read_runs

MAX_RUNS = 200
"""Runs whose events are read; of older ones only the number counts."""


class RunFollower:
    """Counts the events of one run.

    Args:
        folder: the run's folder.

    Attributes:
        status: running, or how it ended.
        rounds: rounds that are over.
        seconds: seconds of all rounds together.
        replies: usable and other replies by site, phase and whether they could be used.
        losses: rounds that each site missed.
        epsilons: epsilon of the run that each site has charged.
    """

    def __init__(self, folder: Path) -> None:
        self._events = LineFollower(RunFolder(folder).events)
        self.status = "running"
        self.rounds = 0
        self.seconds = 0.0
        self.replies: Counter[tuple[str, str, bool]] = Counter()
        self.losses: Counter[str] = Counter()
        self.epsilons: dict[str, float] = {}

    def update(self) -> None:
        """Count what has happened since the last call."""
        restarted, lines = self._events.read_new()
        if restarted:
            self.rounds, self.seconds = 0, 0.0
            self.replies.clear()
            self.losses.clear()
        for event in parse_events(lines):
            self._count(event)

    def _count(self, event: Mapping[str, Any]) -> None:
        name = event.get("event")
        if name == "reply":
            self.replies[str(event.get("site")), str(event.get("phase")), bool(event.get("ok"))] += 1
        elif name == "round":
            self.rounds += 1
            self.seconds += float(event.get("seconds") or 0.0)
            self.losses.update(list(event.get("lost") or {}))
            for site, parts in (event.get("sites") or {}).items():
                spent = ((parts.get("train") or {}).get("privacy") or {}).get("epsilon_run")
                if spent is not None:
                    self.epsilons[site] = float(spent)
        elif name == "done":
            self.status = str(event.get("status"))
        else:
            self.status = "running"  # a run that goes on after a break


class ServerMetrics(Collector):
    """Collects a server's metrics when they are asked for.

    Args:
        state: the server's state folder.
        read_sites: returns each registered site's status, as the server says; {} while it does not answer.
        read_traffic: returns the bytes sent and received by a run, by the server's number of it.
    """

    def __init__(
        self,
        state: Path,
        read_sites: Callable[[], Mapping[str, str]],
        read_traffic: Callable[[], Mapping[str, tuple[int, int]]] = lambda: {},
    ) -> None:
        self._state, self._read_sites, self._read_traffic = state, read_sites, read_traffic
        self._runs: dict[str, RunFollower] = {}  # by run folder: a run that is resumed starts twice
        self._lock = threading.Lock()

    def describe(self) -> list[Metric]:
        """Return nothing: the registry need not collect in order to know the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        with self._lock:
            starts = read_runs(self._state)
            for start in starts[-MAX_RUNS:]:
                follower = self._runs.pop(start.folder, None) or RunFollower(Path(start.folder))
                follower.update()
                self._runs[start.folder] = follower  # the last start is last
            yield from self._build_counters(len(starts))
        sites = GaugeMetricFamily(
            f"{PREFIX}_server_site_online", "Whether a registered site is online.", labels=["site"]
        )
        for site, status in sorted(self._read_sites().items()):
            sites.add_metric([site], float(status == "online"))
        yield sites
        credentials = Credentials.in_folder(self._state)
        yield build_certificate_metric([("server", str(credentials.certificate)), ("authority", str(credentials.ca))])
        yield build_release_metric()

    def _build_counters(self, started: int) -> Iterator[Metric]:
        followers = list(self._runs.values())
        yield CounterMetricFamily(f"{PREFIX}_server_runs_started", "Runs that were started.", value=started)
        runs = GaugeMetricFamily(f"{PREFIX}_server_runs", "Runs by what became of them.", labels=["status"])
        for status, count in sorted(Counter(follower.status for follower in followers).items()):
            runs.add_metric([status], count)
        yield runs
        rounds, seconds = sum(each.rounds for each in followers), sum(each.seconds for each in followers)
        yield CounterMetricFamily(f"{PREFIX}_server_rounds", "Rounds that are over.", value=rounds)
        yield SummaryMetricFamily(
            f"{PREFIX}_server_round_seconds", "Seconds of a round.", count_value=rounds, sum_value=seconds
        )
        replies = CounterMetricFamily(
            f"{PREFIX}_server_replies", "Replies by site, phase and whether they could be used.",
            labels=["site", "phase", "usable"],
        )  # fmt: skip
        for (site, phase, usable), count in sorted(sum((each.replies for each in followers), Counter()).items()):
            replies.add_metric([site, phase, str(usable).lower()], count)
        yield replies
        lost = CounterMetricFamily(f"{PREFIX}_server_lost_rounds", "Rounds that a site missed.", labels=["site"])
        for site, count in sorted(sum((each.losses for each in followers), Counter()).items()):
            lost.add_metric([site], count)
        yield lost
        spent = GaugeMetricFamily(
            f"{PREFIX}_server_run_epsilon", "Epsilon that a site has charged in its last private run.", labels=["site"]
        )
        latest: dict[str, float] = {}
        for follower in followers:
            latest |= follower.epsilons
        for site, epsilon in sorted(latest.items()):
            spent.add_metric([site], epsilon)
        yield spent
        traffic = self._read_traffic()
        for index, direction in enumerate(("sent", "received")):
            total = sum(each[index] for each in traffic.values())
            text = f"Bytes {direction} by the server in its runs."
            yield CounterMetricFamily(f"{PREFIX}_server_{direction}_bytes", text, value=total)
