"""Regions are called regions in the program's own sentences, and others' words stay as they wrote them."""

from __future__ import annotations

import re
from pathlib import Path

from experiments.report.build import build_report
from experiments.report.pages.html import MARKUP, render_html
from experiments.report.pages.markdown import render_summary
from experiments.report.pages.model_card import render_model_card
from experiments.report.pages.site_words import name_sites
from tests.experiments.report.test_decision import make_event_run

SITES = {"north": (40, 4, 5, 200), "south": (30, 3, 6, 100)}
OTHERS = {"site_kind": "region", "sites": "the demo's 186 hospitals", "question": "Who dies in a hospital?"}


def test_regions_are_called_regions_but_for_what_others_wrote(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, SITES, data=OTHERS))
    page = render_html(report)
    text = re.sub(MARKUP, " ", page, flags=re.DOTALL)
    remaining = [match[0] for match in re.finditer(r".{0,30}[Hh]ospital.{0,20}", text)]
    assert all("186 hospitals" in item or "in a hospital?" in item for item in remaining), remaining
    assert "the demo&#39;s 186 hospitals" in page
    assert "Who dies in a hospital?" in page
    assert 'href="#hospital-1"' in page, "addresses are no text"
    assert "all regions" in text
    for card in (render_summary(report, {}), render_model_card(report)):
        assert "| region | patients" in card
        assert "| all regions |" in card


def test_hospitals_stay_hospitals_and_outcomes_keep_their_words(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, SITES))
    assert name_sites("All hospitals", report) == "All hospitals"
    report = build_report(make_event_run(tmp_path / "b", SITES, data=OTHERS))
    asked = "Hospitals: each hospital's patients who died in hospital <a href='#hospital-2'>the hospital</a>"
    titled = report.model_copy(update={"task": {**report.task, "class_titles": ["left hospital alive", "died"]}})
    assert name_sites("Left hospital alive: all hospitals", titled) == "Left hospital alive: all regions"
    named = "Regions: each region's patients who died in hospital <a href='#hospital-2'>the region</a>"
    assert name_sites(asked, report, markup=MARKUP) == named
