"""Signed differences between groups, against subtraction by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.metrics.paired_resamples import POOLED
from experiments.report import reference_gaps
from experiments.report.build import build_report
from experiments.report.pages.html import render_html
from experiments.report.reference_gaps import compare_with_reference, describe_reference_gaps
from tests.experiments.report.test_decision import make_event_run

SITES = {"north": (20, 5, 3, 40), "south": (10, 10, 3, 40)}
GROUPS = {
    "sex=female": (7, 8, 1, 30),
    "sex=male": (95, 21, 9, 60),
    "age=under 40": (1, 2, 0, 1),
    "age=over": (9, 1, 1, 5),
}


def test_each_group_is_compared_with_the_largest_and_keeps_its_sign(tmp_path: Path) -> None:
    model = build_report(make_event_run(tmp_path, SITES, GROUPS)).federated
    gaps = {(gap.group, gap.metric): gap for gap in model.reference_gaps}
    assert {gap.reference for gap in model.reference_gaps} == {"male"}  # under 40 has too few patients to compare
    gap = gaps["female", "sensitivity"]
    assert gap.difference.value == pytest.approx(7 / 15 - 95 / 116)
    assert gap.difference.low is None
    assert gap.patients == 15
    assert gaps["female", "specificity"].difference.value == pytest.approx(30 / 31 - 60 / 69)


def test_the_interval_is_that_of_the_differences_of_resamples_worst_first(tmp_path: Path, monkeypatch) -> None:
    folder = make_event_run(tmp_path, SITES, GROUPS)
    model = build_report(folder).federated
    rng = np.random.default_rng(0)
    drawn = {
        (f"group sex={name}", POOLED): {"sensitivity": rng.normal(mean, 0.05, 900), "auroc": rng.normal(0.8, 0.3, 900)}
        for name, mean in (("female", 7 / 15), ("male", 95 / 116))
    }
    monkeypatch.setattr(reference_gaps, "load_resamples", lambda path: drawn)
    gaps = compare_with_reference(model, "auroc", True, folder)
    assert (gaps[0].metric, gaps[0].excludes_zero) == ("sensitivity", True)
    low, high = gaps[0].difference.low, gaps[0].difference.high
    middle, spread = 7 / 15 - 95 / 116, 1.96 * np.sqrt(2) * 0.05
    assert (low, high) == (pytest.approx(middle - spread, abs=0.04), pytest.approx(middle + spread, abs=0.04))
    assert not next(gap for gap in gaps if gap.metric == "auroc").excludes_zero
    assert describe_reference_gaps(gaps).startswith("2 differences were compared")
    assert "The intervals of 1 exclude 0" in describe_reference_gaps(gaps)


def test_differences_without_an_interval_are_folded(tmp_path: Path) -> None:
    text = render_html(build_report(make_event_run(tmp_path, SITES, GROUPS)))
    part = text.split('id="subgroups"')[1].split("</section>")[0]
    assert "whose interval includes 0 or is unknown</summary>" in part
    assert "whose interval excludes 0" not in part
    assert part.index("subgroups-title") < part.index("none has an interval") < part.index("<details")
