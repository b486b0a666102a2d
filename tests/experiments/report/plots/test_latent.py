"""The report of an autoencoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import Site
from experiments.engines import local
from experiments.report.build import build_report
from experiments.report.document.report import Report, from_json, to_json
from experiments.report.pages.sections import draw_plots
from experiments.report.plots import latent
from experiments.report.text import findings
from sites.anomaly_task import to_anomaly_task
from tests import tiny
from tests.experiments.report.plain_page import render_plain


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Report:
    raw = {"model": {"name": "autoencoder", "options": {"widths": [4], "latent": 2}}, "federation__workers": 1}
    config = tiny.run_config(**(raw | more))
    sites = []
    for i in range(3):
        whole = tiny.cohort(i, people=6, each=20)
        split = np.asarray((0, 0, 0, 1, 2, 2), np.int8)[whole.patient]
        sites.append(Site.from_cohort(f"site-{i}", to_anomaly_task(whole.with_split(split), config), synthetic=True))
    monkeypatch.setattr("client.site.read_site", lambda site_context, config: sites[site_context.index])
    local.run_local(config, folder, 3)
    (folder / "run.json").write_text(json.dumps({"config": config.model_dump(mode="json"), "status": "complete"}))
    return build_report(folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        return run(tmp_path_factory.mktemp("run"), patch, detection__score="both", evaluation__false_alarms=0.1)


def test_the_report_keeps_classes_and_views(report: Report) -> None:
    assert report.detecting
    assert report.federated is not None
    assert set(report.federated.against) == {"V", "F"}
    assert set(report.views) == {"site-0", "site-1", "site-2"}
    assert from_json(to_json(report)) == report
    pooled = report.federated.pooled
    assert pooled is not None
    assert pooled.brier is None
    merged = latent.merge_views(report)["all hospitals"]
    counted = sum(sum(cells.values()) for name, cells in merged.counts.items() if name == "normal")
    assert counted == next(iter(pooled.classes.values())).examples


def test_the_page_says_what_is_normal_and_what_the_score_is(report: Report) -> None:
    page = render_plain(report)
    assert 'id="detection"' in page
    assert "was trained on the normal training examples" in page
    assert "reconstruction error and distance in latent space" in page
    assert "10% false alarms on the normal examples of the validation patients of all hospitals" in page
    assert "Against V" in page
    summary = " ".join(findings.summarise_findings(report))
    assert "anomaly score is at least" in summary
    assert "chosen for 10% false alarms" in summary
    assert "predicted probability" not in summary
    assert "the best by reconstruction error on the normal examples of validation patients" in summary


def test_the_drawings_state_their_numbers(report: Report) -> None:
    drawn = draw_plots(report)
    assert {"latent", "overlays"} <= set(drawn)
    assert drawn["latent"].svg.count("site-") >= 3
    errors = [item.error for _, item in latent.select_examples(report)]
    assert len(errors) == 6
    assert errors[:3] == sorted(errors[:3])
    assert f"{errors[2]:.3g}" in drawn["overlays"].svg


def test_a_classifier_s_report_has_no_such_part(report: Report) -> None:
    plain = report.model_copy(update={"task": {**report.task, "anomaly": False}, "views": {}})
    assert 'id="detection"' not in render_plain(plain)
    assert latent.draw_latent_space(plain) is latent.draw_reconstructions(plain) is None
