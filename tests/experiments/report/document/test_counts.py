"""What the report says of the counts that results come from: exact, suppressed, or with noise and their epsilon."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from common.metrics.figures import EvaluationNoise
from common.metrics.noisy_counts import NoisyCounts
from common.metrics.noisy_evaluation import build_noisy_evaluation, draw_noisy_counts
from experiments.report.build import build_report
from experiments.report.document import report as model
from experiments.report.pages import tables
from experiments.report.pages.markdown import render_summary
from experiments.report.pages.model_card import render_model_card
from tests.experiments.conftest import TASK
from tests.experiments.report.plain_page import render_plain

SPENT = {"level": "patient", "unit": "person", "units": 40, "epsilon_run": 1.5, "epsilon": 4.25, "delta": 1e-5,
         "q": 1.0, "sigma": 2.625, "clip": 1.0, "steps": 1, "accountant": "prv", "private": True, "noise_at": None,
         "statistics": None}  # fmt: skip


def _evaluate(people: int) -> dict[str, Any]:
    counts = NoisyCounts(np.diag([people, people, people]) + 0.3, np.full((3, 2, 16), people / 8), 1.5, 1.5)
    drawn = draw_noisy_counts(counts, TASK, None, 50, np.random.default_rng(0))
    noise = EvaluationNoise(epsilon=1.5, delta=1e-5)
    return build_noisy_evaluation(TASK, counts, drawn, noise).model_dump()


def count_with_noise(folder: Path, **changes: Any) -> Path:
    """Let the hospitals of a run have evaluated privately; south spent most."""
    outcome = json.loads((folder / "federated.json").read_text())
    charges = {"north": {**SPENT, **changes}, "south": {**SPENT, "epsilon_run": 2.25, **changes}}
    outcome["evaluation_privacy"] = {
        "test": charges,
        "validation": {"north": {**SPENT, "epsilon_run": 0.75, **changes}},
    }
    for name in ("test", "pooled"):
        outcome[name].pop("without patient 7", None)
    outcome["test"]["all"] = {site: _evaluate(20) for site in outcome["test"]["all"]}
    outcome["pooled"]["all"] = _evaluate(60)
    (folder / "federated.json").write_text(json.dumps(outcome))
    about = json.loads((folder / "run.json").read_text())
    about["config"]["privacy"] = {"evaluation_epsilon": 2.5}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def suppress(folder: Path, minimum: int) -> Path:
    outcome = json.loads((folder / "federated.json").read_text())
    outcome["sites"]["north"]["min_cell_patients"] = minimum
    (folder / "federated.json").write_text(json.dumps(outcome))
    return folder


def forms(report: model.Report) -> dict[str, str]:
    screen = Console(width=300, record=True, file=io.StringIO())
    screen.print(tables.render_terminal_summary(report))
    return {
        "page": render_plain(report),
        "terminal": screen.export_text(),
        "summary": render_summary(report, {}),
        "card": render_model_card(report),
    }


def csv_counts(report: model.Report) -> dict[tuple[str, str], set[str]]:
    result: dict[tuple[str, str], set[str]] = {}
    for line in csv.DictReader(io.StringIO(tables.render_csv(report))):
        result.setdefault((line["model"], line["site"]), set()).add(line["counts"])
    return result


def test_noisy_counts_are_named_with_their_epsilon_in_every_form(make_run: Any) -> None:
    report = build_report(count_with_noise(make_run()))
    assert [(item.site, item.split) for item in report.evaluation_privacy] == [
        ("north", "test"), ("south", "test"), ("north", "validation"),
    ]  # fmt: skip
    assert model.from_json(model.to_json(report)) == report
    for name, text in forms(report).items():
        for part in ("an epsilon of at most 2.25 at delta 1e-05 (south)", "in this run, 4.25 in all runs", "WARNING"):
            assert part in text.replace("&#39;", "'"), name
    page = forms(report)["page"]
    assert "noisy, epsilon 2.25" in page
    assert "2.625" in page
    assert "Training was not differentially private" in page
    assert "not computed from counts with noise" in page or "Losses and calibration are not computed" in page
    counts = csv_counts(report)
    assert counts["federated", "north"] == counts["federated", "(pooled)"] == {"noisy: epsilon 1.5, delta 1e-05"}
    assert counts["pooled", "north"] == {"exact"}  # a baseline, tested where one person holds all data


def test_exact_and_suppressed_counts_are_named_too(make_run: Any) -> None:
    folder = make_run()
    report = build_report(folder)
    assert report.evaluation_privacy == ()
    for text in forms(report).values():
        assert "Counts of test patients are exact." in text
    assert set.union(*csv_counts(report).values()) == {"exact"}
    report = build_report(suppress(folder, 7))
    for text in forms(report).values():
        assert "coarsened at the hospitals, and those of fewer than 7 patients suppressed" in text
    counts = csv_counts(report)
    assert counts["federated", "north"] == counts["federated", "(pooled)"] == {"suppressed below 7 patients"}
    assert counts["federated", "south"] == counts["pooled", "north"] == {"exact"}


def test_noise_that_can_be_repeated_is_called_not_private(make_run: Any) -> None:
    report = build_report(count_with_noise(make_run(), private=False))
    assert report.has("not-private")
    for text in forms(report).values():
        assert "NOT PRIVATE" in text
    with pytest.raises(ValueError, match="not-private"):
        model.Report.model_validate({**report.model_dump(), "notices": ()})
