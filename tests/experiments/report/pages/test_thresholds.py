"""The view of other thresholds, against decisions counted from the scores themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.report.build import build_report
from experiments.report.pages.html import render_html
from experiments.report.pages.sections.thresholds import build_thresholds, list_steps
from experiments.report.write import write_report
from tests.experiments.report.test_decision import make_event_run

SITES = {"north": (8, 14, 3, 200), "south": (4, 6, 1, 100)}


def test_each_step_counts_the_patients_whose_score_is_at_least_that(tmp_path: Path) -> None:
    steps = list_steps(build_report(make_event_run(tmp_path, SITES)))
    scores = {1: np.repeat([1.5, -1.5], [12, 20]), 0: np.repeat([1.5, -2.5], [4, 300])}
    for step in steps:
        assert step.pooled.hits == (scores[1] >= step.log_odds).sum()
        assert step.pooled.wrong == (scores[0] >= step.log_odds).sum()
        assert (step.pooled.events, step.pooled.total) == (32, 336)
        odds = math.exp(step.log_odds)
        expected = 100 * (step.pooled.hits - odds * step.pooled.wrong) / 336
        assert step.pooled.benefit == pytest.approx(expected)
        assert step.pooled.hits == sum(decision.hits for decision in step.sites.values())
    assert [step.label for step in steps if step.used] == ["50%"]


def test_the_threshold_in_use_is_a_step_of_its_own(tmp_path: Path) -> None:
    folder = make_event_run(tmp_path, SITES)
    content = json.loads((folder / "federated.json").read_text(encoding="utf-8"))
    (folder / "federated.json").write_text(json.dumps({**content, "threshold": -0.7}), encoding="utf-8")
    steps = list_steps(build_report(folder))
    assert [step.log_odds for step in steps if step.used] == [-0.7]
    assert [step.log_odds for step in steps] == sorted(step.log_odds for step in steps)


def test_the_page_counts_at_the_threshold_in_use_without_its_script(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, SITES))
    counts = json.loads(build_thresholds(report)["counts"])
    assert counts["pooled"]["hits"][counts["used"]] == 12
    part = render_html(report).split('id="thresholds"')[1].split("</section>")[0]
    assert 'data-value="16">16<span class="interval">4.8 of 100</span>' in part


def test_a_run_without_groups_of_scores_has_no_such_section(make_run) -> None:
    assert 'id="thresholds"' not in render_html(build_report(make_run()))


@pytest.mark.browser
@pytest.mark.slow
def test_the_threshold_moves_with_the_keyboard(tmp_path: Path, browser) -> None:
    report = build_report(make_event_run(tmp_path, SITES))
    browser.get(write_report(report, tmp_path / "out")[1].as_uri())
    cells = lambda: [  # noqa: E731
        float(cell.get_attribute("data-value"))
        for cell in browser.find_elements("css selector", "table.decisions tfoot td")
    ]
    assert cells()[:4] == [16, 12, 4, 20]
    slider = browser.find_element("css selector", "#threshold")
    slider.send_keys("\ue012" * 2)  # left: from 50% to 12%
    assert cells()[:4] == [36, 32, 4, 0]
    steps = {step.label: step for step in list_steps(report)}
    label = browser.find_element("css selector", "#threshold-value").text
    assert cells()[4] == pytest.approx(steps[label].pooled.benefit)
    assert slider.get_attribute("aria-valuetext") == f"{label}: 0 of 32 missed, 4 flagged wrongly"
    assert browser.get_log("browser") == []
