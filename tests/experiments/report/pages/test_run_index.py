"""The page that lists the runs of a folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from common.errors import DataError
from experiments.report.build import build_report
from experiments.report.pages.run_index import build_index_row, find_runs, render_run_index, write_run_index
from experiments.report.write import write_report
from tests.experiments.report.test_decision import make_event_run

RARE = {"north": (2, 20, 1, 200), "south": (1, 9, 3, 100)}


def make_runs(root: Path) -> Path:
    for name, sites in (("one", RARE), ("two", {"north": (20, 2, 1, 200)})):
        folder = make_event_run(root / name, sites, data={"question": f"Who of {name}?"})
        write_report(build_report(folder), folder)
    return root


def test_each_run_has_a_row_with_its_question_and_figures(tmp_path: Path) -> None:
    root = make_runs(tmp_path)
    page, problems = render_run_index(root)
    assert problems == []
    for run in find_runs(root):
        row = build_index_row(run, root)
        area = row.report.federated.pooled.auroc.value
        assert f'<a href="{run.name}/report.html">{run.name}</a>' in page
        assert f"Who of {run.name}?" in page
        assert f"{area:.3f}" in page
    assert 'class="lost">Misses most: 29 of 32 missed' in page
    assert not re.search(r"https?://", page)


def test_a_damaged_report_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    root = make_runs(tmp_path)
    (root / "two" / "report.json").write_text("{", encoding="utf-8")
    path, [problem] = write_run_index(root)
    assert path == root / "runs.html"
    assert "two/report.json" in problem
    assert "Not listed: " in path.read_text(encoding="utf-8")


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=r"^reports: "):
            find_runs(folder)


@pytest.mark.slow
def test_runs_of_a_series_are_found_and_linked(tmp_path: Path) -> None:
    root = make_runs(tmp_path / "runs")
    (root / "series").mkdir()
    shutil.move(root / "two", root / "series" / "two words")
    page, _ = render_run_index(root)
    assert 'href="series/two%20words/report.html"' in page


@pytest.mark.browser
@pytest.mark.slow
def test_two_chosen_runs_stand_side_by_side(tmp_path: Path, browser) -> None:
    path, _ = write_run_index(make_runs(tmp_path))
    browser.get(path.as_uri())
    boxes = browser.find_elements("css selector", "input.chosen")
    for box in boxes:
        box.send_keys(" ")
    table = browser.find_element("css selector", ".pair-table")
    assert table.is_displayed()
    heads = [head.text for head in table.find_elements("css selector", "thead th")]
    assert heads == ["What", *(box.get_attribute("data-run") for box in boxes)]
    text = table.text
    assert "Misses most: 29 of 32 missed" in text
    assert "2 of 22 missed" in text
    head = browser.find_element("xpath", "//table[contains(@class, 'runs')]//th[contains(., 'Value')]/span")
    head.send_keys(" ")
    values = [
        float(cell.get_attribute("data-value"))
        for cell in browser.find_elements("css selector", "table.runs tbody td.figure")
    ]
    assert values == sorted(values)
    assert browser.get_log("browser") == []
