"""A run without all hospitals in all rounds says so wherever its results are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.config import parse_config
from common.errors import EngineError
from experiments.cli.run_progress import QuietPrinter
from experiments.report.build import build_report
from experiments.report.document.report import from_json
from experiments.report.pages.tables import render_csv, render_terminal_summary
from experiments.report.text.findings import describe_status
from experiments.report.write import write_report
from experiments.runs import run
from tests.experiments.conftest import Make
from tests.experiments.report.plain_page import remove_marks

MISSED = {"west": "missed 2 of 3 rounds: went offline in rounds 2 to 3", "va": "did not connect within 120 s"}
TEXT = (
    "PARTIAL, not all hospitals took part in all of it: west: missed 2 of 3 rounds: went offline in rounds 2 to 3; "
    "va: did not connect within 120 s"
)


def partial_run(make_run: Make) -> Path:
    folder = make_run()
    path = folder / "federated.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"partial": MISSED}))
    return folder


def test_the_first_screen_names_who_missed_what(make_run: Make) -> None:
    folder = partial_run(make_run)
    report = build_report(folder)
    assert [(item.level, item.text) for item in report.notices] == [("partial", TEXT)]
    assert report.partial == MISSED
    assert describe_status(report) == "Complete, but PARTIAL: 3 rounds"
    write_report(report, folder)
    page = (folder / "report.html").read_text()
    assert page.index(TEXT) < page.index('<dl class="facts">') < page.index("<section")
    assert "PARTIAL: not all hospitals took part in all of the run" in page
    assert f"> **{TEXT}**" in (folder / "summary.md").read_text()
    assert all(TEXT in line for line in render_csv(report).splitlines()[1:])
    assert from_json((folder / "report.json").read_text()) == report
    console = Console(width=200, record=True)
    console.print(render_terminal_summary(report))
    shown = " ".join(console.export_text().split())
    assert "PARTIAL" in shown
    assert "west: missed 2 of 3 rounds: went offline" in shown


def test_a_whole_run_does_not(make_run: Make) -> None:
    report = build_report(make_run())
    assert not report.has("partial")
    assert describe_status(report) == "Complete: 3 rounds"


def test_a_hospital_that_cannot_start_is_on_the_first_screen(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client import site as sites
    from common.errors import DataError

    original = sites.read_site

    def fails(context: Any, config: str) -> Any:
        if context.index == 1:
            raise DataError("the disk of this ward is gone")
        return original(context, config)

    monkeypatch.setattr("client.site.read_site", fails)
    wanted = {
        "name": "ward",
        "data": {"path": str(hospitals)},
        "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
        "federation": {"rounds": 1},
        "baselines": {"local": False, "pooled": False},
    }
    with pytest.raises(EngineError, match=r"the run cannot start: .*the disk of this ward is gone"):
        run.run_experiment(parse_config(wanted), tmp_path, QuietPrinter())
    (folder,) = tmp_path.iterdir()
    about = json.loads((folder / "run.json").read_text())
    assert about["status"] == "failed"
    assert list(about["partial"].values()) == ["the disk of this ward is gone"]
    page = (folder / "report.html").read_text()
    assert page.index("the disk of this ward is gone") < page.index('<dl class="facts">')
    assert not (folder / "model.safetensors").exists()


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_page_says_where_personal_models_are_not_tested(make_run: Make, everywhere: bool) -> None:
    folder = make_run()
    path = folder / "federated.json"
    outcome = json.loads(path.read_text())
    results = outcome["test"]["all"]
    named = sorted(results) if everywhere else sorted(results)[:1]
    for site in named:
        results[site]["notes"] = [
            "personal model: not answered, because this site's policy leaves no second model to be tested"
        ]
    path.write_text(json.dumps(outcome))
    rest = "they have no figures" if everywhere else "their figures are those of the other hospitals"
    report = build_report(folder)
    (notice,) = report.notices
    assert notice.text == (
        f"Personal models are not tested at {', '.join(named)}, whose policy leaves room for one tested model: {rest}."
    )
    write_report(report, folder)
    assert notice.text in remove_marks((folder / "report.html").read_text())
    assert notice.text in (folder / "summary.md").read_text()
