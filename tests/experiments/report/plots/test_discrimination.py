"""Curves and score histograms, against the scores that they were counted from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common.metrics.curve_points import compute_points
from experiments.report.build import build_report
from experiments.report.document.report import Report
from experiments.report.pages.html import render_html
from experiments.report.pages.sections.discrimination import draw_site_curve, list_site_curves
from experiments.report.plots import discrimination
from experiments.report.write import write_report
from tests.experiments.report.test_decision import make_event_run

SITES = {"north": (8, 14, 3, 200), "south": (4, 6, 1, 100)}


def with_points(folder: Path) -> Report:
    """Return the report of a run whose pooled results have curves, as `pool_evaluations` adds them."""
    report = build_report(make_event_run(folder, SITES))
    scores = np.zeros((2, 1024), np.int64)
    scores[1, [464, 560]], scores[0, [432, 560]] = (20, 12), (300, 4)  # log odds of -1.5, 1.5 and -2.5
    points = [point.model_dump() for point in compute_points(scores, None, 336)]
    content = json.loads(report.model_dump_json(by_alias=True))
    content["models"][0]["pooled"]["classes"]["died"]["calibration"]["points"] = points
    return Report.model_validate(content)


def test_all_four_drawings_say_what_they_show(tmp_path: Path) -> None:
    report = with_points(tmp_path)
    truth = np.repeat([1, 1, 0, 0], [12, 20, 4, 300])
    odds = np.repeat([1.5, -1.5, 1.5, -2.5], [12, 20, 4, 300])
    roc = discrimination.draw_roc(report)
    assert roc is not None
    assert f"area {roc_auc_score(truth, odds):.3f}" in roc.svg
    precision = discrimination.draw_precision_recall(report)
    assert precision is not None
    assert "9.5 of 100 examples have the class" in precision.svg
    scores = discrimination.draw_score_histograms(report)
    assert scores is not None
    assert "32 examples with the class and 304 without" in scores.svg
    assert discrimination.draw_probability_calibration(report) is not None


def test_a_report_of_an_earlier_version_has_no_curves_but_its_histograms(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, SITES))
    assert discrimination.draw_roc(report) is None
    assert discrimination.draw_precision_recall(report) is None
    assert discrimination.draw_score_histograms(report) is not None
    assert "Numbers behind the curves" not in render_html(report)


def test_the_small_curve_of_a_hospital_has_the_area_of_its_groups(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, SITES))
    [north, south] = list_site_curves(report)
    assert (north.events, north.others, south.few) == (22, 203, False)
    at = np.array([[float(number) for number in pair.split(",")] for pair in north.line.split()])
    area = np.trapezoid(100 - at[:, 1], at[:, 0]) / 1e4
    truth, odds = np.repeat([1, 1, 0, 0], [8, 14, 3, 200]), np.repeat([1.5, -1.5, 1.5, -2.5], [8, 14, 3, 200])
    assert area == pytest.approx(roc_auc_score(truth, odds), abs=1e-3)
    assert sum(bar[3] for bar in north.bars) == pytest.approx(100)
    assert draw_site_curve("empty", 1, ()).line == "0.0,100.0"


@pytest.mark.browser
@pytest.mark.slow
def test_curves_fit_on_a_narrow_page(tmp_path: Path, browser) -> None:
    page = write_report(with_points(tmp_path), tmp_path / "out")[1]
    size = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    widths = browser.execute_script(
        "return Array.from(document.querySelectorAll('#discrimination svg'), (s) => s.getBoundingClientRect().width)"
    )
    assert len(widths) == 4 + 2
    assert max(widths) <= 370
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) == 0
