"""Table 1 on the report's page: counts of few people are not shown, whatever the run's files hold."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.report.build import build_report
from experiments.report.pages.html import render_html
from experiments.report.text.table_one import build_characteristics, build_flow, explain_table, list_hospitals

Make = Callable[..., Path]


def describe(folder: Path, sites: dict[str, Any], floor: int = 1, **training: Any) -> Any:
    """Return the report of a run whose hospitals described their inputs."""
    outcome = json.loads((folder / "federated.json").read_text())
    outcome["shift"] = {"pairs": [], "lost": {}, "shares": {}, "columns": 2, "sites": sites}
    for site in outcome["sites"].values():
        site["min_cell_patients"] = floor
        site["counts"]["train"] |= training
    (folder / "federated.json").write_text(json.dumps(outcome))
    return build_report(folder)


LAB = {"name": "lab <mg>", "measured": 90, "missing": 30, "missing_share": 0.25, "mean": 5.1, "deviation": 2.2,
       "quartiles": [3.5, 5.0, 7.25]}  # fmt: skip
SMOKER = {"name": "smoker", "measured": 120, "missing": 0, "missing_share": 0.0, "yes_no": True, "yes": 40,
          "yes_share": 0.33}  # fmt: skip
SITES = {
    "north": {"patients": 120, "examples": 120, "columns": [LAB, SMOKER]},
    "south": {
        "patients": 30,
        "examples": 30,
        "columns": [
            {"name": "lab <mg>", "mean": 4.0, "deviation": 1.0, "measured": 25, "missing": None, "missing_share": None},
            {"name": "smoker", "yes_no": True},
        ],
    },
}


def test_rows_of_the_table(make_run: Make) -> None:
    counts = {"patients": 120, "examples": 120, "classes": [90, 27, 3]}
    report = describe(make_run(), SITES, **counts)
    (hospitals,) = list_hospitals(report)
    assert [site.name for site in hospitals] == ["north", "south", "west"]
    rows = {row.name: row.cells for row in build_characteristics(report, hospitals)}
    assert rows["normal"] == ("90 (75%)",) * 3
    assert rows["fusion"] == ("<5",) * 3
    assert rows["lab <mg>"] == ("5 (3.5 to 7.25)", "mean 4 (standard deviation 1)", "–")
    assert rows["lab <mg>, missing"] == ("30 (25%)", "few (<5), or all but few", "–")
    assert rows["smoker"] == ("40 (33%)", "few (<5), or all but few", "–")
    assert "smoker, missing" not in rows
    flow = {row.name: row.cells for row in build_flow(report, hospitals)}
    assert flow["excluded: beats of class Q"] == ("8",) * 3
    assert flow["patients trained on"] == ("120",) * 3
    assert flow["patients tested on"] == ("6", "3", "5")
    page = render_html(report)
    section = page[page.index('id="table_one"') :]
    section = section[: section.index("</section>")]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", section)]
    at = cells.index("lab &lt;mg&gt;")
    assert cells[at + 1 : at + 3] == ["5 (3.5 to 7.25)", "mean 4 (standard deviation 1)"]
    assert explain_table(report) in html.unescape(section)
    assert json.loads(report.model_dump_json())["shift"]["sites"]["north"]["columns"][0]["quartiles"] == [3.5, 5, 7.25]


def test_an_input_of_which_no_hospital_states_anything_has_no_row(make_run: Make) -> None:
    few = {"patients": 8, "examples": 90, "columns": [{"name": "lab <mg>", "measured": None, "missing": None}]}
    report = describe(make_run(), {"north": few})
    (hospitals,) = list_hospitals(report)
    assert "lab <mg>" not in {row.name for row in build_characteristics(report, hospitals)}
    assert "Nothing is stated of fewer than 20 people" in explain_table(report)


def test_a_class_that_a_hospital_states_as_its_floor_may_be_smaller(make_run: Make) -> None:
    report = describe(make_run(), {}, 10, patients=120, examples=120, classes=[99, 11, 10])
    rows = {row.name: row.cells[0] for row in build_characteristics(report, report.sites)}
    assert (rows["ventricular"], rows["fusion"]) == ("11 (9.2%)", "<11")


def test_exclusions_of_few_and_splits_of_few_are_hidden(make_run: Make) -> None:
    folder = make_run()
    outcome = json.loads((folder / "federated.json").read_text())
    for site in outcome["sites"].values():
        site["excluded"], site["min_cell_patients"] = {"no outcome": 3}, 6
        site["counts"]["validation"] = {"patients": 0, "examples": 0, "classes": [None] * 3, "suppressed": 6}
    (folder / "federated.json").write_text(json.dumps(outcome))
    report = build_report(folder)
    flow = {row.name: row.cells[0] for row in build_flow(report, report.sites)}
    assert flow["excluded: no outcome"] == "<6"
    assert flow["patients who chose round and threshold"] == "<6"


def test_a_run_without_descriptions_says_how_to_get_them(make_run: Make) -> None:
    report = build_report(make_run())
    assert "evaluation.domain_shift=true" in explain_table(report)
    assert 'id="table_one"' in render_html(report)


def test_many_hospitals_stand_in_several_tables(twenty: Path) -> None:
    assert [len(part) for part in list_hospitals(build_report(twenty))] == [6, 6, 6, 2]
