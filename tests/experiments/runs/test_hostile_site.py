"""A run with a hostile hospital: the others' models and figures, and a report that says whom it lost and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import requests as work
from client.site_context import SiteContext
from common import config
from common.config import RunConfig
from common.requests import Request
from experiments.cli.run_progress import QuietPrinter
from experiments.runs import run as launch
from tests.wire import change_report


def huge_weights(reply: Any) -> Any:
    return replace(reply, weights={name: np.full_like(value, 3e38) for name, value in reply.weights.items()})


def better_figures(reply: Any) -> Any:
    figures = reply.report.evaluations["all"]
    better = figures.model_copy(update={"accuracy": figures.accuracy.model_copy(update={"value": 0.999})})
    return change_report(reply, evaluations={**reply.report.evaluations, "all": better})


def another_warning(reply: Any) -> Any:
    return change_report(reply, warning="<img src=x onerror=alert(2)>\x1b]0;owned\x07")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("handshake", another_warning, "a text of its report holds control characters"),
        ("train", huge_weights, "reach 3e+38 (at most 1e+12)"),
        ("test", better_figures, "state accuracy 0.999, their counts say"),
    ],
)
def test_a_report_is_built_whatever_one_hospital_sends(
    hospitals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    change: Callable[[Any], Any],
    reason: str,
) -> None:
    honest = work.handle

    def handle(context: SiteContext, request: Request) -> Any:
        reply = honest(context, request)
        return change(reply) if (reply.site, request.kind) == ("south", kind) else reply

    monkeypatch.setattr(work, "handle", handle)
    run: RunConfig = config.parse_config(
        {
            "name": "hostile",
            "data": {"path": str(hospitals)},
            "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
            "training": {"device": "cpu"},
            "federation": {"rounds": 2, "on_lost": "continue"},
            "evaluation": {"bootstrap": 10, "bins": 64},
            "baselines": {"local": False, "pooled": False},
        }
    )
    folder = launch.run_experiment(run, tmp_path, QuietPrinter())
    report = json.loads((folder / "report.json").read_text())
    assert report["run"]["status"] == "complete"
    outcome = json.loads((folder / "federated.json").read_text())
    assert reason in outcome["lost"]["south"]
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "<img src=x" not in text
    assert "south" in text
    figures = outcome["test"]["all"]
    assert sorted(figures) == (["north"] if kind in ("handshake", "test") else ["north", "south"])
