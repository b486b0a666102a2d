"""Reporting checklists: answered from the run and the data card, and otherwise not reported."""

from __future__ import annotations

from pathlib import Path

from experiments.report.build import build_report
from experiments.report.document.report import Report
from experiments.report.document.run import Run
from experiments.report.pages.html import render_html
from experiments.report.pages.model_card import render_model_card
from experiments.report.text.checklists import DECIDE_AI, TRIPOD_AI, fill_checklist
from tests.experiments.report.test_decision import make_event_run

RARE = {"north": (2, 20, 1, 200), "south": (1, 9, 3, 100)}


def test_the_checklists_have_the_published_numbers() -> None:
    numbers = [item[0] for item in TRIPOD_AI]
    assert [int(number.rstrip("abcdef")) for number in numbers] == sorted(int(n.rstrip("abcdef")) for n in numbers)
    assert {int(number.rstrip("abcdef")) for number in numbers} == set(range(1, 28))
    assert [item[0] for item in DECIDE_AI] == [str(number) for number in range(1, 18)]


def test_items_are_answered_from_the_card_and_the_run(tmp_path: Path) -> None:
    card = {"labels": "death, from the records", "setting": "wards", "years": "2014", "licence": "CC0"}
    report = build_report(make_event_run(tmp_path, RARE, data=card))
    items = {item.number: item for item in fill_checklist(report, TRIPOD_AI)}
    assert items["8"].text == "death, from the records"
    assert items["6"].text == "wards; recorded 2014"
    assert "29 of 32 missed" in items["23a"].text
    assert items["17"].text == items["18a"].text == "not reported"
    text = render_html(report)
    assert "TRIPOD+AI: " in text
    assert "death, from the records" in text


def test_a_report_that_knows_nothing_reports_nothing() -> None:
    report = Report(run=Run(id="x", name="x", status="failed"))
    answered = [item.number for item in fill_checklist(report, TRIPOD_AI) if item.known]
    assert answered == ["2"]


def test_the_model_card_says_what_is_not_reported(tmp_path: Path) -> None:
    card = render_model_card(build_report(make_event_run(tmp_path, RARE)))
    assert "TRIPOD+AI" in card
    assert "ethical approval and consent" in card.lower()
