"""What the report says of privacy: the spending of each hospital, in every form, or nothing at all."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import DataError
from experiments.report.build import build_report
from experiments.report.document import report as model
from experiments.report.pages import tables
from tests.experiments.report.plain_page import render_plain

REPORTED = {"level": "patient", "unit": "person", "units": 40, "epsilon_run": 1.5, "epsilon": 4.25, "delta": 1e-5,
        "q": 0.1, "sigma": 2.5, "clip": 0.7, "steps": 30, "accountant": "prv", "private": True}  # fmt: skip


def spend(folder: Path, **changes: Any) -> Path:
    """Let each hospital of a run tell of its spending; north's grows from round to round."""
    path = folder / "rounds.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for site, item in line["sites"].items():
            more = {"epsilon_run": line["round"] * 0.5, "units": 123} if site == "north" else {}
            item["train"].pop("loss")
            item["train"]["privacy"] = {**REPORTED, **more, **changes}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def printed(report: model.Report) -> str:
    screen = Console(width=300, record=True, file=io.StringIO())
    screen.print(tables.render_terminal_summary(report))
    return screen.export_text()


def test_each_hospitals_spending_stands_in_every_form(make_run) -> None:
    report = build_report(spend(make_run()))
    result = {item.site: item for item in report.privacy}
    assert sorted(result) == ["north", "south", "west"]
    assert (result["north"].epsilon_run, result["north"].epsilon, result["north"].units) == (1.5, 4.25, 123)
    assert (result["north"].steps, result["west"].steps) == (90, 60)  # west was lost in round 2
    assert model.from_json(model.to_json(report)) == report
    page = render_plain(report)
    for text in ("123 people", "4.250", "1.500", "1e-05", "2.500", "PRV", "Two data sets are neighbours",
                 "one person more",
                 "The server receives each hospital"):  # fmt: skip
        assert text in page
    assert "heartbeat" not in page
    assert "an epsilon of at most 1.50 at delta 1e-05" in printed(report)
    assert "NOT PRIVATE" not in page + printed(report)


def test_a_record_level_run_says_that_it_is_no_promise_to_a_person(make_run) -> None:
    page = render_plain(build_report(spend(make_run(), level="record", unit="example", units=9000)))
    assert "9,000 examples" in page
    assert "It does not protect a person with many examples to the same degree" in page


def test_noise_that_can_be_repeated_is_marked_everywhere(make_run) -> None:
    report = build_report(spend(make_run(), private=False))
    page = render_plain(report)
    assert "NOT PRIVATE: the noise can be removed" in page
    assert page.count(">NOT PRIVATE</strong>") > 5
    assert '@top-center { content: "NOT PRIVATE"' in page
    assert "NOT PRIVATE" in printed(report)
    assert all("NOT PRIVATE: the noise" in line for line in tables.render_csv(report).splitlines()[1:])
    raw = json.loads(model.to_json(report))
    raw["notices"] = []
    with pytest.raises(DataError, match="not-private"):
        model.from_json(json.dumps(raw))


def test_a_run_without_privacy_says_nothing_of_it(make_run) -> None:
    report = build_report(make_run())
    assert report.privacy == ()
    assert 'id="privacy"' not in render_plain(report)
    assert "epsilon" not in printed(report).lower()


AUDIT = {"site": "north", "unit": "person", "canaries": 1500, "confidence": 0.99, "delta": 1e-5, "claimed": 4.25,
         "attack": 1.125, "measured": 3.875, "passed": True, "pairs": {}}  # fmt: skip


@pytest.mark.parametrize("passed", [True, False])
def test_an_audit_in_the_folder_is_shown(make_run: Any, passed: bool) -> None:
    folder = spend(make_run())
    assert "<h3>Audit</h3>" not in render_plain(build_report(folder))
    (folder / "audit.json").write_text(json.dumps({**AUDIT, "passed": passed}))
    report = build_report(folder)
    assert report.audit is not None
    page = render_plain(report)
    assert "<h3>Audit</h3>" in page
    assert all(text in page for text in ("4.250", "1.125", "3.875", "1,500 canaries", "99% confidence"))
    assert ("FAILED: this training" in page) is not passed
    (folder / "audit.json").write_text("{}")
    with pytest.raises(DataError):
        build_report(folder)
