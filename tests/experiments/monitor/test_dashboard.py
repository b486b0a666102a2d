"""The Grafana dashboard asks for metrics that the monitor has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tornado")

from collections import Counter

from common.distance import HISTOGRAM_BINS
from experiments.monitor.drift import OWN_COLUMNS, GroupShares, Reference
from experiments.monitor.metrics import build_registry, render_metrics
from experiments.monitor.webhook import WebhookCounts

DASHBOARD = Path(__file__).resolve().parents[3] / "deploy" / "grafana" / "ward_monitor.json"


def make_ward() -> Any:
    lines = SimpleNamespace(queued=0, spooled_bytes=0, written=0, failures=0, rejected=0)
    store = SimpleNamespace(queued=0, failures=0, lines=lines, journal=SimpleNamespace(failures=0))
    group = GroupShares(np.ones((2, HISTOGRAM_BINS + 1)), 6)
    load = SimpleNamespace(shed=0, restarts=0, scored=0, busy=0.0)
    return SimpleNamespace(
        overview=list, streams={}, alerts=[], workers=[SimpleNamespace(age=0.0, load=load)],
        store=store, webhook=SimpleNamespace(waiting=0, counts=WebhookCounts()), packets=Counter(http=1),
        refused=Counter(busy=1), patients_now=lambda: group,
    )  # fmt: skip


def test_every_metric_of_the_dashboard_exists() -> None:
    ward = make_ward()
    registry = build_registry(ward, Reference("r", OWN_COLUMNS, ward.patients_now()))
    offered = {
        line.split("{")[0].split(" ")[0] for line in render_metrics(registry).decode().splitlines() if line[0] != "#"
    }
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    wanted = {
        name
        for panel in panels
        for item in panel["targets"]
        for name in re.findall(r"wardround_monitor_\w+", item["expr"])
    }
    assert len(wanted) > 15
    assert wanted - offered == set()
